"""Pickles run no code, read no foreign memory and do not unfold; plain values in them are read."""
import argparse
import collections
import datetime
import io
import pathlib
import pickle
import subprocess
import sys
import threading
import time

import mmengine
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR

from coma_mm.engine.explain import explain
from coma_mm.errors import UserError
from coma_mm.weights import load_weights_only, safe_pickle
from coma_mm.weights.safe_pickle import plain, restore_curves
from tests.helpers.pickles import READABLE_NAMES, Call, named, tensor, text, write, write_legacy

RECONSTRUCT = np._core.multiarray._reconstruct
ENCODE = __import__('_codecs').encode


def read(path, value):
    """What `load_weights_only` makes of a value beside weights."""
    return load_weights_only(write(path, dict(state_dict=dict(a=tensor(3)), value=value)))['value']


def array(state, subtype=np.ndarray):
    return Call(RECONSTRUCT, subtype, (0, ), b'b', state=state)


def hostile_values(created):
    """Values whose pickles would create a file, read or write foreign memory, or unfold to gigabytes."""
    pointers = ('|', None, ('f', ), dict(f=(np.dtype('O'), 0)), 8, 1, 0)
    of_objects = Call(np.dtype, 'O8', False, True, state=(3, '|', None, None, None, -1, -1, 63))
    doubled = b'\0' * 8
    for _ in range(40):
        doubled = Call(ENCODE, doubled, 'hex')
    shared = 'a' * 20_000
    return dict(
        opened=Call(open, str(created), 'w'),
        evaluated=Call(eval, f'open({str(created)!r}, "w")'),
        objects=np.array([1, None]),
        object_state=array((1, (1, ), of_objects, False, b'\x01' * 8)),
        object_list=array((1, (1, ), np.dtype('O'), False, [Call(open, str(created), 'w')])),
        fields=np.zeros(2, [('a', 'f4')]),
        field_state=Call(np.dtype, 'V8', False, True, state=(3, *pointers)),
        code=Call(np.dtype, 'f8, O'),
        over_bytes=Call(np.ndarray, (8, ), np.dtype('u1'), b'01234567', 0),
        before_a_buffer=Call(np.ndarray, (8, ), np.dtype('u1'), b'01234567', -64),
        negative_stride=Call(np.ndarray, (8, ), np.dtype('u1'), b'01234567', 0, (-64, )),
        more_shape=array((1, (10**9, ), np.dtype('f8'), False, b'01234567')),
        negative_shape=array((1, (-1, -1), np.dtype('u1'), False, b'0')),
        two_slots=array(((1, (1, ), np.dtype('u1'), False, b'0'), dict(data=1))),
        another_class=Call(RECONSTRUCT, HistoryBuffer, (0, ), b'b'),
        curve=Call(HistoryBuffer, [1.], [1]),
        scalar=Call(np._core.multiarray.scalar, np.dtype('f8'), b'1'),
        codec=Call(ENCODE, 'file', 'rot13'),
        doubled=doubled,
        many_copies=[Call(ENCODE, shared, 'latin1') for _ in range(5000)],
        gigabytes=Call(bytearray, 4 * 10**9),
        storage=Call(torch.UntypedStorage, 4 * 10**9),
        uninitialised=Call(torch.Tensor, 10**9),
        past_its_record=tensor(10**9),
        past_its_storage=tensor(16, (10**6, )),
        before_its_storage=tensor(16, offset=-4),
        negative_size=tensor(-4),
        expanded=tensor(16, (10**9, ), (0, )),
        overflowing=tensor(16, (2, ), (2**62, )),
        attributes=Call(safe_pickle.plain, 1, state=dict(__defaults__=())),
        date=Call(datetime.datetime, b'0123456789', b'0'),
        path=Call(pathlib.PosixPath, *['a' * 100] * 100),
        many_dimensions=array((1, (2**2000, ) * 60_000, np.dtype('f8'), False, b'01234567')),
        set_of_a_tensor=Call(set, tensor(16, (10**7, ), (0, ))),
        size_of_a_tensor=Call(torch.Size, tensor(16, (10**7, ), (0, ))),
    )


@pytest.mark.parametrize('name', hostile_values(''))
def test_a_hostile_checkpoint_is_refused_in_one_line(tmp_path, name):
    begun = time.monotonic()
    with pytest.raises(UserError) as caught:
        read(tmp_path / 'a.pth', hostile_values(tmp_path / 'created')[name])
    assert 'a.pth' in str(caught.value) and '\n' not in str(caught.value) and not (tmp_path / 'created').exists()
    assert time.monotonic() - begun < 10


