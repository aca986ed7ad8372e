"""The runner, its hooks and the optimiser wrapper, in small runs in this process."""
import logging
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset

from coma_mm.engine import AutocastOptimWrapper, ComaRunner, LabelCheckHook, MeanLossHook
from coma_mm.engine.hooks import RUN_HOOKS
from coma_mm.engine.hooks import checks as hooks_module
from coma_mm.errors import BadImageError, UserError


@DATASETS.register_module()
class Squares(Dataset):
    def __init__(self, bad=()):
        self.bad = bad

    def __getitem__(self, index):
        if index in self.bad:
            raise BadImageError(f'cannot read the image {index}.jpg')
        return dict(inputs=torch.rand(2) + index)

    def __len__(self):
        return 6


@MODELS.register_module()
class Toy(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(2, 1)
        self.seen = []

    def forward(self, inputs, mode='tensor'):
        out = self.backbone(torch.stack(inputs) if isinstance(inputs, list) else inputs)
        self.seen.append((inputs, out.dtype))
        return dict(loss=out.float().square().mean())


def make_cfg(tmp_path, bad=(), **changes):
    return Config(dict(dict(
        model=dict(type='Toy'), work_dir=str(tmp_path / 'run'),
        train_dataloader=dict(dataset=dict(type='Squares', bad=bad), batch_size=2,
                              sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=2), optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(hook) for hook in RUN_HOOKS], randomness=dict(seed=3)), **changes))


def train(cfg):
    runner = ComaRunner.from_cfg(cfg)
    runner.train()
    return runner


def log_of(runner):
    with open(f'{runner.log_dir}/{runner.timestamp}.log') as file:
        return file.read()


def test_a_run_can_start_in_the_process_of_one_that_failed_at_its_start(tmp_path):
    visualizer = dict(type='Visualizer', name=tmp_path.name, vis_backends=[dict(type='LocalVisBackend')])
    for name in 'ab':
        cfg = make_cfg(tmp_path / name, visualizer=dict(visualizer))
        runner = ComaRunner.from_cfg(cfg)
        assert Path(runner.log_dir, 'vis_data/config.py').is_file()
        runner.remove_logs()


def test_runs_of_one_process_in_one_second_keep_their_logs_and_values_apart(tmp_path, monkeypatch):
    frozen = SimpleNamespace(**dict(vars(time), time=lambda: 1.8e9))
    monkeypatch.setattr('mmengine.runner.runner.time', frozen)
    first, second = (ComaRunner.from_cfg(make_cfg(tmp_path / name, experiment_name='same')) for name in 'ab')
    first.message_hub.update_scalar('val/coco/segm_mAP', 0.5)
    assert not second.message_hub.log_scalars
    second.logger.info('a line of the second')
    assert 'a line of the second' in log_of(second) and 'a line of the second' not in log_of(first)


def test_samples_of_a_run_do_not_depend_on_workers(tmp_path):
    seen = []
    for workers in (0, 2):
        cfg = make_cfg(tmp_path / str(workers))
        cfg.train_dataloader.num_workers = workers
        cfg.train_dataloader.persistent_workers = workers > 0
        runner = train(cfg)
        seen.append(torch.stack([torch.stack(inputs) for inputs, _ in runner.model.seen]))
        assert runner.cfg.train_dataloader.sampler.type == 'DefaultSampler'  # the dumped config is the user's
    assert torch.equal(*seen) and not torch.equal(seen[0][:3], seen[0][3:])


def test_what_a_run_uses_is_said_once_at_its_start(tmp_path):
    assert log_of(train(make_cfg(tmp_path))).count('train: 6 images\n') == 1


def test_unreadable_images_are_counted(tmp_path):
    cfg = make_cfg(tmp_path, bad=(1, 4))
    with pytest.raises(BadImageError):
        train(cfg)
    cfg.train_dataloader['on_bad_image'] = 'skip'
    assert log_of(train(cfg)).count('2 unreadable images skipped so far, of 6') == 1


@pytest.mark.parametrize('accumulation', [1, 4])
def test_learning_rate_is_scaled_by_the_images_per_update(tmp_path, accumulation):
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=accumulation)
    runner = train(make_cfg(tmp_path, auto_scale_lr=dict(enable=True, base_batch_size=16), optim_wrapper=wrapper))
    assert runner.optim_wrapper.param_groups[0]['lr'] == pytest.approx(0.01 * 2 * accumulation / 16)
    log = log_of(runner)
    assert f'16 images per update, this run has {2 * accumulation}' in log
    assert ('accumulative_counts=4 is more than the 3 batches of an epoch' in log) == (accumulation == 4)


@pytest.mark.parametrize('settings, tf32, workspace', [
    (dict(), True, None), (dict(env_cfg=dict(tf32=False)), False, None),
    (dict(randomness=dict(seed=0, deterministic=True)), False, ':4096:8')])
def test_a_gpu_multiplies_in_tf32_unless_the_run_is_deterministic(tmp_path, monkeypatch, settings, tf32, workspace):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, not tf32
    try:
        train(make_cfg(tmp_path, **settings))
        assert matmul.allow_tf32 == tf32
    finally:
        matmul.allow_tf32 = before
        torch.use_deterministic_algorithms(False)
    assert os.environ.pop('CUBLAS_WORKSPACE_CONFIG', None) == workspace


