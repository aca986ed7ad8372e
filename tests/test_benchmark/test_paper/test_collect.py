"""Runs are found, read and put where they belong, by what they recorded; what is none is named."""
import json
import math
import shutil
from contextlib import nullcontext

import pandas
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from coma_mm.benchmark.paper.collect import COLUMNS, collect, read, write
from coma_mm.errors import UserError
from coma_mm.runs.reading import image_size_of, read_config

from ...helpers.logged_runs import (
    COMA,
    IMAGENET,
    ROOT,
    config_of,
    imagenet_run,
    train,
    unformatted,
    write_run,
    write_start,
    write_test,
)


def one(frame, metric, **facts):
    """The only row of a metric with certain facts."""
    rows = frame[frame['metric'] == metric]
    for key, value in facts.items():
        rows = rows[rows[key] == value]
    assert len(rows) == 1, rows.to_string()
    return rows.iloc[0]


# ---------------------------------------------------------------------------------------------------------------------
# Which cell
# ---------------------------------------------------------------------------------------------------------------------
def test_a_run_belongs_to_the_cell_that_its_facts_name_whatever_its_folder_is_called(tmp_path):
    imagenet_run(tmp_path / 'mae_vit-base_1600e/linear', 84.5)
    frame, skipped = collect(tmp_path)
    row = one(frame, 'accuracy/top1')
    assert row['cell'] == 'table2/coma_dyvit-b_800' and row['value'] == 84.5 and not skipped
    assert row[['task', 'dataset', 'method', 'backbone', 'status', 'split']].tolist() == [
        'classification', 'ImageNet-1K', 'CoMA', 'DyViT-B', 'finished', 'val']
    assert row[['pretrain_epochs', 'epochs', 'global_batch', 'world_size', 'image_size', 'seed']].tolist() == [
        800, 100, 1024, 8, 224, 0]
    assert row['hours'] == 2 and row['peak_memory_gb'] == 2 and row['device'] == 'NVIDIA H200'
    for key in ('config', 'checkpoint', 'log'):
        assert (tmp_path / row[key]).is_file()
    assert one(frame, 'loss')['cell'] == '' and one(frame, 'loss')['split'] == 'train'
    assert tuple(frame) == COLUMNS


@pytest.mark.parametrize('origin, options, cell', [
    (dict(epochs=300, max_epochs=300), {}, 'table2/coma_dyvit-b_300'),
    (dict(algorithm='MaskedAutoencoder', complement=None, epochs=300, max_epochs=300), {}, 'table2/mae_dyvit-b_300'),
    (dict(algorithm='MAE', epochs=1600, max_epochs=1600, complement=None, mask_ratio=.75),
     dict(model__backbone=dict(_delete_=True, type='VisionTransformer', arch='b', patch_size=16)),
     'table2/mae_vit-b; table4/mae'),
    ({}, dict(model__backbone=dict(_delete_=True, type='mmpretrain.MaskedVisionTransformer', arch='base')), 'table4/coma'),
    ({}, dict(model__backbone__arch='small'), 'table2/coma_dyvit-s_800'),
    (dict(epochs=300), {}, ''),  # of 800
    (dict(mask_ratio=.75), {}, ''),
    (dict(complement='full'), {}, ''),
    (dict(decoder='ConvNeXtDecoder'), {}, ''),
    (dict(decoder_depth=4), {}, ''),
    (dict(images=1000), {}, ''),  # of ImageNet-1K
    (dict(data_root='data/photographs'), {}, ''),
    ({}, dict(model__backbone__frozen_stages=3), ''),
    ({}, dict(model__backbone__windows='fine'), ''),
    ({}, dict(images=8), ''),
    (dict(algorithm='ImageClassifier', backbone_from=COMA), {}, ''),
])
def test_cells(tmp_path, origin, options, cell):
    imagenet_run(tmp_path / 'run', origin=origin, **options)
    assert one(collect(tmp_path)[0], 'accuracy/top1')['cell'] == cell


