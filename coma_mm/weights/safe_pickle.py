"""Pickles of plain values, read by torch's `weights_only`; any other pickle is refused.

A pickle may name any function and have it called. torch's reader looks names up in a table, and here the table is ours:
the functions of `_FUNCTIONS`. None of these is a class, whose constructor and inner state a pickle could reach; each takes
what pickles of plain values hand it, and makes no more of it than there is. What is known only when its state is, as an
array, is an `_Unfilled` until `PlainValues` makes the value. So is a tensor a `_Described`, until the file has been read to
its end: torch's own functions let a pickle enlarge the memory of the values, with whatever was there before.
"""
import datetime
import inspect
import logging
import math
import os
import pickle
import re
import sys
import threading
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, BinaryIO
from unittest.mock import patch

import numpy as np
import torch
import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from mmengine.logging import HistoryBuffer, print_log
from torch import _weights_only_unpickler
from torch.serialization import StorageType

trusted = False
"""Whether files are unpickled that would run code: `--trust-checkpoint`."""


_one_reader = threading.RLock()  # torch's tables and what follows are for one file at a time
_MADE_PER_BYTE = 64  # the smallest set takes 216 bytes, and 8 in a pickle
_left = 0
"""Bytes that the functions below may still make of the file that is being read."""
_unread: dict[int, torch.UntypedStorage] | None = None
"""By id, the memory that torch is yet to fill with values of the file; None if the file is mapped into memory."""


class _Unfilled:
    """What a function below has made for a pickle to set its state; `make` takes the state."""
    state = None

    def __init__(self, make: Callable[[Any], Any]):
        self.make = make

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Function:
    """In the place of a function that a pickle names: dicts leave it out, as `plain` does."""


class _Described:
    """What a pickle says of a tensor."""

    def __init__(self, storage: torch.storage.TypedStorage, offset: int, shape: tuple, stride: tuple, dtype: torch.dtype,
                 metadata: dict[str, Any] | None):
        self.storage, self.dtype = storage._untyped_storage, dtype
        self.offset, self.shape, self.stride = offset, tuple(shape), tuple(stride)
        self.conjugate, self.negative = ((metadata or {}).get(name, False) for name in ('conj', 'neg'))
        if not isinstance(dtype, torch.dtype) or len(self.shape) != len(self.stride) or len(self.shape) > 64 or not all(
                type(one) is int and 0 <= one < 2**63 for one in (offset, *self.shape, *self.stride)):
            raise ValueError

    @property
    def end(self) -> int:
        """Where its last value ends, in bytes from the first one of its storage."""
        last = sum((count - 1) * step for count, step in zip(self.shape, self.stride, strict=True))
        return (self.offset + last + 1) * self.dtype.itemsize if all(self.shape) else 0


def _tensor(storage: torch.storage.TypedStorage, offset: int, shape: tuple, stride: tuple, requires_grad: bool = False,
            hooks: Any = None, metadata: dict[str, Any] | None = None) -> _Described:
    return _tensor_of_type(storage, offset, shape, stride, requires_grad, hooks, storage.dtype, metadata)


def _tensor_of_type(storage: torch.storage.TypedStorage, offset: int, shape: tuple, stride: tuple, requires_grad: bool,
                    hooks: Any, dtype: torch.dtype, metadata: dict[str, Any] | None = None) -> _Described:
    global _left
    described = _Described(storage, offset, shape, stride, dtype, metadata)
    memory = described.storage
    if _unread is not None and id(memory) not in _unread:
        _left -= _MADE_PER_BYTE * memory.nbytes()  # together they have no more values than the file
        if _left < 0:
            raise MemoryError
        _unread[id(memory)] = memory.fill_(0)  # a file may leave it as it is, and then this process's older data is in it
    return described


def _parameter(tensor: _Described, *_: Any) -> _Described:
    if type(tensor) is not _Described:
        raise TypeError
    return tensor


def _values(of: type) -> Callable[..., Any]:
    """A type that is made of a list or tuple alone: a tensor's values, say, may be many more than what is in the file."""

    def make(values: list | tuple = ()) -> Any:
        if type(values) not in (list, tuple):
            raise TypeError
        return of(values)

    return make


