"""Validation of pre-training in the precision of training."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from mmengine.runner import ValLoop

from coma_mm.engine import ComaRunner, TrainingPrecisionValLoop

from ..helpers.small_models import model_settings, small_batch


@DATASETS.register_module()
class FourMaskedImages(torch.utils.data.Dataset):
    """Of noise, 2×2 patches each."""

    def __getitem__(self, index):
        sample = {key: value[0] for key, value in small_batch(1, seed=index).items()}
        return dict(sample, inputs=sample['inputs'].mul(50).add(128).clamp(0, 255).byte())

    def __len__(self):
        return 4


def run(folder, **changes):
    """The runner of two iterations and a validation, with the dtypes of what was predicted and whether autocast was on."""
    loader = dict(dataset=dict(type='FourMaskedImages'), batch_size=2, collate_fn=dict(type='default_collate'),
                  sampler=dict(type='DefaultSampler', shuffle=False))
    runner = ComaRunner.from_cfg(Config(dict(dict(
        default_scope='mmpretrain', work_dir=str(folder),
        model=dict(type='CoMA', **model_settings()), randomness=dict(seed=0), train_dataloader=loader,
        val_dataloader=loader, val_evaluator=dict(type='ReconstructionError'), val_cfg=dict(),
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=1), custom_hooks=[dict(type='EvaluationModelHook')],
        optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=dict(type='SGD', lr=0.01))), **changes)))
    runner.predicted = dict(train=[], val=[])
    runner.model.decoder.register_forward_hook(lambda model, _, out: runner.predicted[
        'train' if model.training else 'val'].append((out.dtype, torch.is_autocast_enabled('cpu'))))
    metric = runner.val_evaluator.metrics[0]
    process = metric.process
    runner.outside = []
    metric.process = lambda *args: (runner.outside.append(torch.is_autocast_enabled('cpu')), process(*args))
    runner.train()
    return runner


def test_pre_training_is_validated_in_the_precision_of_training(tmp_path):
    runner = run(tmp_path / 'run')
    assert set(runner.predicted['train']) == set(runner.predicted['val']) == {(torch.bfloat16, True)}
    assert runner.outside == [False, False]


@pytest.mark.parametrize('changes', [
    dict(optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01))),
    dict(val_cfg=dict(fp16=False)),
    dict(val_cfg=dict(type='ValLoop', fp16=False))])
def test_validation_is_in_float32_where_training_is_or_the_config_says_so(tmp_path, changes):
    assert set(run(tmp_path / 'run', **changes).predicted['val']) == {(torch.float32, False)}


def test_other_models_keep_the_librarys_loop(tmp_path):
    from .test_runs import make_cfg

    loader = dict(dataset=dict(type='Squares'), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
    runner = ComaRunner.from_cfg(make_cfg(
        tmp_path, val_dataloader=loader, val_cfg=dict(), val_evaluator=[],
        optim_wrapper=dict(type='AutocastOptimWrapper', optimizer=dict(type='SGD', lr=0.01))))
    assert type(runner.val_loop) is ValLoop
    assert issubclass(TrainingPrecisionValLoop, ValLoop)