def legacy_tensor(count, *args, view=None):
    return tensor(count, *args, view=(view, ))


@pytest.mark.parametrize('value, keys', [
    (dict(a=legacy_tensor(8, view=('b', 0, 8)), b=legacy_tensor(8, (10**6, ))), '0'),
    (dict(a=legacy_tensor(8, (1000, ))), ''),
    (dict(a=legacy_tensor(10**9)), ''),
    (dict(a=Call(set, legacy_tensor(8, (10**7, ), (0, )))), '0'),
    (dict(a=Call(torch.Size, legacy_tensor(10**8).parts[1][0])), ''),
    (dict(a=Call(frozenset, legacy_tensor(10**8).parts[1][0])), ''),
], ids=['freed', 'grown', 'huge', 'set', 'size', 'frozenset'])
def test_a_file_of_the_old_format_gets_no_other_memory(tmp_path, value, keys):
    begun = time.monotonic()
    path = write_legacy(tmp_path / 'a.pth', value, keys, (8).to_bytes(8, 'little') + bytes(10**5))
    with pytest.raises(UserError, match='a.pth'):
        load_weights_only(path)
    assert time.monotonic() - begun < 5


def test_values_that_a_file_of_the_old_format_leaves_out_are_not_those_of_older_memory(tmp_path):
    path = write_legacy(tmp_path / 'a.pth', dict(a=legacy_tensor(1000)), values=bytes(4000))
    for _ in range(20):
        used = torch.full((1000, ), 7.)
        del used
        assert not load_weights_only(path)['state_dict']['a'].any()


@pytest.mark.parametrize('opcodes', [b')' + b'\x85' * 500_000, b')' + b'q\0h\0\x86' * 60], ids=['deep', 'doubled'])
@pytest.mark.parametrize('use', [b'}%sNs.', b'cbuiltins\nset\n(](%setR.', b'(Xstoragectorch\nFloatStorage\n%sNNtQ.'])
def test_tuples_in_tuples_as_keys_neither_crash_nor_hang(opcodes, use):
    pickled = use.replace(b'%s', opcodes).replace(b'Xstorage', text('storage'))
    with pytest.raises(pickle.UnpicklingError, match='nested too deeply'), safe_pickle.only_plain_values(len(pickled)):
        torch._weights_only_unpickler.load(io.BytesIO(pickled))


