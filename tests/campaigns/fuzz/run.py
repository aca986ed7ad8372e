#!/usr/bin/env python
"""Thousands of damaged files and distorted settings; each must be read rightly or refused in one clear line.

A case is (family, seed): the same two give the same input again. Cases run in a child process with a limit on time and
memory, so that a crash of the interpreter and a hang are seen as well.
"""
import argparse
import collections
import json
import multiprocessing
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

from coma_mm.engine.explain import explain  # noqa: E402
from tests.campaigns.fuzz.families import FAMILIES  # noqa: E402

VERSIONS = ('torch', 'numpy', 'pillow', 'safetensors', 'onedl-mmengine', 'onedl-mmdetection', 'pycocotools')
SECONDS = 30  # for one case
GIGABYTES = 4  # on top of what the libraries take


def outcome(family, seed, folder):
    """str: 'read' or 'refused'; anything else is a fault, with its traceback."""
    rng = random.Random(f'{family.name} {seed}')
    try:
        return family.case(rng, folder)
    except AssertionError as error:
        if not str(error).startswith('silently'):
            return _refusal(error)
        return str(error)
    except Exception as error:
        return _refusal(error)


def _refusal(error):
    line = explain(error)
    if line is None:
        return 'crash: ' + ''.join(traceback.format_exception(error))
    return 'refused' if len(line.splitlines()) == 1 else f'not one line: {line!r}'


def _work(family, seeds, connection, folder):
    """Run cases in a child process, saying before each which one it is."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process wherever it is
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GIGABYTES * 2**30, ) * 2)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        os.chdir(own)
        family.prepare(Path(own))
        for seed in seeds:
            connection.send((seed, None))
            signal.alarm(SECONDS)
            result = outcome(family, seed, Path(own))
            signal.alarm(0)
            connection.send((seed, result))
    connection.send(None)


def run_family(family, seeds, folder):
    """Run cases.

    Args:
        family (Family): What is damaged.
        seeds (Iterable[int]): One for each case.
        folder (Path): For temporary files.

    Returns:
        dict[int, str]: The outcome by seed.
    """
    context = multiprocessing.get_context('fork')
    seeds, results = list(seeds), {}
    while len(results) < len(seeds):
        receiver, sender = context.Pipe(duplex=False)
        left = [seed for seed in seeds if seed not in results]
        child = context.Process(target=_work, args=(family, left, sender, folder))
        child.start()
        sender.close()
        current = None
        try:
            while (message := receiver.recv()) is not None:
                current, result = message
                if result is not None:
                    results[current] = result
                    current = None
        except EOFError:  # the child died
            child.join()
            if current is None:
                raise RuntimeError(f'{family.name}: the process ended outside of a case, with {child.exitcode}') from None
            hung = child.exitcode == -signal.SIGALRM
            results[current] = f'hang: more than {SECONDS} s' if hung else f'crash: exit code {child.exitcode}'
        child.join()
    return results


def main():
    """Run all families, print the counts and the faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0, help='of the first case (default: 0)')
    parser.add_argument('--cases', type=float, default=1., help='factor on the number of cases (default: 1)')
    parser.add_argument('--only', nargs='+', choices=[*FAMILIES], help='families')
    parser.add_argument('--out', help='write counts and faults to a JSON file')
    args = parser.parse_args()
    versions = ', '.join(f'{name} {metadata.version(name)}' for name in VERSIONS)
    print(f'Python {platform.python_version()}, {versions}; first seed {args.seed}')
    report, faults = {}, 0
    for name in args.only or FAMILIES:
        family, start = FAMILIES[name], time.monotonic()
        with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
            count = max(1, round(family.cases * args.cases))
            results = run_family(family, range(args.seed, args.seed + count), folder)
        counts = collections.Counter(result.partition(':')[0] for result in results.values())
        bad = {seed: result for seed, result in results.items() if result not in ('read', 'refused')}
        faults += len(bad)
        report[name] = dict(counts, seconds=round(time.monotonic() - start), faults=bad)
        print(f'{name:12} {len(results):6} cases: {dict(counts)} in {report[name]["seconds"]} s', flush=True)
        for seed, result in bad.items():
            print(f'  seed {seed}: {result}')
    if args.out:
        Path(args.out).write_text(json.dumps(report, indent=1))
    print(f'{faults} faults')
    sys.exit(faults > 0)


if __name__ == '__main__':
    main()