class _Stack(list):
    """The stack of torch's reader, which refuses tuples in tuples in tuples.

    Python takes the hash of a tuple, as the key of a dict, from all that is in it again each time, and without a look at
    how deeply it is nested: it crashes, or takes for ever where one tuple is in another one twice.
    """
    LIMIT = 2**22

    def __init__(self, values: list, weights: dict[int, tuple[tuple, int]]):
        super().__init__(values)
        self.weights = weights  # by id: the tuple, kept so that no other one gets its id, and its weight

    def append(self, value: Any) -> None:
        """Put a value on top."""
        self._weigh(value)
        super().append(value)

    def __setitem__(self, place: int | slice, value: Any) -> None:
        for one in value if isinstance(place, slice) else [value]:
            self._weigh(one)
        super().__setitem__(place, value)

    def _weigh(self, value: Any) -> None:
        if type(value) is not tuple:
            return
        weight = len(value) + 2 * sum(self.weights[id(one)][1] for one in value if id(one) in self.weights)
        if weight > self.LIMIT:
            raise pickle.UnpicklingError('tuples are nested too deeply')
        self.weights[id(value)] = value, weight


class _Unpickler(_weights_only_unpickler.Unpickler):
    """torch's reader with a `_Stack`."""

    @property
    def stack(self) -> _Stack:
        """What has been read and is not yet in a larger value."""
        return self._stack

    @stack.setter
    def stack(self, values: list) -> None:
        self._weights = getattr(self, '_weights', {})
        self._stack = values if type(values) is _Stack else _Stack(values, self._weights)


def _bytes(value: str | bytes = b'', encoding: str = 'latin1') -> bytes:
    if encoding != 'latin1':  # other codecs can make much of little
        raise ValueError
    return value if type(value) is bytes else str.encode(value, 'latin1')


def _number_type(code: str, *_: Any) -> _Unfilled:
    """A `numpy.dtype`, of numbers and text alone; its state says the order of bytes."""
    if not re.fullmatch(r'[<>=|]?[biufcSU]\d+', code):
        raise ValueError
    return _Unfilled(lambda state: np.dtype(code).newbyteorder(state[1] if state and state[1] in ('<', '>') else '='))


def _array(state: tuple) -> np.ndarray:
    """An array of a copy of its bytes."""
    _, shape, dtype, by_columns, data = state
    if not isinstance(dtype, np.dtype) or len(shape) > 64 or not all(type(one) is int and one >= 0 for one in shape):
        raise ValueError
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError
    values = np.frombuffer(data, dtype) if data else np.empty(0, dtype)  # frombuffer takes no empty buffer
    return values.reshape(shape, order='F' if by_columns else 'C').copy()


def _scalar(dtype: _Unfilled, data: bytes) -> bool | int | float | complex | str | bytes:
    return _array((1, (), dtype.make(dtype.state), False, data)).item()


def _curve(state: dict[str, Any]) -> HistoryBuffer:
    """mmengine's curve of logged scalars, without the functions that its pickles name."""
    curve = HistoryBuffer(max_length=int(state['max_length']))
    curve._log_history, curve._count_history = values, counts = state['_log_history'], state['_count_history']
    if not all(isinstance(one, np.ndarray) and one.dtype.kind in 'biuf' and one.shape == (len(values), )
               for one in (values, counts)):
        raise ValueError
    return curve


def _path(*parts: str) -> str:
    if sum(map(len, parts)) > 4096:
        raise ValueError
    return os.path.join(*parts)


def _named(name: str, function: Callable | None, new: Callable | None = None) -> tuple[Callable, str]:
    """What a name in a pickle stands for: a function that refuses what it cannot take.

    Args:
        name (str): The name.
        function (Callable | None): What is called. None: it is an argument of others and never called.
        new (Callable, optional): It is a class, and this makes an instance of its state. Defaults to None.
    """

    def call(*arguments: Any) -> Any:
        global _left
        try:
            made = function(*arguments)
            _left -= sys.getsizeof(made)
            if _left < 0:
                raise MemoryError
        except Exception:
            raise pickle.UnpicklingError(f'GLOBAL {name}') from None
        return made

    if new:
        call.__new__ = lambda *_: _Unfilled(new)
    return call, name


