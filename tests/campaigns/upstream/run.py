#!/usr/bin/env python
"""An upstream library's own tests of what runs on compiled operators, with those of coma_mm in their place.

PATH is a checkout of mmcv, mmdetection or mmsegmentation, of the version that is installed; its tests are run from there,
and the library that is installed is tested. Nothing is copied.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from coma_mm.markdown import markdown_table  # noqa: E402

SECONDS = 1800  # for one folder
FOLDERS = ('tests/test_ops', 'tests/test_models')
# Without the folder that it is started in on its path, which has the library's own source without what is installed.
PYTEST = """
import sys, coma_mm, mmcv.utils, pytest
from coma_mm.weights import safe_pickle
from tests.helpers.cuda_branches import CudaBranches
safe_pickle.trusted = True  # a checkout is trusted: its code is run
if 'mmdet' in sys.argv[2]:
    import mmdet.testing._utils
    mmdet.testing._utils._get_config_directory = lambda: 'configs'  # of the checkout; else looked for beside the library
if sys.argv[1] == 'True':
    mmcv.utils.IS_CUDA_AVAILABLE = True
    CudaBranches().__enter__()
sys.exit(pytest.main(sys.argv[3:]))
"""
KINDS = ('passed', 'failed', 'no operator', 'skipped')


def run(files, checkout, as_cuda=False, seconds=SECONDS):
    """dict[str, str]: How each test of some files ended, one of `KINDS`, and for those that failed why."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    env = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore')
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / 'report.xml'
        command = [sys.executable, '-P', '-c', PYTEST, str(as_cuda), checkout.name, *map(str, files), '-q',
                   '-o', 'addopts=', '-p', 'no:cacheprovider', '--continue-on-collection-errors', '--import-mode=importlib',
                   f'--rootdir={checkout}', f'--junitxml={report}']
        try:
            done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return {files[0].name: f'failed: took more than {seconds} s'}
        if not report.exists():
            return {files[0].name: f'failed: exit code {done.returncode}: {done.stdout[-200:]}{done.stderr[-200:]}'}
        cases = ElementTree.parse(report).iter('testcase')
        return {f'{case.get("classname")}.{case.get("name")}': verdict(case) for case in cases}


def verdict(case):
    """str: How a test ended, from its element in pytest's report."""
    for child in case:
        if child.tag == 'skipped':
            return 'skipped'
        if child.tag in ('failure', 'error'):
            text = f'{child.get("message")} {child.text}'
            kind = 'no operator' if re.search('mmcv operator .* is not available', text) else 'failed'
            return f'{kind}: {(child.get("message") or "").splitlines()[:1]}'
    return 'passed'


def main():
    """Run the tests, print how many ended how."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('path', type=Path, help='a checkout')
    parser.add_argument('--only', default='', metavar='PATTERN', help='a regular expression for the folder')
    parser.add_argument('--as-cuda', action='store_true', help='run on the CPU what is for a GPU, too')
    parser.add_argument('--out', type=Path, metavar='FILE.json', help='results; folders that are in it are not run again')
    args = parser.parse_args()
    checkout = args.path.resolve()
    files = [file for folder in FOLDERS for file in (checkout / folder).rglob('test_*.py')]
    done = json.loads(args.out.read_text()) if args.out and args.out.exists() else {}
    for folder in sorted({file.parent for file in files}):
        name = str(folder.relative_to(checkout))
        if name not in done and re.search(args.only, name):
            own = sorted(folder.glob('test_*.py'))
            done[name] = run(own, checkout, args.as_cuda)
            if own[0].name in done[name]:  # the process died, or took too long
                done[name] = {}
                for file in own:
                    done[name].update(run([file], checkout, args.as_cuda))
            if args.out:
                args.out.write_text(json.dumps(done, indent=1))
    counts = {name: collections.Counter(end.partition(':')[0] for end in ends.values()) for name, ends in done.items()}
    counts['all'] = sum(counts.values(), collections.Counter())
    rows = [[name, *(str(count[kind]) for kind in KINDS)] for name, count in counts.items()]
    print(markdown_table(['tests', *KINDS], rows, numbers=len(KINDS), aligned=True))


if __name__ == '__main__':
    main()