def test_dense_tasks(tmp_path):
    facts = dict(backbone_from=COMA, seed=0, images_per_update=16)
    write_run(tmp_path / 'a', config_of('segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512'),
              [train(160_000, .3), (dict(mIoU=51.2, aAcc=84.), 160_000)], facts | dict(images=20_210))
    detection = 'detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-{}px'
    for size in (768, 1024):
        write_run(tmp_path / f'{size}', config_of(detection.format(size)),
                  [train(100, .5, 100), ({'coco/bbox_mAP': .53, 'coco/segm_mAP': .46, 'coco/bbox_mAP_s': -1.}, 100)],
                  facts | dict(images=117_266))
    frame, _ = collect(tmp_path)
    row = one(frame, 'mIoU')
    assert (row['cell'], row['value'], row['iterations'], row['status']) == ('table3/coma', 51.2, 160_000, 'finished')
    assert pandas.isna(row['epochs'])
    row = one(frame, 'coco/segm_mAP', run='768')
    assert (row['cell'], row['value'], row['dataset']) == ('table3/coma', 46., 'COCO')
    assert one(frame, 'coco/bbox_mAP', run='1024')['cell'] == ''
    assert not (frame['metric'] == 'coco/bbox_mAP_s').any()  # no small objects


def test_facts_that_older_checkpoints_lack_are_read_from_the_pretraining_also_where_it_was_moved(tmp_path):
    cfg = config_of('coma/coma_dyvit-base_8xb512-amp-coslr-800e_in1k', model__decoder__depth=4)
    write_run(tmp_path / 'all/first', cfg, [train(10, 1., 1)], {}, 'epoch_800.pth')
    old = {key: value for key, value in COMA.items() if 'decoder' not in key and key != 'max_epochs'}
    imagenet_run(tmp_path / 'all/second')
    file = tmp_path / 'all/second/provenance.json'
    facts = json.loads(file.read_text())
    for place in (tmp_path / 'all/first', '/before/all/first'):
        file.write_text(json.dumps(facts | dict(backbone_from=old | dict(checkpoint=f'{place}/epoch_800.pth'))))
        row = one(collect(tmp_path)[0], 'accuracy/top1')
        assert (row['pretrain_run'], row['decoder'], row['decoder_depth']) == ('all/first', 'ViTDecoder', 4)
        assert row['pretrain_schedule'] == 800 and row['pretrain_dataset'] == 'ImageNet-1K' and row['cell'] == ''
    file.write_text(json.dumps(facts | dict(backbone_from=old | dict(checkpoint='/gone/epoch_800.pth'))))
    row = one(collect(tmp_path)[0], 'accuracy/top1')
    assert row['pretrain_run'] == '' and row['decoder'] == ''
    frame, _ = collect(tmp_path)
    row = one(frame, 'loss', task='pretraining')
    assert (row['method'], row['backbone'], row['status'], row['decoder_depth']) == ('CoMA', 'DyViT-B', 'finished', 4)


def test_without_records_the_origin_is_scratch_or_unknown(tmp_path):
    name = 'shapes/dyvit-tiny_{}_shapes'
    entries = [train(10, 1., 1), ({'accuracy/top1': 10.}, 1)]
    write_run(tmp_path / 'a', config_of(name.format('scratch')), entries)
    write_run(tmp_path / 'b', config_of(name.format('coma')), entries)
    frame, _ = collect(tmp_path)
    rows = frame[frame['metric'] == 'accuracy/top1'].set_index('run')
    assert rows['method'].to_dict() == dict(a='scratch', b='unknown')
    assert rows['cell'].to_dict() == dict(a='shapes/classification/scratch', b='shapes/classification/unknown')
    assert rows['backbone'].tolist() == ['DyViT tiny'] * 2


def test_runs_of_a_cell_with_other_settings_are_told_apart_by_them(tmp_path):
    for seed in (0, 1):
        imagenet_run(tmp_path / f'usual{seed}', seed=seed, train_dataloader__num_workers=seed, work_dir=f'{seed}')
    imagenet_run(tmp_path / 'other', optim_wrapper__optimizer__lr=0.01, model__backbone__drop_path_rate=0.3)
    frame, _ = collect(tmp_path)
    rows = frame[frame['metric'] == 'accuracy/top1'].set_index('run')
    assert set(rows['cell']) == {'table2/coma_dyvit-b_800'}
    assert rows['variant']['other'] == 'model.backbone.drop_path_rate=0.3, optim_wrapper.optimizer.lr=0.01'
    assert rows['variant']['usual0'] == rows['variant']['usual1'] != rows['variant']['other']
    assert rows['config_hash']['usual0'] == rows['config_hash']['usual1'] != rows['config_hash']['other']


