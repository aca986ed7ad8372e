#!/usr/bin/env python
"""Every family of heads that mmdetection and mmsegmentation ship, on DyViT-tiny: one training step and one prediction.

Each runs in a process of its own, on a CPU as it is and again with the branches that the libraries have for a GPU, which
call mmcv's operators, on the CPU too.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

from tests.campaigns.heads.families import FAMILIES, make  # noqa: E402

SECONDS = 120
MODES = ('CPU', 'CUDA branches')


def attempt(family, mode, seconds=SECONDS):
    """str: 'works', or why not, from a child process."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(seconds)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        os.write(writer, make(family, mode == MODES[1]).encode(errors='replace'))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as file:
        text = file.read().decode(errors='replace')
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if text:
        return text
    return f'more than {seconds} s' if code == -signal.SIGALRM else f'exit code {code}'


def main():
    """Run the families, print what does not work, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', metavar='PATTERN', help='a regular expression for "LIBRARY FAMILY"')
    parser.add_argument('--minutes', type=float, default=1e9, help='begin nothing after this long')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='results; what works in it is not run again')
    parser.add_argument('--again', action='store_true', help='run what does not work in --out again')
    args = parser.parse_args()
    begin = time.monotonic()
    done = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    for name, family in FAMILIES.items():
        if not re.search(args.only, name):
            continue
        for mode in MODES:
            key = f'{name}: {mode}'
            if time.monotonic() - begin > 60 * args.minutes or key in done and (done[key] == 'works' or not args.again):
                continue
            start = time.monotonic()
            done[key] = family.reason or attempt(family, mode)
            print(f'{time.monotonic() - start:5.1f} s {key}: {done[key]}', flush=True)
            if args.out:
                args.out.write_text(json.dumps(done, indent=1))


if __name__ == '__main__':
    main()
