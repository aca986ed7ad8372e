#!/usr/bin/env python
"""Hundreds of wrong inputs, each through the command that a user would type; nothing may be passed over in silence.

Each case runs in a process of its own, with the command's own exit code and output. What is wrong must end in one clear line
that names it; what only looks wrong must work.
"""

import argparse
import collections
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

from coma_mm import commands  # noqa: E402
from coma_mm.markdown import markdown_table  # noqa: E402
from coma_mm.prepare.shapes import write_shapes  # noqa: E402
from tests.campaigns.inputs import data, settings  # noqa: E402
from tests.campaigns.inputs.case import CLASSIFICATION, DETECTION, KINDS, PRETRAINING, SEGMENTATION, TASKS, train  # noqa: E402

SECONDS = 90  # for one case; a whole short training takes some ten
GIGABYTES = 6  # on top of what the libraries take
COUNTS = dict(unlabelled=24, train=10, val=5, test=5)
SHORT_NAMES = {
    PRETRAINING: 'pretraining',
    CLASSIFICATION: 'classification',
    SEGMENTATION: 'segmentation',
    DETECTION: 'detection',
}


def all_cases():
    """list[Case]: Every one of them."""
    return [*settings.cases(), *data.cases()]


def start(folder, args, env, out):
    """int: The exit code of `coma-mm` in a child process, negative for a signal; its output is in the file `out`."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.chdir(folder)
        os.environ.update(env)
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout, sys.stderr = os.fdopen(1, 'w', 1), os.fdopen(2, 'w', 1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        pages = int(Path('/proc/self/statm').read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + GIGABYTES * 2**30,) * 2)
        sys.argv = ['coma-mm', *args]
        code = 0
        try:
            commands.main()
        except SystemExit as leaving:
            code = leaving.code or 0
        except BaseException:
            import traceback

            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    finally:
        os._exit(99)


def verdict(case, code, text):
    """str: How a case ended, one of `KINDS`."""
    if code in (-signal.SIGALRM,):
        return 'hang'
    if 'Traceback (most recent call last)' in text or code not in (0, 1, 2):
        return 'traceback'
    errors = [line for line in text.splitlines() if line.startswith('error: ')]
    if case.expected == 'right':
        return 'misleading' if code else 'right'
    if case.expected == 'either':
        return (
            'right'
            if code == 0
            else 'clear line'
            if len(errors) == 1 and code == 2 and is_clear(errors[0], '')
            else 'misleading'
        )
    if case.expected == 'counted':
        return 'misleading' if code else 'clear line' if re.search(case.says, text) else 'silent'
    if case.expected == 'warned':
        said = [line for line in text.splitlines() if re.search(r'WARNING|[Ww]arning', line)]
        return 'misleading' if code else 'clear line' if any(re.search(case.says, line) for line in said) else 'silent'
    if case.args[:1] == ['check_data'] and code == 1:  # its report has a line for each problem
        return 'clear line' if re.search(case.says, text) else 'misleading'
    if code == 0:
        return 'silent'
    return 'clear line' if len(errors) == 1 and code == 2 and is_clear(errors[0], case.says) else 'misleading'


def is_clear(line, says):
    """bool: Whether a line names what is wrong, in words of a person."""
    return bool(re.search(says, line)) and not re.search(r'\b\w+(Error|Exception)\b', line) and len(line) < 700


class Campaign:
    """A folder with the data and the checkpoints that the cases share.

    Args:
        folder (Path): For them.
        tasks (Sequence[str]): Of the checkpoints. Defaults to all there are.
    """

    def __init__(self, folder, tasks=TASKS):
        self.folder = folder
        write_shapes(folder / 'data', COUNTS, size=64, progress=False, level='easy')
        self.checkpoints = {}
        for task in tasks:
            run = folder / SHORT_NAMES[task]
            run.mkdir()
            code = start(
                run,
                self._args(train(task, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1'), folder / 'data'),
                dict(SHAPES_ROOT=str(folder / 'data')),
                folder / 'log',
            )
            assert code == 0, (folder / 'log').read_text()[-3000:]
            self.checkpoints[SHORT_NAMES[task]] = str(run / 'run/epoch_1.pth')

    def _args(self, args, root):
        """The arguments with configs, checkpoints and data in place of their names."""
        for one in args:
            if one in TASKS:
                yield f'coma_mm::shapes/{one}.py'
            elif one.startswith('CHECKPOINT:'):
                name = one.partition(':')[2]
                yield self.checkpoints.get(SHORT_NAMES.get(name, name), 'not_trained.pth')
            else:
                yield re.sub(r'^DATA\b|(?<==)DATA\b', str(root), one)

    def run(self, case):
        """tuple[str, int, str]: How a case ended, the exit code, and what was said."""
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as own:
            own = Path(own)
            root = own / 'data'
            shutil.copytree(self.folder / 'data', root)
            (own / 'user.py').write_text('')  # a file in the way
            if case.change:
                case.change(root)
            env = {name: value.replace('DATA', str(root)) for name, value in {'SHAPES_ROOT': 'DATA', **case.env}.items()}
            code = start(own, list(self._args(case.args, root)), env, own / 'said')
            text = (own / 'said').read_text(errors='replace').replace(str(own) + '/', '')
        return verdict(case, code, text), code, text


def main():
    """Run the cases, print how they ended."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='', metavar='PATTERN', help='a regular expression for "FAMILY NAME"')
    parser.add_argument('--part', default='0/1', metavar='I/N', help='each Nth case, from the Ith on')
    parser.add_argument('--out', type=Path, metavar='FILE.jsonl', help='a line for each case; those in it are not run again')
    parser.add_argument('--list', action='store_true', help='print the cases and run none')
    parser.add_argument('--show', action='store_true', help='print what was said, for every case')
    args = parser.parse_args()
    index, step = map(int, args.part.split('/'))
    cases = [case for case in all_cases()[index::step] if re.search(args.only, f'{case.family} {case.name}')]
    names = collections.Counter(case.name for case in cases)
    assert max(names.values()) == 1, names.most_common(3)
    if args.list:
        print(*(f'{case.family}: {case.name}' for case in cases), sep='\n')
        return
    done = {}
    if args.out and args.out.exists():
        done = {line['name']: line for line in map(json.loads, args.out.read_text().splitlines())}
    import coma_mm.engine.explain  # noqa: F401 - once here, not in every child

    coma_mm.register()
    from coma_mm.engine import train as _  # noqa: F401

    with tempfile.TemporaryDirectory(prefix='inputs-') as folder:
        campaign = Campaign(Path(folder))
        for case in cases:
            if case.name in done:
                continue
            begin = time.monotonic()
            kind, code, text = campaign.run(case)
            lines = [line for line in text.splitlines() if line.startswith('error: ')] or text.splitlines()[-1:]
            done[case.name] = dict(
                family=case.family,
                name=case.name,
                expected=case.expected,
                ended=kind,
                code=code,
                said=' / '.join(lines)[:500],
                seconds=round(time.monotonic() - begin, 1),
            )
            if args.out:
                with args.out.open('a') as file:
                    file.write(json.dumps(done[case.name]) + '\n')
            if args.show or kind not in ('clear line', 'right'):
                print(f'{kind}: {case.family}: {case.name}: {done[case.name]["said"]}', flush=True)
    results = [done[case.name] for case in cases]
    families = list(dict.fromkeys(case.family for case in cases))
    counts = {family: collections.Counter(one['ended'] for one in results if one['family'] == family) for family in families}
    counts['all'] = collections.Counter(one['ended'] for one in results)
    rows = [[family, str(count.total()), *(str(count[kind]) for kind in KINDS)] for family, count in counts.items()]
    print(markdown_table(['input', 'cases', *KINDS], rows, numbers=len(KINDS) + 1, aligned=True))
    sys.exit(any(one['ended'] not in ('clear line', 'right') for one in results))


if __name__ == '__main__':
    main()