# ---------------------------------------------------------------------------------------------------------------------
# How far, how long
# ---------------------------------------------------------------------------------------------------------------------
def test_states(tmp_path):
    nan = float('nan')
    val = {'accuracy/top1': 50.}
    short = dict(train_cfg__max_epochs=2)
    imagenet_run(tmp_path / 'finished', **short, entries=[train(5, 1., 1), (val, 2)])
    imagenet_run(tmp_path / 'stopped', entries=[train(5, 1., 1), (val, 1)])
    imagenet_run(tmp_path / 'running', entries=[train(5, 1., 1), (val, 1)])
    imagenet_run(tmp_path / 'diverged', **short, entries=[train(5, 1., 1), train(6, nan, 2), (val, 2)])
    imagenet_run(tmp_path / 'skipped_an_update', **short, entries=[train(5, 1., 1), train(6, nan, 2), (val, 2)])
    for name in ('stopped', 'running', 'diverged'):
        (tmp_path / name / 'epoch_100.pth').unlink()
        (tmp_path / name / 'last_checkpoint').unlink()
    (tmp_path / 'running/20260101_000000/vis_data/scalars.json').touch()
    write_start(tmp_path / 'diverged', config_of(IMAGENET), [train(i, nan, 2) for i in (7, 8)], '20260101_100000')
    frame, _ = collect(tmp_path)
    states = frame.drop_duplicates('run').set_index('run')['status'].to_dict()
    assert states == dict(finished='finished', stopped='stopped', running='running', diverged='diverged',
                          skipped_an_update='finished')
    assert math.isnan(one(frame, 'loss', run='diverged')['value'])


def test_a_resumed_run_counts_once_and_its_hours_are_added(tmp_path):
    run = imagenet_run(tmp_path / 'run', entries=[train(10, 3., 1), train(20, 2., 1), ({'accuracy/top1': 1.}, 1)])
    write_start(run, config_of(IMAGENET), [train(20, 1.9, 1), train(30, 1., 2), ({'accuracy/top1': 2.}, 2)],
                '20260101_030000', ('03', '06'))
    frame, _ = collect(tmp_path)
    row = one(frame, 'accuracy/top1')
    assert (row['value'], row['hours'], row['step']) == (2., 2 + 3, 30)
    assert '20260101_030000' in row['log']
    # Begun anew in the same folder: what was before is no part of it.
    write_start(run, config_of(IMAGENET), [train(10, 5., 1)], '20260101_080000', ('08', '09'))
    frame, _ = collect(tmp_path)
    assert one(frame, 'loss')['value'] == 5. and one(frame, 'loss')['hours'] == 1
    assert not (frame['metric'] == 'accuracy/top1').any()
    assert set(frame['status']) == {'running'} and set(frame['checkpoint']) == {''}  # epoch_100.pth is from before


def test_without_a_text_log_the_hours_are_those_of_the_iterations(tmp_path):
    run = imagenet_run(tmp_path / 'run', entries=[train(3600, 1., 1), train(7200, 1., 1), ({'accuracy/top1': 1.}, 1)])
    next(run.glob('*/*.log')).unlink()
    assert one(collect(tmp_path)[0], 'loss')['hours'] == 1


