"""Another folder in the place of a config's data_root, and missing data found by looking at the config alone."""
import os
import random
from pathlib import Path

import mmdet
import mmpretrain
import mmseg
import pytest
from mmengine.config import Config

from coma_mm.config.data_roots import check_data_roots, use_data_root
from coma_mm.config.read import read_config, register_libraries
from coma_mm.config_tree import type_name
from coma_mm.errors import UserError

ROOT = Path(__file__).parents[2]
SPLITS = ('train', 'val', 'test')


def make(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def config(scope='mmpretrain', evaluator=None, **dataset):
    cfg = Config(dict(default_scope=scope, val_dataloader=dict(dataset=dataset), val_evaluator=evaluator or {}))
    register_libraries(cfg.get('default_scope', 'mmengine'))
    return cfg


def missing(*args, **kwargs):
    """str: The error's line, or ''."""
    try:
        check_data_roots(config(*args, **kwargs), ['val'])
    except UserError as error:
        return str(error)
    return ''


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('name, old', [
    ('mmpretrain::_base_/datasets/imagenet_bs64.py', 'data/imagenet'),
    ('mmseg::_base_/datasets/ade20k.py', 'data/ade/ADEChallengeData2016'),
    ('mmdet::_base_/datasets/coco_instance.py', 'data/coco'),
    ('mmdet::_base_/datasets/lvis_v1_instance.py', 'data/lvis_v1'),
    (f'{ROOT}/configs/coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py', 'data/images'),
])
def test_data_root_is_replaced_in_data_sets_and_evaluators(name, old, monkeypatch):
    """The config as text, with the old root replaced, is the config with the root replaced."""
    monkeypatch.delenv('IMAGE_ROOT', raising=False)
    Path('my.py').write_text(f'_base_ = {name!r}')
    cfg = Config.fromfile('my.py')
    expected = str({key: cfg[key] for key in cfg if key.endswith(('dataloader', 'evaluator'))})
    assert expected.count(old) >= 3
    for new in ('/big/set', 'else/where/'):
        changed = Config.fromfile('my.py')
        use_data_root(changed, new)
        text = str({key: changed[key] for key in changed if key.endswith(('dataloader', 'evaluator'))})
        assert text == expected.replace(old, new.rstrip('/'))


def test_options_win_over_data_root():
    Path('my.py').write_text("_base_ = 'mmdet::_base_/datasets/coco_instance.py'\nmodel = dict(type='MaskRCNN')\n"
                             "default_scope = 'mmdet'")
    options = {'val_dataloader.dataset.data_root': 'third/'}
    cfg = read_config('my.py', options, data_root='/new')
    assert [cfg[f'{split}_dataloader'].dataset.data_root for split in SPLITS] == ['/new/', 'third/', '/new/']
    assert cfg.val_evaluator.ann_file == '/new/annotations/instances_val2017.json'


def test_no_root_or_several_to_replace():
    with pytest.raises(UserError, match='no data set of the config has a data_root'):
        use_data_root(config(type='CustomDataset', data_prefix='/images'), 'new')
    several = config(type='ConcatDataset', datasets=[dict(type='A', data_root='a/'), dict(type='B', data_root='b')])
    with pytest.raises(UserError, match='data sets of the config are in a and b; set each by --cfg-options'):
        use_data_root(several, 'new')
    same = config(type='RepeatDataset', times=2, dataset=[dict(type='A', data_root='a/'), dict(type='B', data_root='a')])
    use_data_root(same, 'new')
    assert str(same).count("'new") == 2


def test_imagenet():
    def line(**kwargs):
        return missing(type='ImageNet', data_root='d', **kwargs)

    assert 'ImageNet: d/val does not exist; expected folders of classes' in line(split='val')
    make('d/val')
    assert 'd/val is not a folder' in line(split='val')
    os.remove('d/val')
    make('d/val/ILSVRC2012_val_00000001.JPEG')
    assert 'd/val holds no such files; expected folders of classes with images in them, d/val/<class>/' in line(split='val')
    make('d/val/n01440764/1.JPEG')
    assert not line(split='val') and not line(data_prefix='val') and not line(data_prefix=dict(img_path='val'))
    assert 'd/train' in line(split='train')
    # Flat folders: without labels, or with a list of them.
    make('d/train/1.JPEG', 'd/test/1.JPEG')
    assert line(split='train') and not line(split='train', with_label=False) and not line(split='test')
    assert 'd/meta/train.txt does not exist; expected an annotation file' in line(ann_file='meta/train.txt')
    make('d/meta/train.txt')
    assert not line(split='train') and not line(ann_file='meta/train.txt', data_prefix='train')
    assert 'ImageNet' in missing(type='RepeatDataset', times=2, dataset=dict(type='ImageNet', data_root='e', split='val'))


def test_ade20k_and_coco():
    ade = dict(scope='mmseg', type='ADE20KDataset', data_root='d',
               data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'))
    assert 'ADE20KDataset: d/images/validation does not exist; expected images' in missing(**ade)
    make('d/images/validation/1.jpg')
    assert 'd/annotations/validation does not exist; expected segmentation maps' in missing(**ade)
    make('d/annotations/validation/.hidden')
    assert 'd/annotations/validation holds no file' in missing(**ade)
    make('d/annotations/validation/1.png')
    assert not missing(**ade)
    coco = dict(scope='mmdet', type='CocoDataset', data_root='c/', ann_file='a/val.json', data_prefix=dict(img='val/'))
    assert 'CocoDataset: c/a/val.json does not exist; expected an annotation file' in missing(**coco)
    make('c/a/val.json')
    assert 'CocoDataset: c/val does not exist; expected images' in missing(**coco)
    make('c/val/1.jpg')
    assert not missing(**coco)
    assert not missing(**dict(coco, data_root=None, ann_file=os.path.abspath('c/a/val.json'), data_prefix=dict(img='c/val')))
    evaluators = [dict(type='CocoMetric', ann_file='c/a/test.json')]
    assert 'val_evaluator: c/a/test.json does not exist' in missing(**coco, evaluator=evaluators)


def test_what_is_not_known_passes():
    class Mine:
        """No class of mmengine's, and a root that it makes itself."""

    for dataset in (
        dict(type='CIFAR10', data_root='none', split='train'),  # downloads what is missing
        dict(type=Mine, data_root='none', ann_file='none'),
        dict(type='NoSuchType', data_root='none'),
        dict(type='CocoDataset', scope='mmdet', data_root='s3://bucket/coco', ann_file='a.json', data_prefix=dict(img='b')),
        dict(type='CocoDataset', scope='mmdet', data_root='coco', ann_file='a.json', backend_args=dict(backend='petrel')),
        dict(),
    ):
        assert not missing(**dataset)
    assert missing('mmdet', type='CocoDataset', data_root='coco', ann_file='a.json', backend_args=dict(backend='local'))


@pytest.mark.parametrize('library', [mmpretrain, mmseg, mmdet])
def test_no_config_of_the_libraries_confuses_it(library):
    """Any outcome but another error; and a data set that is there raises no alarm."""
    folder = Path(library.__file__).parent / '.mim' / 'configs'
    known = {'mmpretrain': 'ImageNet', 'mmseg': 'ADE20KDataset', 'mmdet': 'CocoDataset'}[library.__name__]
    make('data/imagenet/train/a/1.jpg', 'data/coco/annotations/instances_train2017.json', 'data/coco/train2017/1.jpg',
         *(f'data/ade/ADEChallengeData2016/{part}/training/1.x' for part in ('images', 'annotations')))
    files = sorted(path for path in folder.rglob('*.py') if '_base_' not in path.parts and 'dsdl' not in path.parts)
    seen = 0
    for path in random.Random(1).sample(files, 25):
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
        except Exception:  # some of the shipped files cannot be read at all
            continue
        register_libraries(cfg.get('default_scope', 'mmengine'))
        dataset = (cfg.get('train_dataloader') or {}).get('dataset') or {}
        if type_name(dataset) == known and dataset.get('ann_file', 'train2017').count('train2017'):
            check_data_roots(cfg, ['train'])
            seen += 1
        else:
            try:
                check_data_roots(cfg, SPLITS)
            except UserError:
                pass
    assert seen
