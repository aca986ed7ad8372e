"""k-nearest-neighbour accuracy of a backbone's frozen features, on the data of a classifier's or a detector's config.

Both splits go through the test pipeline, without augmentation; each of the k most similar train images votes with weight
exp(cosine / temperature), as in DINO. Nothing is trained. Of a detector's data the objects in their annotated boxes are
compared.
"""
import argparse

from coma_mm.ranges import above, whole

from .arguments import add_probe_arguments, show_accuracies


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_probe_arguments(parser)
    parser.add_argument('--k', nargs='+', type=whole(1),
                        help='neighbours (default: 10 20 100 200, as far as there are train images)')
    parser.add_argument('--temperature', type=above(0), default=0.07, help='temperature of the votes (default: %(default)s)')


def run(args: argparse.Namespace) -> None:
    """Evaluate."""
    from coma_mm.config.read import parse_options
    from coma_mm.evaluation import knn_accuracy, probe
    from coma_mm.evaluation.knn import check_settings, usual_ks
    from coma_mm.files import write_metrics

    def check(train, test):
        args.k = args.k or usual_ks(len(train))
        check_settings(args.k, args.temperature, len(train))

    probed = probe(args.config, args.checkpoint, parse_options(args.cfg_options), args.data_root, args.amp, check)
    found = knn_accuracy(probed.train, probed.test, probed.num_classes, args.k, args.temperature)
    print(probed)
    for k, metrics in found.items():
        print(f'k={k:<6} {show_accuracies(metrics)}')
    if args.out:
        write_metrics(dict(probed.summary(), temperature=args.temperature, k=found), args.out)