def test_a_log_cut_in_the_middle_of_a_line_is_read_up_to_there(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    file = next(run.glob('*/vis_data/scalars.json'))
    whole, _ = collect(tmp_path)
    with open(file, 'ab') as log:
        log.write(b'7\n{"step": null, "loss": 1}\n{"lr": 0.1, "loss": 2.\xff')
    pandas.testing.assert_frame_equal(collect(tmp_path)[0], whole)


def test_tests_belong_to_the_run_that_wrote_their_checkpoint(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    cfg = config_of(IMAGENET)
    write_test(run / 'test', cfg, '/moved/run/epoch_50.pth', {'accuracy/top1': 80.})
    write_test(run / 'test', cfg, run / 'epoch_100.pth', {'accuracy/top1': 84.7}, '20260103_000000')
    cfg.model = dict(type='AverageClsScoreTTA', module=cfg.model)
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 85.})  # as mmengine does without --work-dir
    frame, skipped = collect(tmp_path)
    rows = frame[frame['metric'] == 'accuracy/top1']
    assert set(frame['run']) == {'run'} and not skipped
    assert sorted(zip(rows['split'], rows['value'], rows['cell'] != '', rows['checkpoint'], strict=True)) == [
        ('test', 80., False, 'run/epoch_50.pth'), ('test', 84.7, True, 'run/epoch_100.pth'),
        ('test-tta', 85., False, 'run/epoch_100.pth'), ('val', 84.5, True, 'run/epoch_100.pth')]
    assert set(rows['method']) == {'CoMA'}
    write_test(tmp_path / 'alone', config_of(IMAGENET), '/downloaded/epoch_100.pth', {'accuracy/top1': 1.})
    row = one(collect(tmp_path)[0], 'accuracy/top1', run='alone')
    assert (row['split'], row['status'], row['method'], row['cell']) == ('test', 'finished', 'unknown', '')


def test_a_test_on_a_part_of_the_data_is_in_no_table_and_takes_no_others_place(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    cfg = config_of(IMAGENET)
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 84.7}, images=50_000)
    cfg.test_dataloader.dataset.indices = 6
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 100.}, '20260103_000000', images=6)
    del cfg.test_dataloader.dataset['indices']
    cfg.test_dataloader.num_batch_per_epoch = 1
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 99.}, '20260104_000000', images=64)
    frame, skipped = collect(tmp_path)
    rows = frame[(frame['metric'] == 'accuracy/top1') & (frame['split'] != 'val')]
    assert [tuple(row) for row in rows[['split', 'value', 'images', 'data', 'cell']].to_numpy()] == [
        ('test', 84.7, 50_000, 'val', 'table2/coma_dyvit-b_800'), ('test-part', 100., 6, 'val, indices=6', ''),
        ('test-part', 99., 64, 'val, num_batch_per_epoch=1', '')]
    assert [(one.path, 'a part of the data (val, indices=6)' in one.reason) for one in skipped] == [
        ('run/20260103_000000', True), ('run/20260104_000000', False)]


def test_beside_the_papers_numbers_stand_those_of_whole_validation_sets(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    file = run / 'provenance.json'
    for images, cell in ((50_000, 'table2/coma_dyvit-b_800'), (1000, '')):
        file.write_text(json.dumps(json.loads(file.read_text()) | dict(val_images=images)))
        row = one(collect(tmp_path)[0], 'accuracy/top1')
        assert (row['images'], row['data'], row['cell']) == (images, 'val', cell)
    shutil.rmtree(run)
    imagenet_run(tmp_path / 'part', val_dataloader__dataset__indices=6)
    row = one(collect(tmp_path)[0], 'accuracy/top1')
    assert (row['data'], row['cell']) == ('val, indices=6', '')


def test_a_test_from_before_a_run_began_anew_is_not_its_own(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    cfg = config_of(IMAGENET)
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 70.})
    write_start(run, cfg, [train(1252, 5., 1), train(125_000, 2., 100), ({'accuracy/top1': 84.}, 100)], '20260103_000000')
    (run / 'epoch_100.pth').touch()
    frame, skipped = collect(tmp_path)
    assert one(frame, 'accuracy/top1')['value'] == 84. and [one.path for one in skipped] == ['run/20260102_000000']
    assert 'is of an earlier run' in skipped[0].reason
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 84.2}, '20260104_000000')
    assert one(collect(tmp_path)[0], 'accuracy/top1', split='test')['value'] == 84.2