_FUNCTIONS = [
    *(_named(f'numpy.{core}.multiarray._reconstruct', lambda *_: _Unfilled(_array)) for core in ('_core', 'core')),
    *(_named(f'numpy.{core}.multiarray.scalar', _scalar) for core in ('_core', 'core')),  # of NumPy 2 and 1
    *(_named(name, _bytes) for name in ('_codecs.encode', 'builtins.bytearray', 'builtins.bytes')),
    *(_named(f'datetime.{kind.__name__}', kind) for kind in (datetime.date, datetime.datetime, datetime.timedelta)),
    *(_named(f'pathlib.{module}{name}', _path)
      for name in ('PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath') for module in ('', '_local.')),
    *(_named(f'builtins.{name}', None) for name in ('bool', 'dict', 'float', 'int', 'list', 'object', 'str', 'tuple')),
    _named('numpy.ndarray', None),
    _named('numpy.dtype', _number_type),
    _named('mmengine.logging.history_buffer.HistoryBuffer', None, _curve),
    _named('argparse.Namespace', None, lambda state: Namespace(**state)),
    _named('builtins.getattr', lambda *_: _Function()),  # names the functions of curves and of schedules
    _named('mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler', None),
    _named('builtins.complex', complex),
    _named('builtins.set', _values(set)),
    _named('builtins.frozenset', _values(frozenset)),
    _named('torch.Size', _values(torch.Size)),
    _named('collections.Counter', lambda counts=None: dict.copy(counts or {})),
    _named('collections.defaultdict', lambda *_: {}),
    _named('torch._utils._rebuild_tensor', _tensor),
    _named('torch._utils._rebuild_tensor_v2', _tensor),
    _named('torch._utils._rebuild_tensor_v3', _tensor_of_type),
    *(_named(f'torch._utils._rebuild_parameter{more}', _parameter) for more in ('', '_with_state')),
]
_MORE = 'its tensors and arrays have more values than the file'


@contextmanager
def only_plain_values(size: int, mapped: bool = False) -> Iterator[None]:
    """While it is entered, `torch.load(…, weights_only=True)` knows the names in this module alone.

    Other threads wait until it is left.

    Args:
        size (int): Of the file, in bytes.
        mapped (bool): Whether the file is mapped into memory. Defaults to False.
    """
    with _one_reader, _our_tables():
        global _left, _unread
        _left = _MADE_PER_BYTE * size
        _unread = None if mapped else {}
        try:
            yield
        finally:
            _unread = None


@contextmanager
def _our_tables() -> Iterator[None]:
    table = _weights_only_unpickler._get_allowed_globals()
    kept = {name: value for name, value in table.items() if isinstance(value, (torch.dtype, StorageType))
            or value in (OrderedDict, torch.device)}
    # It is named as a type of numbers; torch's own class could be called for any amount of memory.
    kept['torch.storage.UntypedStorage'] = SimpleNamespace(dtype=torch.uint8)
    # A pickle may set the state of this class, but cannot spell its name: a name ends with its line.
    ours = {*_FUNCTIONS, (_Unfilled, '\n')}
    # The other table of torch's has what others added, torch's own classes of distributed tensors among it.
    with (patch.dict(table, kept, clear=True), patch.object(_weights_only_unpickler, '_marked_safe_globals_set', ours),
          patch.object(_weights_only_unpickler, 'Unpickler', _Unpickler)):
        yield


