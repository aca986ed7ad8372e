"""A detection that is written from COCO files."""
import json

import numpy as np
import pytest

from coma_mm.errors import UserError

CATEGORIES = {3: 'car', 7: 'bus', 1: 'cat', 22: "driver's dog", 9: 'tree'}


def coco(count=20, mask=True):
    """A COCO export: ids of categories with gaps and in no order, one category without an object, one image without one."""
    chance, annotations = np.random.RandomState(0), []
    for image in range(1, count):
        for _ in range(3):
            x, y = map(int, chance.randint(0, 40, 2))
            annotations.append(dict(
                id=len(annotations) + 1, image_id=image, category_id=list(CATEGORIES)[len(annotations) % 5],
                bbox=[x, y, 24, 20], area=480, iscrowd=0,
                segmentation=[[x, y, x + 24, y, x + 24, y + 20, x, y + 20]] if mask else []))
    return dict(
        images=[dict(id=number, file_name=f'{number}.jpg', width=96, height=64) for number in range(count)],
        annotations=annotations,
        categories=[dict(id=0, name='all', supercategory='none'),
                    *(dict(id=number, name=name) for number, name in CATEGORIES.items())])


@pytest.fixture
def export(tmp_path, noise):
    """Writes a folder of images and a file: (content) -> the options."""

    def write(content):
        for image in content['images']:
            noise(tmp_path / 'export/images' / image['file_name'])
        (tmp_path / 'export/train.json').write_text(json.dumps(content))
        return dict(images=str(tmp_path / 'export/images'), train=str(tmp_path / 'export/train.json'))

    return write


def test_an_export_of_five_classes_is_split_by_a_seed_and_trained_on(export, written, runs, capsys):
    cfg, text, summary = written('detection', **export(coco()))
    assert summary == (
        '20 images with 57 objects of 5 classes, 2 held out by a seed: Mask R-CNN with DyViT-tiny at 128 px, from scratch; '
        'update 2, lr 5e-4 by the linear rule (1e-3 × 2/4), 112 epochs (1000 updates, as the images are few). '
        'No object is of all, which is left out. Images without an object (1) teach what is none.')
    assert cfg.train_dataloader.dataset.metainfo.classes == tuple(CATEGORIES.values())
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 5
    assert not set(cfg.train_dataloader.dataset.indices) & set(cfg.val_dataloader.dataset.indices)
    cfg.model.test_cfg.rcnn.score_thr = 0.
    runs(cfg)
    assert 'coco/segm_mAP' in capsys.readouterr().out


def test_boxes_alone_are_learnt_where_there_are_no_masks(export, written, runs, capsys):
    cfg, text, summary = written('detection', **export(coco(mask=False)), arch='tiny', epochs=2)
    assert 'boxes by Mask R-CNN' in summary and cfg.model.roi_head.mask_head is None
    cfg.model.test_cfg.rcnn.score_thr = 0.
    runs(cfg)
    out = capsys.readouterr().out
    assert 'coco/bbox_mAP' in out and 'segm' not in out


def test_larger_models_have_their_pipelines_sizes_and_schedule(export, written, tmp_path):
    (tmp_path / 'pretrain.py').write_text("model = dict(backbone=dict(type='DyViT', arch='small', patch_size=16))\n")
    (tmp_path / 'last.pth').touch()
    options = export(coco())
    for arch, pretrained in (('base', None), ('small', str(tmp_path / 'last.pth'))):
        cfg, text, summary = written('detection', **options, val=options['train'], arch=arch, size=160,
                                     pretrained=pretrained)
        assert 'Of the images for validation 20 are trained on, too' in summary
        assert 'random' not in text and cfg.val_evaluator.ann_file == options['train']
        pad, = cfg.model.data_preprocessor.batch_augments
        steps = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
        assert pad.size == steps['RandomResize'].scale == steps['RandomCrop'].crop_size == (160, 160)
        assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 422 and cfg.param_scheduler[0].end == 200
        init = cfg.model.backbone.init_cfg
        assert init.type == ('Pretrained' if pretrained else 'Xavier')
        assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == (0.75 if pretrained else 1)
    assert cfg.model.neck.in_channels == [96, 192, 768] and cfg.model.backbone.out_indices == (0, 1, 3)


def test_images_are_found_beside_their_files_or_in_folders(tmp_path, noise, written):
    """As exports of labelling tools have them: train/_annotations.coco.json among its images, and valid likewise."""
    for split in ('train', 'valid'):
        for image in coco(4)['images']:
            noise(tmp_path / split / image['file_name'])
        (tmp_path / split / 'a.json').write_text(json.dumps(coco(4)))
    cfg, _, _ = written('detection', images=str(tmp_path), train=f'{tmp_path}/train/a.json', val=f'{tmp_path}/valid/a.json')
    for split, folder in (('train', 'train'), ('val', 'valid')):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert (dataset.data_prefix.img, dataset.ann_file, dataset.data_root) == (folder, f'{folder}/a.json', str(tmp_path))
    (tmp_path / 'valid/a.json').rename(tmp_path / 'instances_valid.json')
    with pytest.raises(UserError, match='--val .*'):
        written('detection', images=str(tmp_path / 'train'), train=f'{tmp_path}/train/a.json', val=f'{tmp_path}/a.json')
    (tmp_path / 'train/a.json').rename(tmp_path / 'all.json')
    with pytest.raises(UserError, match='are in .*/train, .*/valid alike; name the right folder by --images'):
        written('detection', images=str(tmp_path), train=f'{tmp_path}/all.json', val=f'{tmp_path}/instances_valid.json')


def test_what_is_wrong_is_said_in_a_line(export, written, tmp_path):
    def message(change=None, **what):
        content = coco(6)
        options = export(content)
        if change:
            change(content)
            (tmp_path / 'export/train.json').write_text(json.dumps(content))
        with pytest.raises(UserError) as error:
            written('detection', **{**options, **what})
        return str(error.value)

    assert 'has no categories' in message(lambda content: content.update(categories=[], annotations=[]))
    assert "has no list 'categories'" in message(lambda content: content.pop('categories'))
    assert 'has no object' in message(lambda content: content.update(annotations=[]))
    assert 'names no image' in message(lambda content: content.update(images=[], annotations=[]))
    assert '1 file of the 6 that' in message(lambda content: content['images'][2].update(file_name='gone.jpg'))
    assert 'no such file' in message(train='none.json') and '--train is missing' in message(train=None)
    (tmp_path / 'val.json').write_text(json.dumps({**coco(6), 'categories': [
        dict(id=number, name=f'other {number}') for number in CATEGORIES]}))
    assert 'has objects of other 3, other 7, other 1, …' in message(val=str(tmp_path / 'val.json'))