def test_a_test_with_other_settings_than_the_runs_is_in_no_table(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    cfg = config_of(IMAGENET)
    cfg.test_dataloader.dataset.pipeline[-2].crop_size = 448
    write_test(run, cfg, run / 'epoch_100.pth', {'accuracy/top1': 90.})
    frame, skipped = collect(tmp_path)
    row = one(frame, 'accuracy/top1', value=90.)
    assert (row['split'], row['cell']) == ('test-other', '')
    assert [one.path for one in skipped] == ['run/20260102_000000']
    assert '(test_pipeline.CenterCrop.crop_size)' in skipped[0].reason


def test_a_checkpoint_of_another_run_of_that_name_is_not_this_runs_unless_it_is_a_copy(tmp_path):
    run = imagenet_run(tmp_path / 'here/run')
    other = tmp_path / 'there/run'
    (other / '20250101_000000').mkdir(parents=True)
    write_test(run, config_of(IMAGENET), other / 'epoch_100.pth', {'accuracy/top1': 70.})
    frame, skipped = collect(tmp_path / 'here')
    assert set(frame['split']) == {'train', 'val'} and 'which none of these runs has written' in skipped[0].reason
    (other / '20260101_000000').mkdir()
    assert one(collect(tmp_path / 'here')[0], 'accuracy/top1', split='test')['cell'] == 'table2/coma_dyvit-b_800'


def test_a_validation_that_is_not_the_last_ones_is_no_result_of_a_run_that_has_ended(tmp_path):
    entries = [train(112_500, 2.6, 90), ({'accuracy/top1': 83.}, 90), train(125_000, 2.5, 100)]
    imagenet_run(tmp_path / 'run', entries=entries)
    row = one(collect(tmp_path)[0], 'accuracy/top1')
    assert (row['status'], row['cell']) == ('finished', '')


def test_a_test_whose_visualizer_wrote_elsewhere_is_found_or_named(tmp_path):
    run = imagenet_run(tmp_path / 'run')
    cfg = config_of(IMAGENET)
    for name, value in (('20260102_000000', 80.), ('20260103_000000', 81.)):
        write_test(run / 'tested', cfg, run / 'epoch_100.pth', {'accuracy/top1': value}, name)
        shutil.move(run / f'tested/{name}/vis_data/config.py', run / 'tested/dumped.py')
    frame, skipped = collect(tmp_path)
    assert one(frame, 'accuracy/top1', split='test')['value'] == 81.
    assert [(one.path, one.reason.partition(' (')[0]) for one in skipped] == [
        ('run/tested/20260102_000000', 'a test without its config')]


def test_a_detector_that_finds_nothing_has_ap_0(tmp_path):
    write_run(tmp_path / 'run', config_of('shapes/mask-rcnn_dyvit-tiny_scratch_shapes'),
              [train(10, 1., 1), (dict(data_time=.1, time=.2), 1)])
    frame, _ = collect(tmp_path)
    assert one(frame, 'coco/bbox_mAP')['value'] == 0 and one(frame, 'coco/segm_mAP')['value'] == 0


# ---------------------------------------------------------------------------------------------------------------------
# Logs that this project did not write
# ---------------------------------------------------------------------------------------------------------------------
@DATASETS.register_module()
class NoisePictures(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return dict(inputs=torch.rand(3, 32, 32), data_samples=DataSample().set_gt_label(index % 2))


def test_a_run_of_mmpretrain_with_mmengines_runner(tmp_path):
    loader = dict(batch_size=4, dataset=dict(type='NoisePictures', _scope_='mmengine'),
                  sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='default_collate'))
    cfg = Config(dict(
        default_scope='mmpretrain', experiment_name='foreign_run', work_dir=str(tmp_path / 'run'),
        model=dict(
            type='ImageClassifier', data_preprocessor=dict(num_classes=2),
            backbone=dict(type='VisionTransformer', img_size=32, patch_size=16,
                          arch=dict(embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8)),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=8)),
        train_dataloader=loader, val_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=2), val_cfg={},
        val_evaluator=dict(type='Accuracy', topk=(1, )), optim_wrapper=dict(optimizer=dict(type='SGD', lr=.1)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)), randomness=dict(seed=5),
        visualizer=dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')], _scope_='mmpretrain')))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        Runner.from_cfg(cfg).train()
    frame, skipped = collect(tmp_path)
    row = one(frame, 'accuracy/top1')
    assert not skipped and 0 <= row['value'] <= 100
    assert row[['task', 'status', 'method', 'backbone', 'seed', 'global_batch', 'epochs', 'step']].tolist() == [
        'classification', 'finished', 'scratch', 'ViT-custom', 5, 4, 2, 4]
    assert row['world_size'] == 1
    assert row['device'] == 'CPU' and 'torch 2.' in row['versions'] and row['cell'] == '' and row['command'] == ''
    assert row['checkpoint'] == 'run/epoch_2.pth' and row['hours'] >= 0
    # What it pre-trained, by the folder of the checkpoint: nothing else is recorded.
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'run/epoch_2.pth'), prefix='backbone')
    write_run(tmp_path / 'next', cfg, [train(4, 1., 2), ({'accuracy/top1': 50.}, 2)])
    row = one(collect(tmp_path)[0], 'accuracy/top1', run='next')
    assert (row['method'], row['pretrain_epochs'], row['pretrain_run']) == ('supervised', 2, 'run')
    assert (row['world_size'], row['device'], row['global_batch']) == (4, 'NVIDIA H200', 16)  # by the text log