@pytest.mark.parametrize('legacy', [False, True])
def test_complex_tensors_are_read_as_they_were_seen(tmp_path, legacy):
    values = torch.tensor([1 + 2j, 3j])
    weights = dict(plain=values, conjugate=values.conj(), negative=torch._neg_view(torch.ones(2)), number=values[1])
    torch.save(weights, tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    for name, value in load_weights_only(tmp_path / 'a.pth')['state_dict'].items():
        assert torch.equal(value, weights[name]) and not value.is_conj() and not value.is_neg(), name


def test_every_name_refuses_arguments_that_it_does_not_expect():
    """Called, made without a call, and given a state: what comes of it is a plain value, or a refusal."""
    arguments = [b'', b'N', b'J\xff\xff\xff\x7f', text('x'), text('O8') + b'\x89\x88', b']', b'}', b'G' + b'\x7f' * 8,
                 text('x') + text('hex'), text('x') + b'K\x01', named('numpy.ndarray'), named('builtins.getattr')]
    calls = [b'R', b'\x81', *(b'\x81' + state + b'b' for state in (
        b'N', b'}', b'NN\x86', b'}' + text('__new__') + b'Ns', b'(K\x01)NN]t', b'(K\x01(J\xff\xff\xff\xffte'))]
    kinds = set()
    for name in READABLE_NAMES:
        for argument in arguments:
            for call in calls:
                pickled = b'\x80\x02}' + text('a') + named(name) + b'(' + argument + b't' + call + b's.'
                try:
                    with safe_pickle.only_plain_values(len(pickled)):
                        loaded = torch._weights_only_unpickler.load(io.BytesIO(pickled))
                    kinds.add(type(safe_pickle.PlainValues(len(pickled))(loaded)['a']))
                except Exception as error:
                    assert not isinstance(error, (MemoryError, SystemError, AssertionError)), (name, argument, error)
    assert {dict, str, bytes, set} <= kinds <= {
        type(None), bool, int, str, bytes, complex, set, frozenset, dict, collections.OrderedDict, torch.Size, torch.device,
        datetime.date, datetime.datetime, datetime.timedelta, argparse.Namespace}, kinds


def test_a_refused_archive_is_not_called_a_pickle_that_runs_code(tmp_path):
    torch.save(dict(a=torch.ones(1).expand(5, 5)), tmp_path / 'a.pth')
    with pytest.raises(UserError, match='more values than the file') as caught:
        load_weights_only(tmp_path / 'a.pth')
    assert '--trust-checkpoint' not in str(caught.value)


def test_a_value_in_itself_and_one_that_doubles_at_each_level_end_soon(tmp_path):
    endless = []
    endless.append(endless)
    deep = doubling = []
    for _ in range(100_000):
        deep = [deep]
    for _ in range(60):
        doubling = [doubling, doubling]
    (tmp_path / 'deep.pkl').write_bytes(b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.')
    for value in (endless, (tmp_path / 'deep.pkl').read_bytes()):
        with pytest.raises(UserError, match='a.pth'):
            load_weights_only(write(tmp_path / 'a.pth', value))
    loaded = read(tmp_path / 'a.pth', doubling)
    assert loaded[0] is loaded[1]


HARMLESS = dict(
    nothing=None, text='é', number=2.5, complex=1j, bytes=b'\xff\0', no_bytes=b'', bytearray=bytearray(b'ab'), set={1, 'a'},
    no_set=set(), frozenset=frozenset([1]), date=datetime.date(2026, 1, 2), time=datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    span=datetime.timedelta(1, 2, 3), path=pathlib.PurePosixPath('/a/b'), counter=collections.Counter('aab'),
    default=collections.defaultdict(list, a=[1]), ordered=collections.OrderedDict(a=1), size=torch.Size([1, 2]),
    dtype=torch.bfloat16, device=torch.device('cpu'), namespace=argparse.Namespace(lr=0.1, a=[1]),
    scalar=np.float32(0.5), count=np.int64(3), flag=np.bool_(True), name=np.str_('ab'))
EXPECTED = dict(HARMLESS, bytearray=b'ab', path='/a/b', counter=dict(a=2, b=1), default=dict(a=[1]), scalar=0.5, count=3,
                flag=True, name='ab')


@pytest.mark.parametrize('legacy', [False, True])
def test_harmless_values_are_read(tmp_path, legacy):
    boxes = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    arrays = dict(boxes=boxes, by_columns=np.asfortranarray(boxes), swapped=boxes.astype('>f4'), names=np.array(['e', 'fg']),
                  empty=np.zeros(0), none=np.zeros((0, 4), np.int32), number=np.array(3.), flags=np.array([True, False]))
    torch.save(dict(state_dict=dict(a=torch.ones(3)), value=HARMLESS, arrays=arrays), tmp_path / 'a.pth',
               _use_new_zipfile_serialization=not legacy)
    loaded = load_weights_only(tmp_path / 'a.pth')
    assert loaded['value'] == EXPECTED
    assert {key: type(one) for key, one in loaded['value'].items()} == {key: type(one) for key, one in EXPECTED.items()}
    for key, value in arrays.items():
        np.testing.assert_array_equal(loaded['arrays'][key], value, strict=True)


def test_tensors_own_their_memory_and_share_what_they_shared(tmp_path):
    weight = torch.arange(12.).reshape(3, 4)
    weights = collections.OrderedDict(a=weight, tied=weight, view=weight.t()[1:], parameter=torch.nn.Parameter(weight * 2),
                                      byte=torch.ones(2, dtype=torch.float8_e4m3fn), empty=torch.zeros(0),
                                      marked=torch.nn.Parameter(weight + 1))
    weights['marked'].no_decay = True  # such parameters are pickled by another name
    weights._metadata = collections.OrderedDict({'': dict(version=2)})
    torch.save(weights, tmp_path / 'a.pth')
    loaded = load_weights_only(tmp_path / 'a.pth')['state_dict']
    (tmp_path / 'a.pth').write_bytes(b'')
    assert all(torch.equal(loaded[name].float(), value.float()) for name, value in weights.items())
    assert loaded['tied'].data_ptr() == loaded['a'].data_ptr() and loaded._metadata[''] == dict(version=2)
    assert loaded['view'].stride() == (1, 4) and type(loaded['parameter']) is torch.Tensor


@pytest.mark.parametrize('protocol', [0, 2, 5])
def test_annotations_in_pickles_are_refused_unless_they_are_trusted(tmp_path, monkeypatch, protocol):
    content = dict(metainfo={}, data_list=[dict(img_path='a', boxes=np.zeros((1, 4)))])
    for value in (content, Call(open, str(tmp_path / 'created'), 'w')):
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(value, protocol))
        with pytest.raises(pickle.UnpicklingError) as caught:
            BaseDataset(ann_file=str(tmp_path / 'a.pkl'))
        line = explain(caught.value)
        assert 'BaseDataset cannot read' in line and str(tmp_path / 'a.pkl') in line and '\n' not in line
        assert '--trust-checkpoint' in line and not (tmp_path / 'created').exists()
    monkeypatch.setattr(safe_pickle, 'trusted', True)
    mmengine.load(tmp_path / 'a.pkl')
    assert (tmp_path / 'created').exists()


def test_the_line_says_how_to_make_json_of_a_pickle(tmp_path):
    content = dict(metainfo={}, data_list=[dict(img_path='a', boxes=np.ones((1, 4)))])
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content))
    with pytest.raises(pickle.UnpicklingError) as caught:
        mmengine.load(tmp_path / 'a.pkl')
    command = str(caught.value).partition('python -c "')[2].partition('"')[0]
    subprocess.run([sys.executable, '-c', command], cwd=tmp_path, check=True)
    assert BaseDataset(ann_file=str(tmp_path / 'a.json')).get_data_info(0)['boxes'] == [[1.] * 4]


