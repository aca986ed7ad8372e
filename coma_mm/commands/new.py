"""Write a config of your own from your data, to standard output or a file (docs/your_data.md).

The config inherits one of ours and runs as it is: coma-mm train FILE. What was found in the data, and what was chosen by
it, is said on standard error.
"""
import argparse
import os
import shlex
import sys
from contextlib import redirect_stdout

from coma_mm.errors import UserError, printable
from coma_mm.ranges import above, whole

from .arguments import out_file

DATA = dict(
    pretrain=('pre-train on a folder of images', dict(
        images='folder of images, flat or nested, without labels')),
    classification=('classes of whole images, from folders of classes', dict(
        data='folder with a folder for each class, or with train and val that have these')),
    segmentation=('a class for each pixel, from masks in PNG files: UperNet', dict(
        images='folder of the images', masks='folder of the masks, with the names of the images',
        classes='text file with the name of a class in each line, in the order of their values',
        ignore='values of the masks that are no class, for instance 255', palette='text file with a line R G B for each '
        'class, for drawings')),
    detection=('boxes, and masks where there are some, from COCO files: Mask R-CNN', dict(
        images='folder of the images', train='COCO file of the annotations', val='COCO file of the annotations for '
        'validation (default: a tenth of the images of --train)')))
"""What each task is, and its options."""
FILES = {'classes', 'palette', 'train', 'val'}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    tasks = parser.add_subparsers(dest='task', required=True, metavar='TASK')
    for task, (about, options) in DATA.items():
        one = tasks.add_parser(task, help=about, description=f'Write a config: {about}.')
        for name, text in options.items():
            more = dict(type=whole(0, 255), nargs='+') if name == 'ignore' else {}
            one.add_argument(f'--{name}', metavar='N' if more else 'FILE' if name in FILES else 'DIR', help=text, **more)
        one.add_argument('--arch', help='DyViT: tiny, for a CPU, small or base (default: that of --pretrained, or small)')
        one.add_argument('--size', type=whole(1), metavar='PX', help='images that are trained on (default: by the data)')
        one.add_argument('--epochs', type=whole(1), metavar='N', help='length of the run (default: by the data)')
        one.add_argument('--hours', type=above(0), metavar='H', help='shorten the run to this time on this machine')
        one.add_argument('--gpus', type=whole(1), default=1, metavar='N', help='default: %(default)s')
        one.add_argument('--pretrained', metavar='FILE', help='checkpoint to start from (default: from scratch)')
        one.add_argument('--no-measure', action='store_true', help='do not measure how long it will take')
        one.add_argument('--out', type=out_file, metavar='FILE.py', help='file to write, never over another one')


def run(args: argparse.Namespace) -> None:
    """Write."""
    if args.out:
        if not args.out.endswith('.py'):
            raise UserError(f'--out {args.out}: expected a name that ends with .py')
        if os.path.lexists(args.out):
            raise UserError(f'--out {args.out} is there already, and is left as it is; choose another name, or remove it')
    from coma_mm.engine.summary import tool
    from coma_mm.inference import stated_settings
    from coma_mm.prepare.new import new_config
    from coma_mm.weights.released import released
    if args.pretrained:
        args.pretrained = released(args.pretrained)
    own = stated_settings(args.pretrained) if args.pretrained and os.path.isfile(args.pretrained) else {}
    common = {name: getattr(args, name) for name in ('arch', 'size', 'epochs', 'gpus', 'hours', 'pretrained')}
    with redirect_stdout(sys.stderr):  # the config alone goes to standard output
        text, summary = new_config(args.task, **common, backbone=own or None, measure=not args.no_measure,
                                   **{name: getattr(args, name) for name in DATA[args.task][1]})
    if args.out:
        os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
        with open(args.out, 'x', encoding='utf-8', errors='surrogateescape') as file:
            file.write(text)
        summary += f' Wrote {args.out}; {tool("train")} {shlex.quote(args.out)} runs it.'
    else:
        print(text, end='')
    sys.stdout.flush()
    print(printable(summary), file=sys.stderr)