@pytest.mark.parametrize('name, entries, metric, expected', [
    ('mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512.py',
     [dict(lr=.01, data_time=.01, loss=3.2, **{'decode.loss_ce': 2., 'decode.acc_seg': 3., 'aux.loss_ce': 1.}, time=.3,
           iter=160_000, memory=8192), (dict(aAcc=80., mIoU=42.05, mAcc=53., data_time=.1, time=.2), 160_000)],
     'mIoU', ('segmentation', 'ADE20K', 42.05, 'finished', 16, 'ResNet-50')),
    ('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
     [dict(lr=.02, data_time=.01, loss=.6, loss_rpn_cls=.1, loss_mask=.2, acc=99., time=.3, epoch=12, iter=87_960,
           memory=8192), ({'coco/bbox_mAP': .382, 'coco/segm_mAP': .347, 'data_time': .1, 'time': .2}, 12)],
     'coco/bbox_mAP', ('detection', 'COCO', 38.2, 'finished', 8, 'ResNet-50')),
    ('mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py',
     [dict(lr=1e-4, data_time=.01, loss=.39, time=.3, epoch=800, iter=249_600, memory=8192)],
     'loss', ('pretraining', 'ImageNet-1K', .39, 'stopped', 2048, 'ViT-B')),
], ids=['mmseg', 'mmdet', 'mmpretrain'])
def test_logs_of_the_three_libraries(tmp_path, name, entries, metric, expected):
    base = tmp_path / 'base.py'
    base.write_text(f'_base_ = {name!r}\n')
    write_run(tmp_path / 'run', Config.fromfile(base), entries)
    base.unlink()
    frame, skipped = collect(tmp_path)
    row = one(frame, metric)
    assert not skipped and row[['task', 'dataset', 'value', 'status', 'global_batch', 'backbone']].tolist() == list(
        pytest.approx(value) if isinstance(value, float) else value for value in expected)
    assert (row['world_size'], row['device'], row['versions']) == (4, 'NVIDIA H200', 'torch 2.15.0, mmengine 0.10.12')
    assert row['peak_memory_gb'] == 8 and (row['mask_ratio'] == .75) == (metric == 'loss')


