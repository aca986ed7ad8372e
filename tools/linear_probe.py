#!/usr/bin/env python
"""Accuracy of a linear classifier on a backbone's frozen features, on the data of a classifier's config.

A quick look: both splits go through the test pipeline, without augmentation, so that the features are computed once. The
linear probing of papers augments the images at every epoch; for it train a configs/classification/*linear*.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli  # noqa: E402
from coma_mm.evaluation import linear_probe  # noqa: E402
from coma_mm.evaluation.features import probe  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_probe_arguments(parser)
    parser.add_argument('--solver', choices=['lbfgs', 'sgd'], default='lbfgs',
                        help='L-BFGS over all features with an L2 penalty, or SGD without one (default: %(default)s)')
    parser.add_argument('--l2', type=float, help="lbfgs: the penalty (default: the best of 1 to 1e-6 on a tenth of the "
                                                 'train images)')
    parser.add_argument('--epochs', type=int, default=100, help='sgd: passes over the features (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=0.01, help='sgd: first learning rate (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0,
                        help='of the tenth (lbfgs) or of the order of the images (sgd); default: %(default)s')
    return parser.parse_args()


def main():
    """Evaluate."""
    args = parse_args()
    probed = probe(args)
    linear_probe.standardise(probed.train, probed.test)
    if args.solver == 'sgd':
        how = dict(epochs=args.epochs, lr=args.lr)
        head = linear_probe.fit_sgd(probed.train, probed.num_classes, args.epochs, args.lr, seed=args.seed)
    else:
        how = dict(l2=args.l2)
        if args.l2 is None:
            how['l2'], how['held_out_top1'] = linear_probe.choose_l2(probed.train, probed.num_classes, seed=args.seed)
        head = linear_probe.fit_lbfgs(probed.train, probed.num_classes, how['l2'])
        how['gradient'] = linear_probe.gradient(head, probed.train, how['l2'])
    metrics = {split: linear_probe.linear_accuracy(head, getattr(probed, split)) for split in ('train', 'test')}
    print(probed)
    print(f'{args.solver}:', ', '.join(f'{key} {value:g}' for key, value in how.items() if not isinstance(value, dict)))
    for split, found in metrics.items():
        print(f'{split:<6} top-1 {found["top1"]:6.2f} %   top-5 {found["top5"]:6.2f} %')
    if args.out:
        cli.write_metrics(dict(probed.summary(), solver=args.solver, seed=args.seed, **how, **metrics), args.out)


if __name__ == '__main__':
    cli.main(main)
