"""What a step would move on a GPU, counted without one."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from coma_mm.benchmark.speed.contestants import Setting, contestants
from coma_mm.benchmark.speed.fake_cuda import Trace, fake_cuda, fake_like
from coma_mm.benchmark.speed.traffic import trace_step
from coma_mm.models import CoMA

ROOT = Path(__file__).parents[3]
SETTING = Setting('tiny', torch.device('cpu'), 64, 4, 'bf16')
BY_NAME = {one.name: one for one in contestants()}


def test_bytes_and_operations_of_operators():
    with fake_cuda() as mode:
        a, b = fake_like([torch.empty(8, 16), torch.empty(16, 4)], mode)
        with mode, Trace() as trace:
            (a @ b).view(4, 8).add_(1)
            a[:, :1].expand(8, 16).clone()
    found = [(kernel.name, kernel.traffic, kernel.flops) for kernel in trace.kernels]
    assert found == [('mm', 4 * (8 * 16 + 16 * 4 + 8 * 4), 2 * 8 * 16 * 4), ('add_', 2 * 4 * 8 * 4, 0),
                     ('clone', 4 * (8 + 8 * 16), 0)]


def test_devices_and_waits_are_seen():
    with fake_cuda() as mode:
        a = fake_like(torch.empty(3), mode)
        with mode, Trace() as trace:
            a.cpu()
            torch.nonzero_static(a, size=1)
            torch.ones(2) + 1
    assert +trace.mixed == {'_to_copy': 1} and 'add' in +trace.on_cpu and trace.casts == []


def test_of_inference_and_of_a_forward_pass_without_a_compiler():
    for name in ('inference/dyvit', 'pretrain/coma-frozen'):
        trace = trace_step(BY_NAME[name], SETTING, whole=False)
        assert {kernel.phase for kernel in trace.kernels} == {'forward'}
        assert sum(kernel.flops for kernel in trace.kernels) > 0
        assert +trace.mixed == +trace.waits == {}


WHOLE = '''
from coma_mm.benchmark.speed.fake_cuda import allow_backward
if allow_backward():  # before anything else has gone backward in the process
    import coma_mm
    from tests.test_benchmark.test_speed.test_traffic import check_whole_step
    coma_mm.register()
    check_whole_step()
else:
    print('no C++ compiler')
'''


def test_a_whole_step_has_one_device_and_waits_for_nothing():
    done = subprocess.run([sys.executable, '-c', WHOLE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    if 'no C++ compiler' in done.stdout:
        pytest.skip('no C++ compiler')


def check_whole_step():
    for mode in CoMA.COPIES:
        trace = trace_step(BY_NAME[f'pretrain/coma-{mode}'], SETTING)
        assert +trace.mixed == +trace.waits == +trace.on_cpu == {}, mode
        assert list(dict.fromkeys(kernel.phase for kernel in trace.kernels)) == ['forward', 'backward', 'update'], mode
        names = [kernel.name for kernel in trace.kernels if kernel.phase == 'update']
        assert names.count('_fused_adamw_') == 2 and 'lerp_' not in names, mode
