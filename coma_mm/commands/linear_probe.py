"""How good a backbone's frozen features are for a linear classifier, on the data of any config with labels.

With the config of a classifier, it is the accuracy for images; with one of a detector, that for the objects in their
annotated boxes. Both are a quick look: both splits go through the test pipeline, without augmentation, so that the features
are computed once. (The linear probing of papers augments the images at every epoch; for it train a
configs/classification/*linear*.) With the config of a segmenter, a 1×1 convolution on the frozen backbone is trained as the
config trains, with its data and augmentation, and tested as it tests: mIoU.
"""
import argparse

from coma_mm.errors import UserError
from coma_mm.ranges import SEED, above, number, whole

from .arguments import add_probe_arguments, show_accuracies

OPTIONS = {
    'the config of a segmenter': ('stages', 'work_dir', 'resume', 'overwrite', 'epochs', 'lr'),
    '--solver lbfgs': ('solver', 'l2'),
    '--solver sgd': ('solver', 'epochs', 'lr'),
}
"""Which options change something, by what is fitted."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_probe_arguments(parser)
    parser.add_argument('--solver', choices=['lbfgs', 'sgd'],
                        help='L-BFGS over all features with an L2 penalty, or SGD without one (default: lbfgs)')
    parser.add_argument('--l2', type=number(0), help="lbfgs: the penalty (default: the best of 1 to 1e-6 on a tenth of the "
                                                 'train images)')
    parser.add_argument('--epochs', type=whole(1), help='sgd: passes over the features (default: 100); segmentation: the '
                        "training's length (default: the config's)")
    parser.add_argument('--lr', type=above(0), help='first learning rate (default: 0.01 of sgd, 0.001 of segmentation)')
    parser.add_argument('--seed', type=SEED, default=0,
                        help='seed of the tenth (lbfgs), of the order of the images (sgd), or of the training '
                        '(segmentation); default: %(default)s')
    dense = parser.add_argument_group('segmentation')
    dense.add_argument('--stages', type=whole(0), nargs='+', help="the backbone's outputs to read, from 0 (default: all)")
    dense.add_argument('--work-dir', help='folder of the training (default: work_dirs/CONFIG_NAME_linear-probe)')
    dense.add_argument('--resume', action='store_true', help='go on with what is there')
    dense.add_argument('--overwrite', action='store_true', help='start anew where another run has left checkpoints')


def check_options(args: argparse.Namespace, what: str) -> None:
    """Refuse an option that would change nothing.

    Args:
        args (Namespace): The options.
        what (str): One of `OPTIONS`.

    Raises:
        UserError: Naming the option, and what it is for.
    """
    for name in dict.fromkeys(sum(OPTIONS.values(), ())):
        value = getattr(args, name)
        if value is not None and value is not False and name not in OPTIONS[what]:
            where = ' and '.join(one for one, names in OPTIONS.items() if name in names)
            raise UserError(f'--{name.replace("_", "-")} is for {where}, and this is {what}; leave it out')


def run(args: argparse.Namespace) -> None:
    """Evaluate."""
    from coma_mm.config.read import parse_options, read_config
    from coma_mm.evaluation import fit_linear_probe, linear_segmentation, probe
    from coma_mm.evaluation.dense_probe import LR, is_segmenter
    from coma_mm.evaluation.linear_probe import check_count
    from coma_mm.files import write_metrics

    options = parse_options(args.cfg_options)
    if is_segmenter(read_config(args.config, options, data_root=args.data_root)):
        check_options(args, 'the config of a segmenter')
        linear_segmentation(args.config, args.checkpoint, options, data_root=args.data_root, work_dir=args.work_dir,
                            amp=args.amp, stages=args.stages, epochs=args.epochs, lr=args.lr or LR, seed=args.seed,
                            resume=args.resume, overwrite=args.overwrite, out=args.out)
        return
    solver = args.solver or 'lbfgs'
    check_options(args, f'--solver {solver}')

    def check(train, test):
        if solver == 'lbfgs' and args.l2 is None:
            check_count(len(train))

    probed = probe(args.config, args.checkpoint, options, args.data_root, args.amp, check)
    metrics, how = fit_linear_probe(probed, solver, args.l2, args.epochs or 100, args.lr or 0.01, args.seed)
    print(probed)
    print(f'{solver}:', ', '.join(f'{key} {value:g}' for key, value in how.items() if not isinstance(value, dict)))
    for split, found in metrics.items():
        print(f'{split:<6} {show_accuracies(found)}')
    if args.out:
        write_metrics(dict(probed.summary(), solver=solver, seed=args.seed, **how, **metrics), args.out)
