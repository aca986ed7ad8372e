"""Pickles and YAML files read without running code: stand-ins for the few classes that files of plain values name.

A pickle may name any function and have it called. Here the names below alone are known; what they stand for can build
numbers, arrays of numbers and mmengine's curves of logged scalars, and nothing else. NumPy's own classes are not among
them: a pickle can set the inner state of a `numpy.dtype` so that an array of it reads foreign memory.
"""
import collections
import inspect
import logging
import pickle
import re
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import torch
import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from mmengine.logging import HistoryBuffer, print_log

trusted = False
"""Whether files are unpickled that would run code: `--trust-checkpoint`."""


class _Number:
    """Stands in for `numpy.dtype`, for numbers and text alone."""

    def __init__(self, code: str, *_: Any):
        if not re.fullmatch(r'[<>=|]?[biufcSU]\d+', code):
            raise pickle.UnpicklingError(f'GLOBAL numpy.dtype of {code!r}')
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in '<>':
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """Stands in for `numpy.ndarray`."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, number, fortran, data = state
        super().__setstate__((1, shape, number.dtype, bool(fortran), bytes(data)))


def _empty(*_: Any) -> _Array:
    """Stands in for NumPy's `_reconstruct`, which makes an array to be filled."""
    return _Array(0, np.uint8)


def _scalar(number: _Number, data: bytes) -> bool | int | float | complex | str:
    return np.frombuffer(data, number.dtype, 1)[0].item()


class _Curve(HistoryBuffer):
    """Stands in for mmengine's `HistoryBuffer`; without the functions that its pickles name."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({key: state[key] for key in ('max_length', '_log_history', '_count_history')})


def _nothing(*_: Any) -> None:
    """Stands in for `getattr`, by which those functions are named."""


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for `codecs.encode`, by which old protocols write bytes."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'GLOBAL codecs.encode of {encoding!r}')
    return text.encode(encoding)


STAND_INS = {
    'builtins.getattr': _nothing,
    'mmengine.logging.history_buffer.HistoryBuffer': _Curve,
    'numpy.dtype': _Number,
    'numpy.ndarray': _Array,
}
for _module in ('numpy._core.multiarray', 'numpy.core.multiarray'):  # of NumPy 2 and 1
    STAND_INS |= {f'{_module}._reconstruct': _empty, f'{_module}.scalar': _scalar}
_PLAIN = {
    '_codecs.encode': _encode, 'builtins.bytearray': bytearray, 'builtins.complex': complex,
    'builtins.frozenset': frozenset, 'builtins.set': set, 'collections.OrderedDict': collections.OrderedDict,
}


class _SafeUnpickler(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up, here alone."""
        module = {'__builtin__': 'builtins'}.get(module, module)  # of Python 2, as protocol 2 writes it
        try:
            return {**STAND_INS, **_PLAIN}[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'GLOBAL {module}.{name}') from None


def read_safely() -> None:
    """Make mmengine's `load`, by which data sets read annotations and proposals, run no code from pickles and YAML."""

    @register_handler(['pickle', 'pkl'])
    class SafePickleHandler(PickleHandler):

        def load_from_fileobj(self, file: BinaryIO, **kwargs: Any) -> Any:
            """Unpickle plain values and arrays of numbers."""
            if trusted:
                return super().load_from_fileobj(file, **kwargs)
            try:
                return _SafeUnpickler(file, **kwargs).load()
            except pickle.UnpicklingError as error:
                if not (name := code_named(error)):
                    raise
                # The data set's error names the file.
                raise pickle.UnpicklingError(
                    f'refused, because it would run code of its own ({name}); only plain values and arrays of numbers are '
                    'read. If you trust its author, pass --trust-checkpoint') from error

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
