"""What must hold on a GPU: `pytest -m gpu` checks it there, and here each check is run once on the CPU, if it is cheap."""
import pytest
import torch

from ..campaigns.gpu.checks import CHECKS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('name', CHECKS)
def test_on_a_gpu(name):
    CHECKS[name](torch.device('cuda'))
