#!/usr/bin/env python
"""Look inside a model, on images of your own: what it reconstructs, what it attends to, what its features are.

Writes a PNG per image and gallery.html, one file with all of them, into a folder. Images are scaled to the short side that
the config's validation has, and cropped to whole patches.
"""
import argparse
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rich.progress import track  # noqa: E402

from coma_mm import visualization  # noqa: E402
from coma_mm.config.read import read_config  # noqa: E402
from coma_mm.config_tree import find_types  # noqa: E402
from coma_mm.datasets.masking import PatchMask  # noqa: E402
from coma_mm.datasets.seeding import seeded_generators  # noqa: E402
from coma_mm.engine import cli  # noqa: E402
from coma_mm.errors import UserError  # noqa: E402
from coma_mm.models import MaskedAutoencoder  # noqa: E402
from coma_mm.weights.load import load_backbone  # noqa: E402


def point(text):
    """tuple[float, float]: X,Y as fractions."""
    try:
        x, y = map(float, text.split(','))
    except ValueError:
        x = math.nan
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise argparse.ArgumentTypeError(f'{text!r}: expected X,Y, both from 0 (left, top) to 1, as 0.5,0.25')
    return x, y


def ratio(text):
    """float: A share of masked patches."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a share of masked patches between 0 and 1, as 0.6')
    return value


def size(text):
    """int: A number of px."""
    if not text.isdecimal() or not 0 < int(text) <= 4096:
        raise argparse.ArgumentTypeError(f'{text!r}: expected a number of px from 1 to 4096')
    return int(text)


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    for name, function, text in (
            ('reconstruct', reconstruct, 'reconstructions of a pre-trained model at several masking ratios'),
            ('windows', windows, 'which keys a query attends to in each DM-MSA window'),
            ('attention', attention, 'plain attention of the later stages, and the features of all stages by PCA')):
        command = commands.add_parser(name, help=text, description=f'{text[0].upper()}{text[1:]}.')
        command.add_argument('config', metavar='CONFIG')
        command.add_argument('checkpoint', metavar='CHECKPOINT', help='of pre-training' + (
            '' if name == 'reconstruct' else ' or fine-tuning, or an exported backbone: the backbone is read'))
        command.add_argument('images', metavar='IMAGE', nargs='+', help='files, or folders of them')
        command.add_argument('--size', type=size, metavar='PX', help="short side (default: the config's)")
        command.add_argument('--out', metavar='DIR', help=f'default: work_dirs/CONFIG_NAME/{name}')
        if name == 'reconstruct':
            command.add_argument('--ratios', type=ratio, nargs='+', default=[.4, .6, .75, .9], metavar='SHARE',
                                 help='of patches masked (default: 0.4 0.6 0.75 0.9)')
            command.add_argument('--without-statistics', action='store_true',
                                 help='with norm_pix: give predicted patches the average mean and variance of the visible '
                                 'ones, instead of their own')
            command.add_argument('--seed', type=int, default=0, help='of the masks (default: %(default)s)')
        else:
            command.add_argument('--at', type=point, nargs='+', metavar='X,Y', default=[(.3, .3), (.5, .5), (.7, .7)],
                                 help='queries, as fractions of width and height (default: 0.3,0.3 0.5,0.5 0.7,0.7)')
            command.add_argument('--per-head', action='store_true', help='a picture per query with a row per head')
        cli.add_trust_argument(command)
        command.set_defaults(run=function)
    return parser.parse_args()


def main():
    """Draw."""
    args = parse_args()
    cfg = read_config(args.config)
    args.run(args, cfg)


def read_images(args, cfg, multiple):
    """list[tuple]: Path and image, uint8 BGR, of all images; read before any is drawn, so that a bad one stops it early."""
    paths = visualization.find_images(args.images)
    short = args.size or visualization.image_size(cfg)
    return [(path, visualization.read_fitted(path, short, multiple)) for path in track(paths, 'Reading')]


def reconstruct(args, cfg):
    """Draw reconstructions."""
    if args.seed < 0:
        raise UserError(f'--seed {args.seed}: expected 0 or more')
    step = next(find_types(cfg.get('val_dataloader') or cfg.get('train_dataloader'), 'PatchMask'), None)
    if step is None:
        raise UserError(f'{args.config} is no config of masked pre-training: there is no PatchMask in its pipelines; '
                        'windows and attention work with it')
    model = visualization.load_model(cfg, args.checkpoint)
    if not isinstance(model, MaskedAutoencoder):
        raise UserError(f'{args.config}: the model is a {type(model).__name__}; expected CoMA or MaskedAutoencoder')
    draw = {}
    for share in sorted(set(args.ratios)):
        sampler = dict(step.get('sampler') or dict(type='UniformMaskSampler'), ratio=share)
        draw[share] = PatchMask(sampler, step.get('patch_size', 32), step.get('unit'))
    images = read_images(args, cfg, next(iter(draw.values())).unit)
    own = not args.without_statistics
    caption = visualization.reconstruction_caption(model, own)
    figures = []
    for index, (path, image) in enumerate(track(images, 'Drawing')):
        masks = {}
        for share, transform in draw.items():
            with seeded_generators(args.seed, 0, index):  # the same for all ratios
                drawn = transform.transform(dict(img=image))
            masks[share] = tuple(torch.from_numpy(drawn[key]) for key in ('ids_keep', 'ids_rest'))
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        fig = visualization.ratios_figure(model, inputs, masks, own)
        figures.append((path, [('', fig, 'Rows of pictures, one per masking ratio: what each branch saw and '
                                'reconstructed, and where it erred', '')]))
    write(args, 'Reconstructions', caption + ' The error is the difference to the input in grey levels of 0 to 255, mean '
          'of the channels; one colour scale per image.', figures)


def windows(args, cfg):
    """Draw DM-MSA's windows."""
    look(args, cfg, 'What DM-MSA attends to', windows=True)


