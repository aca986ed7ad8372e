#!/usr/bin/env python
"""k-nearest-neighbour accuracy of a backbone's frozen features, on the data of a classifier's config.

Both splits go through the test pipeline, without augmentation; each of the k most similar train images votes with weight
exp(cosine / temperature), as in DINO. Nothing is trained.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli  # noqa: E402
from coma_mm.evaluation.features import probe  # noqa: E402
from coma_mm.evaluation.knn import knn_accuracy  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    cli.add_probe_arguments(parser)
    parser.add_argument('--k', nargs='+', type=int, default=[10, 20, 100, 200], help='neighbours (default: 10 20 100 200)')
    parser.add_argument('--temperature', type=float, default=0.07, help='of the votes (default: %(default)s)')
    return parser.parse_args()


def main():
    """Evaluate."""
    args = parse_args()
    probed = probe(args)
    found = knn_accuracy(probed.train, probed.test, probed.num_classes, args.k, args.temperature)
    print(probed)
    for k, metrics in found.items():
        print(f'k={k:<6} top-1 {metrics["top1"]:6.2f} %   top-5 {metrics["top5"]:6.2f} %')
    if args.out:
        cli.write_metrics(dict(probed.summary(), temperature=args.temperature, k=found), args.out)


if __name__ == '__main__':
    cli.main(main)
