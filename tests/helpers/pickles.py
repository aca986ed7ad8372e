"""Checkpoints around a pickle of any content, as `torch.save` puts them into a zip archive."""
import collections
import pickle
import struct
import zipfile

import torch

from coma_mm.weights import safe_pickle

READABLE_NAMES = [name for _, name in safe_pickle._FUNCTIONS] + [
    'collections.OrderedDict', 'torch.device', 'torch.float32', 'torch.FloatStorage', 'torch.storage.UntypedStorage']
"""What a pickle may name."""


class Call:
    """Pickled as a call of any function, and with a state that is set on what it returns."""

    def __init__(self, function, *args, state=None):
        self.parts = (function, args, state)

    def __reduce__(self):
        return self.parts


class Storage:
    """Pickled as the values of a tensor: so many of a type, in a record of the archive."""

    def __init__(self, count, record='0', kind=torch.FloatStorage, view=()):
        self.id = ('storage', kind, record, 'cpu', count, *view)


class _Pickler(pickle.Pickler):

    def persistent_id(self, value):
        return value.id if isinstance(value, Storage) else None


def tensor(count, shape=None, stride=None, offset=0, **storage):
    """A tensor as a pickle describes it, true or not."""
    shape = shape or (count, )
    stride = stride or (1, ) * len(shape)
    return Call(torch._utils._rebuild_tensor_v2, Storage(count, **storage), offset, shape, stride, False,
                collections.OrderedDict())


def write(path, content, records=(b'\0' * 64, )):
    """Write a checkpoint: `content` is pickled, unless it is a pickle already."""
    if not isinstance(content, bytes):
        with open(path, 'wb') as file:
            _Pickler(file, 2).dump(content)
        content = path.read_bytes()
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', content)
        archive.writestr('a/byteorder', 'little')
        for number, record in enumerate(records):
            archive.writestr(f'a/data/{number}', record)
        archive.writestr('a/version', '3\n')
    return path


def write_legacy(path, content, keys=(), values=b''):
    """Write a checkpoint as torch did before 1.6: `keys` are the storages whose lengths and values follow."""
    with open(path, 'wb') as file:
        for header in (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}):
            pickle.dump(header, file, 2)
        if isinstance(content, bytes):
            file.write(content)
        else:
            _Pickler(file, 2).dump(content)
        pickle.dump(list(keys), file, 2)
        file.write(values)
    return path


def text(value):
    """The opcodes of a text."""
    return b'X' + struct.pack('<I', len(value)) + value.encode()


def named(name):
    """The opcodes that look a name up."""
    module, _, name = name.rpartition('.')
    return f'c{module}\n{name}\n'.encode()