def test_autocast_wrapper_runs_in_bf16_and_keeps_float_weights(tmp_path):
    wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(type='SGD', lr=0.01))
    runner = train(make_cfg(tmp_path, optim_wrapper=wrapper))
    assert isinstance(runner.optim_wrapper, AutocastOptimWrapper)
    assert {dtype for _, dtype in runner.model.seen} == {torch.bfloat16}
    assert runner.model.backbone.weight.dtype == torch.float32
    with pytest.raises(UserError, match='float16'):
        AutocastOptimWrapper(dtype='float16', optimizer=runner.optim_wrapper.optimizer)


def test_losses_are_averaged_over_processes(monkeypatch):
    monkeypatch.setattr(hooks_module.dist, 'all_reduce', lambda values, op: values.add_(1))
    outputs = dict(loss=torch.tensor(2.), acc=torch.tensor([3.]), note='text')
    MeanLossHook().after_train_iter(SimpleNamespace(world_size=1), 0, outputs=outputs)
    assert outputs['loss'] == 2
    MeanLossHook().after_train_iter(SimpleNamespace(world_size=2), 0, outputs=outputs)
    assert outputs == dict(loss=torch.tensor(3.), acc=torch.tensor(4.), note='text')


def samples_of_all_libraries(label):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData, PixelData
    from mmpretrain.structures import DataSample
    from mmseg.structures import SegDataSample
    instances = DetDataSample(gt_instances=InstanceData(labels=torch.tensor([0, label])))
    pixels = SegDataSample(gt_sem_seg=PixelData(data=torch.tensor([[[0, 255], [label, 1]]])))
    return [DataSample().set_gt_label(label), pixels, instances]


def test_class_ids_out_of_range_are_named():
    hook, model = LabelCheckHook(), nn.Module()
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = SimpleNamespace(num_classes=3)
    hook.before_train(SimpleNamespace(model=model))
    for fitting, wrong in zip(samples_of_all_libraries(2), samples_of_all_libraries(3), strict=True):
        hook.before_train_iter(None, 0, dict(data_samples=[fitting]))
        wrong.set_metainfo(dict(img_path='a.jpg'))
        with pytest.raises(UserError, match='class id 3 .*a.jpg .*num_classes=3'):
            hook.before_train_iter(None, 0, dict(data_samples=[fitting, wrong]))


def test_class_ids_out_of_range_are_found_in_validation_and_testing_too():
    class Augmented(BaseTTAModel):
        merge_preds = None

    hook, model = LabelCheckHook(), Toy()
    model.decode_head = SimpleNamespace(num_classes=3, ignore_index=255)
    (_, fitting, _), (label, wrong, boxes) = samples_of_all_libraries(2), samples_of_all_libraries(3)
    wrong.set_metainfo(dict(img_path='a.jpg', seg_map_path='a.png'))
    for check, before in ((hook.before_val_iter, hook.before_val), (hook.before_test_iter, hook.before_test)):
        before(SimpleNamespace(model=Augmented(model)))
        for samples in ([fitting, label, boxes], [(fitting, fitting)]):
            check(None, 0, dict(data_samples=samples))
        for samples in ([fitting, wrong], [(fitting, fitting), (fitting, wrong)]):
            with pytest.raises(UserError, match='class id 3 .*a.png .*num_classes=3.*; if 0 is no class, set reduce_zero'):
                check(None, 0, dict(data_samples=samples))
    wrong.set_metainfo(dict(reduce_zero_label=True))
    with pytest.raises(UserError, match=r'class id 3 \(4 in the file.*ids 0 to 2$'):
        hook.before_val_iter(None, 0, dict(data_samples=[wrong]))
    rows, columns = fitting.gt_sem_seg.data.shape[-2:]
    fitting.set_metainfo(dict(img_shape=(9, 9), ori_shape=(rows, columns)))  # a map of the original image's size is right
    hook.before_val_iter(None, 0, dict(data_samples=[fitting]))
    fitting.set_metainfo(dict(ori_shape=(rows, columns + 8), seg_map_path='b.png'))
    with pytest.raises(UserError, match='the segmentation map b.png does not fit its image'):
        hook.before_val_iter(None, 0, dict(data_samples=[fitting]))


def test_position_embeddings_that_are_resized_count_as_loaded(tmp_path):
    vit = dict(type='mmpretrain.VisionTransformer', patch_size=8, out_type='cls_token', arch=dict(
        embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8))
    head = dict(type='mmpretrain.LinearClsHead', in_channels=8)
    runners = [ComaRunner(dict(type='mmpretrain.ImageClassifier', backbone=dict(vit, img_size=size), head=dict(
        head, num_classes=size)), str(tmp_path), default_scope='mmpretrain')
        for size in (16, 32)]
    torch.save(dict(state_dict=runners[0].model.state_dict(), meta={}), tmp_path / 'a.pth')
    lines = []
    runners[1].logger.info = lines.append
    runners[1].load_checkpoint(str(tmp_path / 'a.pth'))
    total = len(runners[1].model.state_dict())
    line, = [line for line in lines if 'tensors into' in line]
    assert f'loaded {total - 2} of {total} tensors' in line  # all but the head
    assert line.endswith('missing or of another shape there: head.fc.weight, head.fc.bias')


@pytest.fixture(autouse=True)
def quiet():
    yield
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()
