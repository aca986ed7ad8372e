"""A dozen families of heads on DyViT, in the branches for a GPU, and what the campaign of all of them says."""
import json
import xml.etree.ElementTree as ElementTree

import pytest
import torch

from .campaigns.heads import run
from .campaigns.heads.families import FAMILIES, Family, make
from .campaigns.upstream.run import verdict
from .helpers.cuda_branches import CudaBranches

QUICK = {'mmdet': 'retinanet fcos atss gfl centernet condinst dab_detr deformable_detr'.split(),
         'mmseg': 'fcn sem_fpn segformer psanet'.split()}


@pytest.mark.parametrize('name', [f'{library} {name}' for library, names in QUICK.items() for name in names])
def test_a_head_learns_and_predicts_on_dyvit_as_it_does_on_a_gpu(name, monkeypatch):
    monkeypatch.setenv('TRACE', '1')
    assert make(FAMILIES[name], cuda_branches=True) == 'works'


def test_tensors_seem_to_be_on_a_gpu_while_it_is_asked_for():
    tensor = torch.ones(2)
    with CudaBranches():
        assert tensor.is_cuda and torch.cuda.is_available() and torch.nn.Parameter(tensor).is_cuda
        made = torch.zeros(2, device='cuda') + tensor.cuda() + tensor.to(torch.device('cuda:0'))
    assert made.device.type == 'cpu' and not tensor.is_cuda and not torch.cuda.is_available()


def test_what_does_not_work_says_why(monkeypatch):
    family = FAMILIES['mmdet retinanet']
    assert run.attempt(Family('mmdet', 'retinanet', 'no_such.py'), 'CPU').startswith('FileNotFoundError: ')

    def lose(config):
        config.model.bbox_head.in_channels = 7

    broken = Family('mmdet', family.name, family.config, change=lose)
    assert 'to have 7 channels, but got 256' in run.attempt(broken, 'CPU')


def test_the_page_shows_the_results_of_every_family():
    done = json.loads(run.RESULTS.read_text())
    assert done.keys() <= {f'{name}: {mode}' for name in FAMILIES for mode in run.MODES}
    assert run.PAGE.read_text() == run.page(done)


def test_upstreams_tests_are_told_apart():
    report = '''<testsuite><testcase/><testcase><skipped message="no GPU"/></testcase>
        <testcase><failure message="AssertionError: 1 != 2&#10;more">text</failure></testcase>
        <testcase><error message="">mmcv operator knn_forward is not available: …</error></testcase></testsuite>'''
    ends = [verdict(case) for case in ElementTree.fromstring(report)]
    assert [end.partition(':')[0] for end in ends] == ['passed', 'skipped', 'failed', 'no operator']
    assert '1 != 2' in ends[2] and 'more' not in ends[2]
