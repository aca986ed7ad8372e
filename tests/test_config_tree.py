"""What is found in the nested dicts and lists of a config, and in which order."""
from coma_mm.config_tree import data_sets, find_key, find_types, walk

LOADER = dict(
    batch_size=2,
    dataset=dict(type='Wrapper', datasets=[
        dict(type='x.Images', data_root=None, pipeline=(dict(type='Load', data_root='inner'), 'text')),
        dict(type=dict, data_root='b')]))


def test_all_dicts_are_walked_depth_first():
    assert [one.get('type') for one in walk(LOADER)] == [None, 'Wrapper', 'x.Images', 'Load', dict]
    assert list(walk(None)) == list(walk('text')) == list(walk(3)) == []


def test_what_is_looked_for_is_found_by_class_name_and_by_key():
    assert [one['data_root'] for one in find_types(LOADER, 'dict')] == ['b']
    assert list(find_types([LOADER], 'Images')) == [LOADER['dataset']['datasets'][0]]
    assert find_key(LOADER, 'batch_size') == 2 and find_key(LOADER, 'data_root') == 'inner'
    assert find_key(LOADER, 'nothing') is None and find_key(None, 'x') is None


def test_data_sets_are_those_inside_wrappers():
    assert list(data_sets(LOADER)) == LOADER['dataset']['datasets'] and list(data_sets(None)) == []
