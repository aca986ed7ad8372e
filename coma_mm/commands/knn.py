"""k-nearest-neighbour accuracy of a backbone's frozen features, on the data of a classifier's config.

Both splits go through the test pipeline, without augmentation; each of the k most similar train images votes with weight
exp(cosine / temperature), as in DINO. Nothing is trained.
"""
import argparse

from coma_mm.ranges import above, whole

from .arguments import add_probe_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_probe_arguments(parser)
    parser.add_argument('--k', nargs='+', type=whole(1), default=[10, 20, 100, 200],
                        help='neighbours (default: 10 20 100 200)')
    parser.add_argument('--temperature', type=above(0), default=0.07, help='temperature of the votes (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    """Evaluate."""
    from coma_mm.config.read import parse_options
    from coma_mm.evaluation import knn_accuracy, probe
    from coma_mm.files import write_metrics
    probed = probe(args.config, args.checkpoint, parse_options(args.cfg_options), args.data_root, args.amp)
    found = knn_accuracy(probed.train, probed.test, probed.num_classes, args.k, args.temperature)
    print(probed)
    for k, metrics in found.items():
        print(f'k={k:<6} top-1 {metrics["top1"]:6.2f} %   top-5 {metrics["top5"]:6.2f} %')
    if args.out:
        write_metrics(dict(probed.summary(), temperature=args.temperature, k=found), args.out)
