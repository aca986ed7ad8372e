"""Settings for all tests."""
import os
import random
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# Before torch is imported, and inherited by processes that tests start.
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from mmengine.config import utils as config_utils  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

import coma_mm  # noqa: E402, F401

# For every `mmseg::…` in a config mmengine reads all of the library's metafiles, which takes a quarter of a second.
config_utils.load = cache(config_utils.load)
torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
# Speed varies on shared machines: no test may fail because it was slow.
settings.register_profile('coma_mm', deadline=None, derandomize=True, max_examples=50)
settings.load_profile('coma_mm')


@pytest.fixture(autouse=True)
def independent():
    """Tests depend neither on chance nor on the library that an earlier one made the default scope."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
