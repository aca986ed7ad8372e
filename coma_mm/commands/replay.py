"""Run a training step again whose loss or gradient was not finite.

The first such step of a run leaves a file in its work dir, replay_iter_N_rank_R.pt, with the batch, the seeds, the weights
from before it and the config. The exit code is 0 if the step comes out the same to the last bit, and 1 if it does not, for
instance on another device.
"""
import argparse
import sys

from coma_mm.errors import printable

from .arguments import add_trust_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('file', metavar='FILE', help='replay_iter_N_rank_R.pt')
    parser.add_argument('--device', default='cpu', help='where to compute, e.g. cuda (default: %(default)s)')
    add_trust_argument(parser)


def run(args: argparse.Namespace) -> None:
    """Run the step again, and say what comes of it."""
    from coma_mm.engine.replay import replay
    step = replay(args.file, args.device)
    facts, spoilt = step.facts, [*map(printable, step.spoilt)]
    images = [*map(printable, facts['images'])]
    of = printable(facts['config_file']) or 'a run'
    print(f'iteration {facts["iterations"][-1] + 1} of {of}, process {facts["rank"] + 1} of '
          f'{facts["world_size"]}, seed {facts["seed"]}; images: {", ".join(images[:3]) or "not named"}'
          + (f' and {len(images) - 3} more' if len(images) > 3 else ''))
    print(f'loss in the run: {step.losses.tolist()}; again: {step.again.tolist()}')
    print(f'first output that is not finite: {step.first or "none; look at the loss and at the way back"}')
    print(f'gradients that are not finite: {len(spoilt)} parameters' + (f', the first is {spoilt[0]}' if spoilt else ''))
    print('the same to the last bit' if step.same else 'not the same to the last bit')
    sys.exit(not step.same)
