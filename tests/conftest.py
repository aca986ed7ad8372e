"""Settings for all tests."""
import gc
import os
import random
import runpy
import signal
import sys
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Before torch is imported, and inherited by processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Most tests compare with bits of a CPU, so a GPU is hidden unless `pytest -m gpu` asks for it; inherited as well.
if 'gpu' in sys.argv[1:]:
    os.environ['COMA_MM_TESTS_ON_GPU'] = '1'
if 'COMA_MM_TESTS_ON_GPU' not in os.environ:
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from mmengine.config import utils as config_utils  # noqa: E402
from mmengine.logging import MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

import coma_mm  # noqa: E402, F401
from coma_mm.processes import STOP_SIGNALS  # noqa: E402

# For every `mmseg::…` in a config mmengine reads all of the library's metafiles, which takes a quarter of a second.
config_utils.load = cache(config_utils.load)
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
# Autograd starts once in a process. If that is after a FakeTensorMode, it takes a GPU to be there and starts threads for it,
# and what is forked from the process later cannot train.
torch.zeros((), requires_grad=True).backward()
# Speed varies on shared machines: no test may fail because it was slow.
settings.register_profile('coma_mm', deadline=None, derandomize=True, max_examples=50)
settings.load_profile('coma_mm')


def pytest_unconfigure():
    """Libraries complain at the end of what nobody has collected."""
    gc.unfreeze()


@contextmanager
def left_as_they_were():
    """Neither default scopes nor logs, whose terminal is closed by then, outlive what is done meanwhile."""
    before = {kind: dict(kind._instance_dict) for kind in (DefaultScope, MMLogger)}
    yield
    for kind, instances in before.items():
        kind._instance_dict.clear()
        kind._instance_dict.update(instances)


@pytest.fixture(scope='module', autouse=True)
def fresh_start():
    """mmengine collects garbage for each data set that it makes, and would look at all libraries and tests each time."""
    gc.collect()
    gc.freeze()
    with left_as_they_were():  # by fixtures of the module
        yield


@pytest.fixture(autouse=True)
def independent():
    """Tests depend neither on chance nor on an earlier one."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    with left_as_they_were():
        yield
    for number, handler in handlers.items():  # a tool that ran here listens, and so would workers that are to be ended
        signal.signal(number, handler)


@pytest.fixture
def run_tool(monkeypatch, capfd):
    """Runs one of tools/ in this process, because starting one takes seconds."""

    def run(tool, *args, code=0):
        """str: All output, or the error's line where `code` is 2."""
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        found = 0
        try:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        except SystemExit as end:
            found = end.code
        out, err = capfd.readouterr()
        assert found == code and 'Traceback' not in out + err, out[-2000:] + err
        assert code != 2 or err.count('error: ') == 1
        return err.strip().splitlines()[-1] if code == 2 else out + err

    return run
