"""Accuracy of a linear classifier on a backbone's frozen features, on the data of a classifier's config.

A quick look: both splits go through the test pipeline, without augmentation, so that the features are computed once. The
linear probing of papers augments the images at every epoch; for it train a configs/classification/*linear*.
"""
import argparse

from coma_mm.ranges import SEED, above, number, whole

from .arguments import add_probe_arguments, show_accuracies


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_probe_arguments(parser)
    parser.add_argument('--solver', choices=['lbfgs', 'sgd'], default='lbfgs',
                        help='L-BFGS over all features with an L2 penalty, or SGD without one (default: %(default)s)')
    parser.add_argument('--l2', type=number(0), help="lbfgs: the penalty (default: the best of 1 to 1e-6 on a tenth of the "
                                                 'train images)')
    parser.add_argument('--epochs', type=whole(1), default=100, help='sgd: passes over the features (default: %(default)s)')
    parser.add_argument('--lr', type=above(0), default=0.01, help='sgd: first learning rate (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=0,
                        help='seed of the tenth (lbfgs), or of the order of the images (sgd); default: %(default)s')


def run(args: argparse.Namespace) -> None:
    """Evaluate."""
    from coma_mm.config.read import parse_options
    from coma_mm.evaluation import fit_linear_probe, probe
    from coma_mm.evaluation.linear_probe import check_count
    from coma_mm.files import write_metrics

    def check(train, test):
        if args.solver == 'lbfgs' and args.l2 is None:
            check_count(len(train))

    probed = probe(args.config, args.checkpoint, parse_options(args.cfg_options), args.data_root, args.amp, check)
    metrics, how = fit_linear_probe(probed, args.solver, args.l2, args.epochs, args.lr, args.seed)
    print(probed)
    print(f'{args.solver}:', ', '.join(f'{key} {value:g}' for key, value in how.items() if not isinstance(value, dict)))
    for split, found in metrics.items():
        print(f'{split:<6} {show_accuracies(found)}')
    if args.out:
        write_metrics(dict(probed.summary(), solver=args.solver, seed=args.seed, **how, **metrics), args.out)
