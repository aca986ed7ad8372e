"""What a data loader of a config evaluates on has a name, and a part of a data set is told from the whole."""
import pytest

from coma_mm.config.evaluated import images_named, is_part


@pytest.mark.parametrize('dataset, name, part', [
    (dict(data_root='data/ade', data_prefix=dict(img_path='images/validation', seg='a')), 'images/validation', False),
    (dict(data_root='data/coco', ann_file='annotations/val.json', data_prefix=dict(img='v')), 'annotations/val.json', False),
    (dict(data_root='data/coco/', ann_file='data/coco/annotations/val.json'), 'annotations/val.json', False),
    (dict(ann_file='/somewhere/annotations/val.json'), 'annotations/val.json', False),
    (dict(type='ImageNet', data_root='x', split='val'), 'val', False),
    (dict(type='ImageFolder', data_root='x', part='val'), 'val', False),
    (dict(type='Noise'), 'Noise', False),
    (dict(type='CustomDataset', data_root='images/val'), 'val', False),
    (dict(data_prefix='val/', indices=6), 'val, indices=6', True),
    (dict(data_prefix='val', indices=[1, 2, 3]), 'val, indices=3 of them', True),
    (dict(type='RepeatDataset', dataset=dict(data_prefix='val', indices=6)), 'val, indices=6', True),
    (dict(type='ConcatDataset', datasets=[dict(data_prefix='a'), dict(data_prefix='b')]), 'a + b', False),
])
def test_data_sets(dataset, name, part):
    assert (images_named(dict(dataset=dataset)), is_part(dict(dataset=dataset))) == (name, part)


def test_so_many_batches_are_a_part():
    loader = dict(dataset=dict(data_prefix='val'), num_batch_per_epoch=3)
    assert images_named(loader) == 'val, num_batch_per_epoch=3' and is_part(loader)
    for odd in (None, 'text', dict(dataset=3)):
        assert images_named(odd) == '' and not is_part(odd)
