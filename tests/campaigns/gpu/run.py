#!/usr/bin/env python
"""The acceptance test on a GPU: what must hold, what is fast, and how both compare with the goals, in nine minutes.

Each part runs in a process of its own with a limit of its own, and all that was found is written after every part, so that
a crash or the end of the time loses nothing else. Parts come in the order of their value; those for which no time is left
are left out and named. OUT/results.json has everything, OUT/summary.md what it says.
"""
import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))

import torch  # noqa: E402

import coma_mm  # noqa: E402
from coma_mm.commands import exit_with  # noqa: E402
from coma_mm.errors import UserError, choice  # noqa: E402
from coma_mm.files import check_writable, write_whole  # noqa: E402
from coma_mm.ranges import above  # noqa: E402
from tests.campaigns.gpu.parts import PARTS  # noqa: E402
from tests.campaigns.gpu.runner import Campaign, Part  # noqa: E402
from tests.campaigns.gpu.scale import Scale, scale  # noqa: E402
from tests.campaigns.gpu.summary import summary  # noqa: E402


def starter(given: Scale):
    """Callable: Starts the process of a part, as `Campaign` asks for it."""

    def start(part: Part, log: Path, folder: Path) -> subprocess.Popen:
        command = [sys.executable, Path(__file__).with_name('child.py'), part.name, given.as_text(), folder.resolve()]
        with open(log, 'wb') as out:
            return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True,
                                    env={**os.environ, **part.env})

    return start


def chosen(names: list[str] | None, device: str) -> list[Part]:
    """The parts of some names, in the order of their value; without names all, on a CPU but those that compile."""
    for name in names or ():
        choice('--only', name, [part.name for part in PARTS])
    return [part for part in PARTS if part.name in (names or [part.name])
            and (names or device == 'cuda' or not part.options.get('compiled'))]


def run(args: argparse.Namespace) -> None:
    """Run the parts, and print and write what they have found."""
    parts = chosen(args.only, args.device)
    if args.list:
        print(*(f'{part.name:22}{part.seconds:4} s  {part.title}' for part in parts), sep='\n')
        return
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError('no GPU that torch can use here; to try the parts at tiny size take --device cpu')
    if args.images and not Path(args.images).is_dir():
        raise UserError(f'--images {args.images}: no such folder; expected one with JPEGs')
    out = args.out or Path('work_dirs/gpu') / time.strftime('%Y%m%d_%H%M%S')
    if out.exists() and any(out.iterdir()):
        raise UserError(f'--out {out}: the folder is not empty; take another one')
    check_writable(str(out), is_folder=True)
    given = scale(args.device, out.resolve(), args.images and str(Path(args.images).resolve()))
    facts = dict(device=args.device, card=torch.cuda.get_device_name() if args.device == 'cuda' else 'no GPU',
                 started=time.strftime('%Y-%m-%d %H:%M'), minutes=args.minutes, arch=given.arch, size=given.size,
                 batches=given.batches, inference=given.inference, version=coma_mm.__version__)
    campaign = Campaign(parts, starter(given), out, facts, 60 * args.minutes, given.together)
    try:
        for line in campaign.run():
            print(line, flush=True)
    finally:
        write_whole(out / 'summary.md', summary(campaign.found))
        print(f'Written: {out / "results.json"}, {out / "summary.md"}')
    if any(one['ended'].startswith(('ended', 'killed')) for one in campaign.found['parts'].values()):
        sys.exit(1)


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=above(0), default=9, metavar='N', help='for all of it (default: 9)')
    parser.add_argument('--only', nargs='+', metavar='PART', help='parts to run (default: all)')
    parser.add_argument('--list', action='store_true', help='print the parts and their seconds, and run none')
    parser.add_argument('--device', choices=['cuda', 'cpu'], default='cuda',
                        help='cpu: try the parts at tiny size, but for those that compile')
    parser.add_argument('--images', metavar='DIR', help='folder of JPEGs to train from (default: some are drawn)')
    parser.add_argument('--out', type=Path, metavar='DIR', help='a new folder (default: work_dirs/gpu/TIME)')
    exit_with(lambda: run(parser.parse_args()))


if __name__ == '__main__':
    main()