def attention(args, cfg):
    """Draw plain attention, and features."""
    look(args, cfg, 'Attention and features', windows=False)


def look(args, cfg, title, windows):
    """Draw attention over images; without `windows` also the features of all stages."""
    model = visualization.build_model(cfg)
    facts = load_backbone(model.backbone, args.checkpoint)
    figures, caption = [], visualization.attention_caption(windows, args.per_head)
    for path, image in track(read_images(args, cfg, visualization.patch_size(model.backbone)), 'Drawing'):
        inputs = visualization.prepare(model, image)
        picture = image[..., ::-1]
        maps = visualization.attention_maps(model.backbone, inputs, args.at, windows)
        drawn = []
        for number, fig in enumerate(visualization.attention_figure(picture, maps, args.per_head), 1):
            name = f'query{number}' if args.per_head else ''
            drawn.append((name, fig, 'Maps of attention over the image, by ' + (
                'head' if args.per_head else 'query') + ' and stage', ''))
        if not windows:
            fig = visualization.features_figure(picture, visualization.feature_maps(model.backbone, inputs))
            drawn.append(('features', fig, 'The image, and its features of every stage as colours',
                          visualization.FEATURES_CAPTION))
        figures.append((path, drawn))
    write(args, title, caption, figures, facts)


def write(args, title, caption, figures, facts=None):
    """Write the pictures and the gallery.

    Args:
        args (Namespace): The command line.
        title (str): The gallery's heading.
        caption (str): What a reader must know.
        figures (list[tuple]): Path of an image, and a list of (part of the file name, figure, alt text, caption).
        facts (dict, optional): On the weights.
    """
    out = Path(args.out or f'work_dirs/{Path(args.config).stem}/{args.command}')
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for number, (path, drawn) in enumerate(figures, 1):
        pictures = []
        for name, fig, alt, own in drawn:
            file = out / '_'.join(filter(None, [f'{number:03d}', Path(path).stem, name]))
            file = file.with_name(file.name + '.png')
            fig.savefig(file, dpi=130, facecolor='white')
            text = f'{Path(path).name}{", " + name if name else ""}. {own or caption}'
            pictures.append(visualization.Picture(file, text, f'{Path(path).name}: {alt}', 700))
        sections.append(visualization.Section(Path(path).name, pictures=pictures))
    weights = dict(Config=args.config, Checkpoint=args.checkpoint)
    weights.update({name: str(value) for name, value in (facts or {}).items() if isinstance(value, (str, int, float))})
    sections.append(visualization.Section('Weights', facts=weights))
    visualization.write_report(out / 'gallery.html', title, '', sections)
    print(f'{sum(len(drawn) for _, drawn in figures)} pictures and gallery.html in {out}')


if __name__ == '__main__':
    cli.main(main)