class PlainValues:
    """Makes, of what torch's reader returned, dicts, lists, tuples, sets, texts, numbers, dates, arrays, curves and tensors.

    The tensors own their memory, which some share as they did in the file; they have no gradient and no hook.

    Args:
        size (int): Of the file, in bytes. Its tensors have no more.
    """

    def __init__(self, size: int):
        self.left = size
        self.storages = {}
        self.made = {}  # by id: the value, kept so that no other one gets its id, and what was made of it, in a list

    def __call__(self, value: Any) -> Any:
        """Make a plain value.

        Raises:
            UnpicklingError: If there is more in it than in the file, or anything else than the above.
        """
        if id(value) not in self.made:
            self.made[id(value)] = value, (made := [])
            made.append(self._make(value))
        if not self.made[id(value)][1]:
            raise pickle.UnpicklingError('a value contains itself')
        return self.made[id(value)][1][0]

    def _make(self, value: Any) -> Any:
        kind = type(value)
        if kind in (dict, OrderedDict):
            items = dict.items(value)  # an OrderedDict has attributes, methods too, that a pickle sets
            made = kind((self(key), self(inner)) for key, inner in items if type(inner) is not _Function)
            if kind is OrderedDict and '_metadata' in vars(value):  # versions of modules
                made._metadata = self(vars(value)['_metadata'])
            return made
        if kind in (list, tuple, set, frozenset):
            return kind(map(self, value))
        if kind is _Unfilled:
            try:
                made = value.make(self(value.state))
                self._take(made.nbytes if isinstance(made, np.ndarray) else 0)
                return made
            except (AttributeError, KeyError, TypeError, ValueError):
                raise pickle.UnpicklingError('the state of an array, a curve or a namespace is of another form') from None
        if kind is _Described:
            return self._tensor(value)
        if value is None or kind.__module__ == 'datetime' or kind in (
                bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device):
            return value
        raise pickle.UnpicklingError(f'a {kind.__name__} is no plain value')

    def _tensor(self, described: _Described) -> torch.Tensor:
        storage = described.storage
        if storage._cdata not in self.storages:
            self._take(storage.nbytes())
            self.storages[storage._cdata] = storage, storage.clone()
        if max(described.end, math.prod(described.shape) * described.dtype.itemsize) > storage.nbytes():
            raise pickle.UnpicklingError(_MORE)
        own = self.storages[storage._cdata][1]
        tensor = torch.empty(0, dtype=described.dtype, device=own.device).set_(
            own, described.offset, described.shape, described.stride)
        if described.conjugate:
            tensor = tensor.conj().resolve_conj()
        return -tensor if described.negative else tensor

    def _take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise pickle.UnpicklingError(_MORE)


def refuse_pickles() -> None:
    """Make mmengine's `load`, by which data sets read annotations, run no code: no pickles, and YAML of plain values."""

    @register_handler(['pickle', 'pkl'])
    class NoPickleHandler(PickleHandler):

        def load_from_fileobj(self, file: BinaryIO, **kwargs: Any) -> Any:
            """Unpickle what the user trusts."""
            if trusted:
                return super().load_from_fileobj(file, **kwargs)
            # The data set's error names the file.
            raise pickle.UnpicklingError(
                'refused, because a pickle can run any code while it is read. If you trust its author, make JSON of it: '
                """python -c "import mmengine; mmengine.dump(mmengine.load('a.pkl'), 'a.json')", or pass """
                '--trust-checkpoint')

    @register_handler(['yaml', 'yml'])
    class SafeYamlHandler(YamlHandler):

        def load_from_fileobj(self, file: IO, **kwargs: Any) -> Any:
            """Read plain values; mmengine's own loader calls what a file names."""
            return super().load_from_fileobj(file, Loader=yaml.SafeLoader)


def code_named(error: Exception) -> str | None:
    """What a pickle wanted to call, by the error that refused it."""
    names = re.findall(r'GLOBAL ([\w.]+)', str(error))
    return names[0] if names else None


def warn_of_trust(path: str | Path, what: str) -> None:
    """Say that a file is about to be unpickled because the user said so."""
    print_log(f'--trust-checkpoint: {path} runs code of its own ({what}) while it is read', logger='current',
              level=logging.WARNING)


def plain(value: Any) -> Any:
    """A value made of what every reader of checkpoints accepts: dicts, lists, tuples, tensors, numbers, text, None.

    Args:
        value (Any): Nested dicts, lists and tuples, also of NumPy's numbers and arrays, and mmengine's curves.

    Returns:
        Any: The same with plain dicts; arrays as lists, and curves as `restore_curves` takes them. Dicts' functions are
        left out, what else is of no such type becomes its text.
    """
    if isinstance(value, HistoryBuffer):
        values, counts = value.data
        return dict(values=torch.as_tensor(values), counts=torch.as_tensor(counts))
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items() if not inspect.isroutine(inner)}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(map(plain, value))
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if value is None or type(value) in (bool, int, float, complex, str, bytes, set) or isinstance(value, torch.Tensor):
        return value
    return next((kind(value) for kind in (bool, int, float, str) if isinstance(value, kind)), str(value))


def restore_curves(message_hub: dict[str, Any]) -> None:
    """Make mmengine's curves of what `plain` made of them, in place; those of mmengine's own checkpoints are left.

    Args:
        message_hub (dict): Of a checkpoint.
    """
    curves = message_hub['log_scalars']
    for name, curve in curves.items():
        if isinstance(curve, dict):
            curves[name] = HistoryBuffer(curve['values'].tolist(), curve['counts'].tolist())
