"""Pickles and YAML are read without running code."""
import collections
import pickle

import mmengine
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import HistoryBuffer

from coma_mm.engine.explain import explain
from coma_mm.weights import safe_pickle
from coma_mm.weights.safe_pickle import plain, restore_curves


class Call:
    """Pickled as a call of any function."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args, state)

    def __reduce__(self):
        return self.parts


def hostile_values(path):
    """Pickles that create a file, or that would make NumPy read foreign memory."""
    pointers = ('|', None, ('f', ), dict(f=(np.dtype('O'), 0)), 8, 1, 0)
    return dict(
        open=Call(open, str(path), 'w'),
        object_array=np.array([Call(open, str(path), 'w')]),
        objects=np.array([1, None]),
        fields=np.zeros(2, [('a', 'f4')]),
        dtype=Call(np.dtype, 'V8', False, True, state=(3, *pointers)),
        codec=Call(__import__('_codecs').encode, 'file', 'rot13'),
        evaluated=Call(eval, f'open({str(path)!r}, "w")'),
    )


@pytest.mark.parametrize('protocol', [0, 2, 3, 4, 5])
def test_no_pickle_runs_code(tmp_path, protocol):
    for name, value in hostile_values(tmp_path / 'created').items():
        with open(tmp_path / 'a.pkl', 'wb') as file:
            pickle.dump(dict(a=value), file, protocol)
        with pytest.raises(pickle.UnpicklingError):
            mmengine.load(tmp_path / 'a.pkl')
        assert not (tmp_path / 'created').exists(), name


@pytest.mark.parametrize('protocol', [2, 4])
def test_annotations_in_pickles_are_read(tmp_path, protocol):
    boxes = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    content = dict(
        a=[1, 2.5, 'b', b'c', None, {4}], boxes=boxes, order=np.asfortranarray(boxes), swapped=boxes.astype('>f4'),
        names=np.array(['e', 'fg']), score=np.float64(0.5), count=np.int64(3), mapping=collections.OrderedDict(d=1))
    with open(tmp_path / 'a.pkl', 'wb') as file:
        pickle.dump(content, file, protocol)
    loaded = mmengine.load(tmp_path / 'a.pkl')
    for key in ('boxes', 'order', 'swapped', 'names'):
        np.testing.assert_array_equal(loaded.pop(key), content.pop(key))
    assert loaded == content and type(loaded['score']) is float


def test_a_refused_pickle_of_a_data_set_is_named(tmp_path, monkeypatch):
    with open(tmp_path / 'a.pkl', 'wb') as file:
        pickle.dump(Call(open, str(tmp_path / 'created'), 'w'), file)
    with pytest.raises(pickle.UnpicklingError) as caught:
        BaseDataset(ann_file=str(tmp_path / 'a.pkl'))
    line = explain(caught.value)
    assert 'BaseDataset cannot read' in line and str(tmp_path / 'a.pkl') in line and 'open' in line
    assert 'pass --trust-checkpoint' in line and '\n' not in line and not (tmp_path / 'created').exists()
    monkeypatch.setattr(safe_pickle, 'trusted', True)
    mmengine.load(tmp_path / 'a.pkl')
    assert (tmp_path / 'created').exists()


def test_yaml_names_no_code(tmp_path):
    (tmp_path / 'a.yaml').write_text(f'a: !!python/object/apply:builtins.open [{tmp_path}/created, w]')
    with pytest.raises(Exception, match='could not determine a constructor'):
        mmengine.load(tmp_path / 'a.yaml')
    assert not (tmp_path / 'created').exists()
    (tmp_path / 'a.yaml').write_text('a: [1, 2.5, b]')
    assert mmengine.load(tmp_path / 'a.yaml') == dict(a=[1, 2.5, 'b'])


def test_plain_values_need_no_class_and_come_back(tmp_path):
    class Dict(dict):
        pass

    curve = HistoryBuffer([1.5, 2.25], [1, 2])
    hub = dict(log_scalars=dict(loss=curve), runtime_info=Dict(best=np.float32(0.5), flags=np.array([True, False]), other=(
        1, [None, 'a', np.str_('b')], Dict(c=np.int64(2)), object)))
    torch.save(plain(hub), tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded['runtime_info'] == dict(best=0.5, flags=[True, False], other=(1, [None, 'a', 'b'], dict(c=2), str(object)))
    restore_curves(loaded)
    for values, expected in zip(loaded['log_scalars']['loss'].data, curve.data, strict=True):
        np.testing.assert_array_equal(values, expected)
        assert values.dtype == expected.dtype


@pytest.mark.parametrize('module', ['numpy._core.multiarray', 'numpy.core.multiarray'])
def test_what_mmengines_own_checkpoints_hold_is_read(tmp_path, module):
    curve = HistoryBuffer([1.5, 2.25], [1, 2])
    content = dict(curve=curve, best=np.float64(0.5), ids=np.arange(3), wide=np.float32(2), flag=np.bool_(True))
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    old = (tmp_path / 'a.pth').read_bytes().replace(b'numpy._core.multiarray', module.encode())
    (tmp_path / 'a.pth').write_bytes(old)
    with torch.serialization.safe_globals([(value, name) for name, value in safe_pickle.STAND_INS.items()]):
        loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert isinstance(loaded['curve'], HistoryBuffer)
    assert loaded['curve'].statistics('mean') == 1.25 and loaded['curve'].statistics('current') == 2.25
    loaded['curve'].update(3.0)
    assert (loaded['best'], loaded['wide'], loaded['flag']) == (0.5, 2, True) and loaded['ids'].tolist() == [0, 1, 2]
