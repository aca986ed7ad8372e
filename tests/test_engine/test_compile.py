"""torch.compile through the runner: the same training, few graphs, nothing compiled for validation."""
import logging

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.utils.data import Dataset

from coma_mm.engine import ComaRunner
from coma_mm.errors import UserError
from coma_mm.models import CoMA

from ..helpers.small_models import ARCH, draw_masks, model_settings, randomise, small_batch

CLASSIFIER = dict(
    type='mmpretrain.ImageClassifier', backbone=dict(type='DyViT', arch=ARCH, out_type='avg_featmap'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=64),
    data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor', num_classes=2))


@DATASETS.register_module()
class Noise(Dataset):
    """Seven images of 64 px with masks, or with labels."""

    def __init__(self, labels):
        self.labels = labels
        self.images = torch.randint(256, (7, 3, 64, 64), generator=torch.Generator().manual_seed(0)).byte()

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample
        image = self.images[index]
        if self.labels:
            return dict(inputs=image, data_samples=DataSample().set_gt_label(index % 2))
        return dict(inputs=image, ids_keep=torch.tensor([0, 3]), ids_rest=torch.tensor([1, 2]))

    def __len__(self):
        return len(self.images)


@HOOKS.register_module()
class LossRecorder(Hook):
    def before_train(self, runner):
        runner.losses = self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'])


def train(folder, model, compile=None):
    labels = model['type'] != 'mmpretrain.CoMA'
    loader = dict(
        batch_size=3, dataset=dict(type='Noise', labels=labels), sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'))
    evaluators = [dict(type='mmpretrain.Accuracy' if labels else 'ReconstructionError')]
    runner = ComaRunner.from_cfg(Config(dict(
        model=model, work_dir=str(folder), default_scope='mmpretrain', randomness=dict(seed=3),
        compile=compile, train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=2),
        val_dataloader=dict(loader, batch_size=2), val_cfg={}, val_evaluator=evaluators,
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
        param_scheduler=dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
        custom_hooks=[dict(type='LossRecorder')] + [dict(type='EvaluationModelHook')] * (not labels))))
    runner.train()
    return runner


@pytest.mark.parametrize('model', [dict(type='mmpretrain.CoMA', **model_settings()), CLASSIFIER])
def test_compiled_training_is_the_same_in_two_graphs(tmp_path, model):
    plain = train(tmp_path / 'plain', model)
    torch._dynamo.reset()
    counters.clear()
    compiled = train(tmp_path / 'compiled', model, dict(backend='eager'))
    assert not counters['graph_break']
    assert counters['stats']['unique_graphs'] == 2  # of three images, and of any other number
    assert len(plain.losses) == 6
    torch.testing.assert_close(compiled.losses, plain.losses)
    torch.testing.assert_close(compiled.model.state_dict(), plain.model.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_compiled_evaluation_branch_sees_its_new_weights():
    """Also those rounded for autocast, which are set in place after each update."""
    torch._dynamo.reset()
    model = randomise(CoMA(**model_settings()))
    model.sync_evaluation()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.05)
    model.follow(optimizer, torch.bfloat16)
    images, keep, rest = small_batch(2)['inputs'].float(), *draw_masks(2, (2, 2), 0.5)
    errors = []

    def plain():
        return model.reconstruct(images, rest, model._branch(images.device), keep)

    counter = CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(plain, fullgraph=True, backend=counter)
    for _ in range(3):
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            pair = [model.head.patch_errors(branch(), images, keep).mean().item() for branch in (plain, compiled)]
        assert pair[0] == pytest.approx(pair[1], rel=1e-6)
        errors.append(pair[0])
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
    assert counter.frame_count == 1
    assert errors[0] == errors[1] != errors[2]  # one update behind


@MODELS.register_module()
class Featureless(BaseModel):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return inputs


def test_other_models_are_refused(tmp_path):
    with pytest.raises(UserError, match='Featureless has no method extract_feat'):
        train(tmp_path / 'run', dict(type='Featureless'), True)


@pytest.fixture(autouse=True)
def quiet():
    yield
    torch._dynamo.reset()
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()