def test_yaml_names_no_code(tmp_path):
    (tmp_path / 'a.yaml').write_text(f'a: !!python/object/apply:builtins.open [{tmp_path}/created, w]')
    with pytest.raises(Exception, match='could not determine a constructor'):
        mmengine.load(tmp_path / 'a.yaml')
    assert not (tmp_path / 'created').exists()
    (tmp_path / 'a.yaml').write_text('a: [1, 2.5, b]')
    assert mmengine.load(tmp_path / 'a.yaml') == dict(a=[1, 2.5, 'b'])


def test_plain_values_need_no_name_and_come_back(tmp_path):
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
    content = dict(state_dict=dict(a=torch.ones(1)), curve=curve, best=np.float64(0.5))
    torch.save(content, tmp_path / 'a.pth', _use_new_zipfile_serialization=False)
    old = (tmp_path / 'a.pth').read_bytes().replace(b'numpy._core.multiarray', module.encode())
    (tmp_path / 'a.pth').write_bytes(old)
    loaded = load_weights_only(tmp_path / 'a.pth')
    assert isinstance(loaded['curve'], HistoryBuffer) and loaded['best'] == 0.5
    assert loaded['curve'].statistics('mean') == 1.25 and loaded['curve'].statistics('current') == 2.25
    for values, expected in zip(loaded['curve'].data, curve.data, strict=True):
        np.testing.assert_array_equal(values, expected, strict=True)
    loaded['curve'].update(3.0)
    assert loaded['curve'].current() == 3


def test_the_state_of_mmengines_one_cycle_schedule_is_read_without_its_function(tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    schedule = OneCycleLR(optimizer, eta_max=0.1, total_steps=8)
    torch.save(dict(state_dict=dict(a=torch.ones(1)), param_schedulers=[schedule.state_dict()]), tmp_path / 'a.pth')
    state, = load_weights_only(tmp_path / 'a.pth')['param_schedulers']
    assert state == plain(schedule.state_dict()) and 'anneal_func' not in state
    schedule.load_state_dict(state)
    schedule.step()


def test_torch_reads_as_before_afterwards(tmp_path):
    torch.save(dict(a=bytearray(b'a'), b=collections.Counter('a')), tmp_path / 'a.pth')
    expected, others = torch.load(tmp_path / 'a.pth', weights_only=True), torch.serialization.get_safe_globals()
    write(tmp_path / 'b.pth', Call(open, str(tmp_path / 'created'), 'w'))
    with pytest.raises(UserError):
        load_weights_only(tmp_path / 'b.pth')
    assert torch.load(tmp_path / 'a.pth', weights_only=True) == expected
    assert torch.serialization.get_safe_globals() == others


def test_threads_read_one_after_the_other(tmp_path):
    torch.save({str(number): torch.ones(1) for number in range(100)}, tmp_path / 'a.pth')
    tables = torch._weights_only_unpickler._get_allowed_globals(), torch.serialization.get_safe_globals()
    before, failed = [*map(list, tables)], []

    def read_often():
        try:
            for _ in range(5):
                load_weights_only(tmp_path / 'a.pth')
        except UserError as error:
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=read_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failed and [*map(list, (tables[0], torch.serialization.get_safe_globals()))] == before
