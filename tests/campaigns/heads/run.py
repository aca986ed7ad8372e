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

from coma_mm.markdown import code, escaped, fill, markdown_table  # noqa: E402
from tests.campaigns.heads.families import FAMILIES, make  # noqa: E402

SECONDS = 120
MODES = ('CPU', 'CUDA branches')
PAGE, RESULTS = ROOT / 'docs/heads.md', ROOT / 'docs/results/heads.json'
CELLS = {'works': 'yes', 'not run': '?'}


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


def page(done):
    """str: `docs/heads.md` with the results in its tables."""
    parts = {}
    for library in ('mmdet', 'mmseg'):
        rows, counts = [], dict.fromkeys(MODES, 0)
        own = {name: family for name, family in FAMILIES.items() if family.library == library}
        for name, family in own.items():
            ends = [done.get(f'{name}: {mode}', 'not run') for mode in MODES]
            for mode, end in zip(MODES, ends, strict=True):
                counts[mode] += end == 'works'
            cells = ['–'] * 2 if family.reason else [CELLS.get(end, 'no') for end in ends]
            why = family.reason or '; '.join(dict.fromkeys(filter(None, [family.note, *(e for e in ends if e != 'works')])))
            rows.append([family.name, code(family.config.removesuffix('.py')), *cells, escaped(why)])
        takes = sum(not family.reason for family in own.values())
        parts[library] = markdown_table(['family', 'config', *MODES, 'note, or why not'], rows)
        parts[f'{library}-counts'] = (f'{counts[MODES[0]]} of {takes} on the CPU, {counts[MODES[1]]} of {takes} in the CUDA '
                                      f'branches; {len(own) - takes} more cannot have another backbone.\n')
    return fill(PAGE.read_text(), 'heads', parts)


def main():
    """Run the families, print what does not work, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', metavar='PATTERN', help='a regular expression for "LIBRARY FAMILY"')
    parser.add_argument('--minutes', type=float, default=1e9, help='begin nothing after this long')
    parser.add_argument('--out', type=Path, metavar='FILE.json', default=RESULTS,
                        help='results; what is in it is not run again. Defaults to that of docs/heads.md, which is renewed')
    parser.add_argument('--again', action='store_true', help='run what does not work in --out again')
    args = parser.parse_args()
    begin = time.monotonic()
    done = json.loads(args.out.read_text()) if args.out.exists() else {}
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
            args.out.write_text(json.dumps(done, indent=1) + '\n')
    if args.out == RESULTS:
        PAGE.write_text(page(done))


if __name__ == '__main__':
    main()