# ---------------------------------------------------------------------------------------------------------------------
# What is no run
# ---------------------------------------------------------------------------------------------------------------------
def test_what_cannot_be_read_is_named_with_the_reason(tmp_path):
    good = imagenet_run(tmp_path / 'deep/er/good')

    def broken(name, change):
        shutil.copytree(good, tmp_path / name)
        change(tmp_path / name)

    def empty_log(run):
        (run / '20260101_000000/vis_data/scalars.json').write_text('{"lr": 0.1, "lo')

    def no_config(run):
        (run / 'dumped.py').unlink()
        (run / '20260101_000000/vis_data/config.py').unlink()

    broken('empty_log', empty_log)
    broken('no_config', no_config)
    broken('no_log', lambda run: shutil.rmtree(run / '20260101_000000/vis_data'))
    broken('bad_config', lambda run: (run / '20260101_000000/vis_data/config.py').write_text('model = dict(\x00'))
    broken('no_model', lambda run: (run / '20260101_000000/vis_data/config.py').write_text('a = 1'))
    broken('bad_facts', lambda run: (run / 'provenance.json').write_text('{"algo'))
    broken('other', lambda run: (run / '20260101_000000/vis_data/config.py').write_text(
        "default_scope = 'mmpretrain'\nmodel = dict(type='os.path.Retriever')"))
    for number, text in enumerate((
            "default_scope = 'mmseg'\nmodel = dict(type='EncoderDecoder', backbone=[1])",
            "default_scope = 'mmseg'\nmodel = dict(type='EncoderDecoder')\ntrain_cfg = [1]",
            "default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN')\ntrain_dataloader = 3",
            "default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN', x={[]: 1})")):
        broken(f'odd{number}', lambda run, text=text: (run / '20260101_000000/vis_data/config.py').write_text(text))
    broken('odd_facts', lambda run: (run / 'provenance.json').write_text('{"backbone_from": "CoMA"}'))
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old/20200101_000000.log.json').write_text('{"mode": "train"}')
    (tmp_path / 'pictures/inner').mkdir(parents=True)
    (tmp_path / 'weights').mkdir()
    (tmp_path / 'weights/vit.pth').touch()
    frame, skipped = collect(tmp_path)
    assert set(frame['run']) == {'deep/er/good'}
    reasons = {one.path: one.reason for one in skipped}
    expected = dict(
        empty_log='no whole line', no_config='no config', no_log='nothing was logged', bad_config='cannot read the config',
        no_model='no key model', bad_facts='provenance.json is damaged', other='a Retriever of mmpretrain',
        odd0='not of the usual form', odd1='not of the usual form', odd2='not of the usual form',
        odd3='cannot read the config', odd_facts='not of the usual form',
        old='mmcv 1.x', pictures='no run in it', weights='nothing was logged')
    assert reasons.keys() == expected.keys()
    for path, reason in expected.items():
        assert reason in reasons[path] and '\n' not in reasons[path], reasons


def test_configs_are_read_not_run(tmp_path):
    file = tmp_path / 'config.py'
    file.write_text("import os\na = dict(b=[1, (2.5, None)], c={'d': True})\nb = os.system('exit')\nx, y = 1, 2\n")
    assert read_config(file) == dict(a=dict(b=[1, [2.5, None]], c=dict(d=True)), b="os.system('exit')")
    for path in (ROOT / 'configs/shapes').glob('*_scratch_shapes.py'):
        cfg = Config.fromfile(path)
        with nullcontext() if path.stem.startswith('dyvit') else unformatted():
            cfg.dump(str(file))
        assert read_config(file) == json.loads(json.dumps(cfg.to_dict()))


def test_the_tool(tmp_path, run_tool):
    assert 'no folder ' in run_tool('benchmark.py', 'collect', tmp_path / 'nowhere', code=2)
    out = run_tool('benchmark.py', 'collect', tmp_path).splitlines()
    assert len(out) == 2 and 'make demo' in out[0] and read(tmp_path / 'benchmark/runs.csv').empty
    imagenet_run(tmp_path / 'run')
    (tmp_path / 'junk').mkdir()
    out = run_tool('benchmark.py', 'collect', tmp_path).splitlines()
    assert out[0] == 'skipped junk: no run in it' and '1 runs (1 finished), 3 rows, 1 folders skipped' in out[1]
    pandas.testing.assert_frame_equal(read(tmp_path / 'benchmark/runs.csv'), collect(tmp_path)[0])


def test_the_file_is_read_as_it_was_written(tmp_path):
    (tmp_path / 'other.csv').write_text('a,b\n1,2\n')
    with pytest.raises(UserError, match='no column run'):
        read(tmp_path / 'other.csv')
    with pytest.raises(UserError, match='cannot read'):
        read(tmp_path / 'nowhere.csv')
    imagenet_run(tmp_path / 'run', float('nan'))
    frame, _ = collect(tmp_path)
    write(frame, tmp_path / 'runs.csv')
    again = read(tmp_path / 'runs.csv')
    pandas.testing.assert_frame_equal(again, frame)
    assert math.isnan(one(again, 'accuracy/top1')['value'])


@pytest.mark.parametrize('step', [
    dict(type='LoadRandomResizedCrop', scale=224), dict(type='RandomResizedCrop', scale=224),
    dict(type='RandomCrop', crop_size=[192, 224]), dict(type='Resize', scale=[224, 224])])
def test_the_size_of_training_images_is_that_of_the_step_that_makes_it(step):
    dataset = dict(type='ImageFolder', pipeline=[dict(type='LoadImage'), step])
    assert image_size_of(dict(train_dataloader=dict(dataset=dataset))) == 224
