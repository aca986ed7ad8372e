"""What is damaged, and what must hold of what is read all the same."""
import copy
import io
import logging
import os
import shutil
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.visualization import Visualizer
from PIL import Image
from safetensors.torch import save_file

from coma_mm.config.check_keys import KNOWN_KEYS
from coma_mm.config.read import parse_options, read_config
from coma_mm.datasets import SeededDataset
from coma_mm.datasets.annotations import check_annotations
from coma_mm.engine.train import train
from coma_mm.errors import UserError
from coma_mm.prepare.shapes import write_shapes
from coma_mm.weights import load
from coma_mm.weights.load import latest_checkpoint, load_backbone, weights_sha256
from tests.helpers.pickles import READABLE_NAMES, named, text, write

from .mutate import damage, distort, places

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = dict(coma='coma_dyvit-tiny_shapes', classifier='dyvit-tiny_scratch_shapes',
               upernet='upernet_dyvit-tiny_scratch_shapes', mask_rcnn='mask-rcnn_dyvit-tiny_scratch_shapes')
SHORT = {
    'train_dataloader.num_workers': 0, 'train_dataloader.batch_size': 2, 'val_dataloader': None, 'val_cfg': None,
    'val_evaluator': None, 'default_hooks.logger.interval': 1
}


class Family:
    """One kind of input.

    Attributes:
        name (str): For the command line and the counts.
        cases (int): How many a whole run tries.
    """
    name, cases = '', 0

    def prepare(self, folder):
        """Make what the cases share.

        Args:
            folder (Path): The working directory, empty.
        """

    def case(self, rng, folder):
        """Try one.

        Args:
            rng (random.Random): The only source of chance.
            folder (Path): The working directory.

        Returns:
            str: 'read'.

        Raises:
            AssertionError: 'silently ...', if what was read is wrong.
            Exception: Whatever reading raises.
        """
        raise NotImplementedError


def _saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _pictures():
    """dict[str, bytes]: Image files of many kinds, all of the same 48×40 picture."""
    rows, columns = np.mgrid[:40, :48]
    noise = np.random.default_rng(0).integers(0, 40, (40, 48, 3))
    colour = Image.fromarray((np.stack([rows * 5, columns * 4, rows + columns], -1) + noise).astype(np.uint8))
    exif = Image.Exif()
    exif[0x112], exif[0x10F], exif[0x8769] = 6, 'maker', {0x9003: '2020:01:01 00:00:00'}
    return dict(
        jpeg=_saved(colour, 'JPEG'), progressive=_saved(colour, 'JPEG', progressive=True, exif=exif),
        cmyk=_saved(colour.convert('CMYK'), 'JPEG'), grey=_saved(colour.convert('L'), 'JPEG'),
        exif=_saved(colour, 'JPEG', exif=exif), png=_saved(colour, 'PNG', exif=exif),
        palette=_saved(colour.quantize(16), 'PNG', transparency=3), rgba=_saved(colour.convert('RGBA'), 'PNG'),
        bits=_saved(colour.convert('1'), 'PNG'), gif=_saved(colour, 'GIF'), webp=_saved(colour, 'WEBP'),
        bmp=_saved(colour, 'BMP'), tiff=_saved(colour, 'TIFF', compression='tiff_lzw'))


def _declare_size(content, rng):
    """bytes: A PNG or JPEG that declares another size than it has, with whole check sums."""
    width, height = (rng.choice([0, 1, 47, 5000, 13000, 40000, 65535, 2**31 - 1]) for _ in range(2))
    content = bytearray(content)
    if content[:4] == b'\x89PNG':
        content[16:24] = struct.pack('>II', width, height)
        content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    else:
        start = next(at for mark in (b'\xff\xc0', b'\xff\xc2') if (at := content.find(mark)) > 0)
        content[start + 5:start + 9] = struct.pack('>HH', height % 65536, width % 65536)
    return bytes(content)


class Images(Family):
    """Image files, through `LoadImage` and augmentations."""
    name, cases = 'images', 6000

    def prepare(self, folder):
        self.pictures = _pictures()
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            import mmpretrain.datasets  # noqa: F401
            self.load = Compose([dict(type='LoadImage')])
            self.augment = Compose([dict(type='RandomResizedCrop', scale=16), dict(type='RandomFlip', prob=.5),
                                    dict(type='PackInputs')])
        self.whole = {}
        for name, content in self.pictures.items():
            (folder / 'image').write_bytes(content)
            self.whole[name] = self.load(dict(img_path=str(folder / 'image')))['img']

    def case(self, rng, folder):
        name = rng.choice([*self.pictures])
        content = self.pictures[name]
        if rng.random() < 0.1 and content[:2] in (b'\x89P', b'\xff\xd8'):
            damaged = _declare_size(content, rng)
        else:
            damaged = damage(content, rng)
        (folder / 'image').write_bytes(damaged)
        results = self.load(dict(img_path=str(folder / 'image')))
        image = results['img']
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size, 'silently no image'
        if content.startswith(damaged):
            assert np.array_equal(image, self.whole[name]), 'silently a part of an image that was cut off'
        packed = self.augment(results)
        assert packed['inputs'].shape == (3, 16, 16), 'silently of another size'
        return 'read'


class Maps(Family):
    """Segmentation maps, which have no room for damage that nobody sees: their pixels are labels."""
    name, cases = 'maps', 2000

    def prepare(self, folder):
        from mmseg.datasets import BaseSegDataset
        for part in ('img', 'ann'):
            (folder / part).mkdir()
        labels = np.kron(np.arange(30).reshape(5, 6), np.ones((8, 8))).astype(np.uint8)
        Image.fromarray(labels).convert('RGB').save(folder / 'img' / 'a.jpg')
        palette = Image.fromarray(labels, 'L').convert('P')
        self.contents = [_saved(Image.fromarray(labels), 'PNG'), _saved(palette, 'PNG')]
        (folder / 'ann' / 'a.png').write_bytes(self.contents[0])
        with DefaultScope.overwrite_default_scope('mmseg'):
            self.dataset = SeededDataset(BaseSegDataset(
                data_root=str(folder), data_prefix=dict(img_path='img', seg_map_path='ann'),
                metainfo=dict(classes=[str(number) for number in range(30)]),
                pipeline=[dict(type='LoadImage'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]))
        self.maps = [self._labels(folder, content) for content in self.contents]

    def _labels(self, folder, content):
        (folder / 'ann' / 'a.png').write_bytes(content)
        return self.dataset[0]['data_samples'].gt_sem_seg.data

    def case(self, rng, folder):
        number = rng.randrange(2)
        content = self.contents[number]
        damaged = _declare_size(content, rng) if rng.random() < 0.05 else damage(content, rng)
        labels = self._labels(folder, damaged)
        # Another shape is LabelCheckHook's to find.
        assert labels.shape != self.maps[number].shape or torch.equal(labels, self.maps[number]), 'silently other labels'
        return 'read'


class Coco(Family):
    """COCO annotations, through all that is done with them before and during training."""
    name, cases = 'coco', 2000

    def prepare(self, folder):
        write_shapes(folder / 'shapes', dict(unlabelled=0, train=4, val=0, test=0), size=64, progress=False)
        os.environ['SHAPES_ROOT'] = str(folder / 'shapes')
        self.cfg = read_config(ROOT / f'configs/shapes/{CONFIGS["mask_rcnn"]}.py').train_dataloader.dataset
        self.path = folder / 'shapes/coco/annotations/instances_train.json'
        import json
        self.content = json.loads(self.path.read_text())
        # As annotators draw: half of the objects as polygons.
        for annotation in self.content['annotations'][::2]:
            x, y, width, height = annotation['bbox']
            annotation['segmentation'] = [[x, y, x + width, y, x + width, y + height, x, y + height]]

    def case(self, rng, folder):
        import json
        if rng.random() < 0.2:
            self.path.write_bytes(damage(json.dumps(self.content).encode(), rng))
        else:
            self.path.write_text(json.dumps(distort(self.content, rng)[0]))
        with DefaultScope.overwrite_default_scope('mmdet'):
            dataset = SeededDataset(copy.deepcopy(self.cfg))
        check_annotations(dataset, training=True)
        for index in range(len(dataset)):
            sample = dataset[index]
            height, width = sample['inputs'].shape[1:]
            objects = sample['data_samples'].gt_instances
            boxes = objects.bboxes.tensor
            assert len(boxes) == len(objects.labels) == len(objects.masks), 'silently objects without boxes or masks'
            assert torch.isfinite(boxes).all(), 'silently a box that is no number'
            assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all(), 'silently a box that is none'
            assert (boxes <= torch.tensor([width, height] * 2)).all(), 'silently a box outside of the image'
            assert ((objects.labels >= 0) & (objects.labels < 10)).all(), 'silently another class'
            assert objects.masks.to_ndarray().shape[1:] == (height, width), 'silently a mask of another size'
        return 'read'


class EndOfCase(Exception):
    """The first iterations were done."""


@HOOKS.register_module()
class EndOfCaseHook(Hook):
    """Ends a run after two iterations."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter >= 1:
            raise EndOfCase


def _forget():
    """Let go of what mmengine keeps for a whole process."""
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()
    kinds = [MMLogger, Visualizer]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()


def _options(texts):
    """dict: What the tools make of `--cfg-options`; a bad text ends the tool with one line."""
    try:
        return parse_options(texts)
    except UserError:
        return None


def _start(path, options=None):
    """Train for two iterations as `tools/train.py` does."""
    try:
        cfg = read_config(path, {**SHORT, **(options or {})}, work_dir='run')
        workers = cfg.train_dataloader.get('num_workers', 0)
        if isinstance(workers, int) and workers > 2:
            cfg.train_dataloader.num_workers = 2  # so many processes are no matter of reading settings
        train(cfg, [dict(type='StopHook'), dict(type='EndOfCaseHook')])
    except EndOfCase:
        pass
    finally:
        _forget()
        shutil.rmtree('run', ignore_errors=True)
    return 'read'


def _written(content, folder):
    """Path: A config file."""
    lines = [f'{key} = {value!r}' for key, value in content.items() if key.isidentifier()]
    (folder / 'config.py').write_text('\n'.join(['from math import inf, nan', *lines]))
    return folder / 'config.py'


class Configs(Family):
    """Whole configs with entries misspelt, lost, or of another value or type; two iterations each."""
    name, cases = 'configs', 300

    def prepare(self, folder):
        write_shapes(folder / 'shapes', dict(unlabelled=8, train=4, val=0, test=0), size=64, progress=False)
        os.environ['SHAPES_ROOT'] = str(folder / 'shapes')
        self.configs = {}
        for name, config in CONFIGS.items():
            cfg = Config.fromfile(ROOT / f'configs/shapes/{config}.py').to_dict()
            self.configs[name] = {
                key: value for key, value in cfg.items() if key in KNOWN_KEYS and not key.startswith(('val_', 'test_'))}

    def case(self, rng, folder):
        name = rng.choices([*CONFIGS], [4, 4, 1, 1])[0]
        content, _ = distort(self.configs[name], rng)
        return _start(_written(content, folder))


class Options(Configs):
    """`--cfg-options`: one of the config's keys, sometimes misspelt, with a text for a value; two iterations each."""
    name, cases = 'options', 300
    values = ('abc', '', '-1', '0', '1e9', 'nan', 'inf', '[]', '[1,2]', '(1,2)', '{}', 'None', 'True', "'a'", '1,2', '[a',
              '"', "{'type':'x'}", '0.5', '../x', 'ä')

    def case(self, rng, folder):
        name = rng.choices([*CONFIGS], [4, 4, 1, 1])[0]
        path = rng.choice([path for path in places(self.configs[name]) if all(str(key).strip() for key in path)])
        key = '.'.join(map(str, path))
        if rng.random() < 0.2:
            letter = rng.randrange(len(key))
            key = key[:letter] + key[letter + 1:]
        options = _options([f'{key}={rng.choice(self.values)}'])
        if options is None:
            return 'refused'
        return _start(_written(self.configs[name], folder), options)


class OptionTexts(Family):
    """`--cfg-options`: any text at all."""
    name, cases = 'option_texts', 5000

    def case(self, rng, folder):
        letters = rng.choice(['abc=.,[]{}()\'"01 \n\\', '=[](),', ''.join(map(chr, range(1, 300)))])
        text = ''.join(rng.choice(letters) for _ in range(rng.randrange(40)))
        options = _options([rng.choice(['', 'a=', 'a.b=', 'model.a.0.b=']) + text])
        if options is None:
            return 'refused'
        (folder / 'config.py').write_text("default_scope = 'mmpretrain'\nmodel = dict(type='x', a=[1])")
        read_config(folder / 'config.py', options)
        return 'read'


class Checkpoints(Family):
    """Checkpoint files of all formats: damaged, and written to harm."""
    name, cases = 'checkpoints', 6000

    def prepare(self, folder):
        torch.manual_seed(0)
        self.weights = {'a.weight': torch.randn(8, 9), 'a.bias': torch.randn(8), 'number': torch.tensor(3)}
        content = dict(state_dict=self.weights, meta=dict(epoch=1, cfg='model = 1'), optimizer=dict(state={}))
        torch.save(content, folder / 'a.pth')
        torch.save(content, folder / 'old.pth', _use_new_zipfile_serialization=False)
        save_file(self.weights, folder / 'a.safetensors', dict(format='pt', weights_sha256=weights_sha256(self.weights)))
        self.files = {name: (folder / name).read_bytes() for name in ('a.pth', 'old.pth', 'a.safetensors')}

    def case(self, rng, folder):
        name = rng.choice([*self.files, 'hostile.pth', 'bomb.pth', 'header.safetensors'])
        path = folder / f'damaged-{name}'
        if name in self.files:
            path.write_bytes(damage(self.files[name], rng))
        else:
            getattr(self, f'_{name.partition(".")[0]}')(path, rng)
        marker = folder / 'created'
        try:
            loaded = CheckpointLoader.load_checkpoint(str(path))
        finally:
            assert not marker.exists(), 'silently ran code'
        module = torch.nn.ModuleDict(dict(a=torch.nn.Linear(9, 8)))
        load_backbone(module, str(path))
        if name == 'a.pth' or 'weights_sha256' in loaded['meta']:  # the others have no check sum, or lost it
            found = loaded['state_dict']
            same = found.keys() == self.weights.keys() and all(torch.equal(found[key], self.weights[key]) for key in found)
            assert same, 'silently other weights'
        return 'read'

    @staticmethod
    def _hostile(path, rng):
        """A pickle that names functions, by each of the ways that the format has."""
        functions = [('builtins', 'open'), ('os', 'system'), ('builtins', 'eval'), ('builtins', 'exec'), ('posix', 'system'),
                     ('subprocess', 'call'), ('builtins', 'getattr'), ('numpy', 'dtype'), ('torch', 'load'),
                     ('mmengine.config', 'Config.fromstring'), ('_codecs', 'encode'), ('pathlib', 'Path.touch'),
                     ('torch._utils', '_rebuild_tensor_v2'), ('numpy._core.multiarray', '_reconstruct')]
        module, function = rng.choice(functions)
        arguments = rng.choice(['created', 'touch created', 'open("created", "w")'])
        text = b'X' + struct.pack('<I', len(arguments)) + arguments.encode()
        call = rng.choice([
            f'c{module}\n{function}\n'.encode() + text + b'\x85R',
            f'c{module}\n{function}\n('.encode() + text + b'X\x01\0\0\0wtR',
            b'(' + text + f'i{module}\n{function}\n'.encode(), f'c{module}\n{function}\n'.encode() + text + b'\x85\x81',
            b'\x8c' + bytes([len(module)]) + module.encode() + b'\x8c' + bytes([len(function)]) + function.encode() + b'\x93'
            + text + b'\x85R',
            f'c{module}\n{function}\n)R}}'.encode() + text + b'Nsb',
        ])
        content = bytes([0x80, rng.choice([2, 2, 3, 4, 5])]) + b'}X\x0a\0\0\0state_dict' + call + b's.'
        if rng.random() < 0.3:
            content = damage(content, rng)
        if rng.random() < 0.5:
            with zipfile.ZipFile(path, 'w') as file:
                file.writestr('archive/data.pkl', content)
                file.writestr('archive/version', '3\n')
                file.writestr('archive/byteorder', 'little')
        else:
            path.write_bytes(content)

    @staticmethod
    def _bomb(path, rng):
        """An archive, or a pickle in it, of far more than it takes on the disk."""
        size = rng.choice([2**30, 2**40, 2**62])
        content = rng.choice([
            b'\x80\x02cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x8a\x08' + struct.pack('<q', size) +
            b'\x85c_codecs\nencode\nX\x01\0\0\0bX\x06\0\0\0latin1\x86R\x87R.',
            b'\x80\x02cbuiltins\nbytearray\n\x8a\x08' + struct.pack('<q', size) + b'\x85R.',
            b'\x80\x02ctorch._utils\n_rebuild_meta_tensor_no_storage\nctorch\nfloat32\n\x8a\x08' + struct.pack('<q', size) +
            b'\x85K\x01\x85\x89tR.', b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.',
            b'\x80\x02X' + struct.pack('<I', 2**31 - 1) + b'a.'])
        with zipfile.ZipFile(path, 'w', rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as file:
            file.writestr('archive/data.pkl', content)
            file.writestr('archive/version', '3\n')
            file.writestr('archive/byteorder', 'little')
            if file.compression:
                file.writestr('archive/data/0', bytes(20_000_000))

    @staticmethod
    def _header(path, rng):
        """A safetensors file with an absurd header."""
        header = rng.choice([
            b'{}', b'[]', b'null', b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
            b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,16]}}',
            b'{"a":{"dtype":"F32","shape":[-4],"data_offsets":[16,0]}}', b'{"__metadata__":{"a":1}}', b'{"a":{}}',
            b'{"a":{"dtype":"X","shape":[],"data_offsets":[0,0]}}', b'[' * 100_000, b'{"a":{"dtype":"F32","shape":[4],'
            b'"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}',
            b'{"__metadata__":{"weights_sha256":"0"},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'])
        length = rng.choice([len(header), len(header), 0, 1, 2**31, 2**63, 2**64 - 1, 10**8])
        path.write_bytes(struct.pack('<Q', length) + header + bytes(rng.choice([0, 16, 24])))


class Pickles(Family):
    """Checkpoints whose pickle is a random expression of the opcodes and names that are read."""
    name, cases = 'pickles', 20000
    NAMES = [named(name) for name in READABLE_NAMES]
    ATOMS = [text(one) for one in ('', 'a', 'latin1', 'hex', 'f4', 'O8', 'U9', '<', '01234567', '_log_history', '__new__')]
    ATOMS += [b'N', b'\x88', b'\x89', b']', b'}', b')', b'\x8f', b'K\x00', b'K\x01', b'K\x04', b'J\xff\xff\xff\xff',
              b'h\x00', b'J\xff\xff\xff\x7f', b'\x8a\x08' + bytes([255] * 7 + [63]), b'G' + b'\x7f' * 8, b'U\x04\0\0\0\0']

    def value(self, rng, depth=4):
        """bytes: Opcodes that leave one value on the stack."""
        if not depth or rng.random() < 0.25:
            return rng.choice(self.ATOMS)

        def inner(usual=None):  # what belongs there, more often than not
            return usual if usual and rng.random() < 0.8 else self.value(rng, depth - 1)

        def tuple_of(*values):
            return b'(' + b''.join(values) + b't'

        some = [inner() for _ in range(rng.randrange(4))]
        dtype = inner(named('numpy.dtype') + tuple_of(inner(text('f4')), inner(b'\x89'), inner(b'\x88')) + b'R' + tuple_of(
            b'K\x03', inner(text('<')), b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00') + b'b')
        data = inner(named('_codecs.encode') + tuple_of(inner(text('01234567')), inner(text('latin1'))) + b'R')
        array = named('numpy._core.multiarray._reconstruct') + tuple_of(
            inner(named('numpy.ndarray')), inner(b'K\x00\x85'), inner(data)) + b'R' + tuple_of(
                b'K\x01', inner(b'K\x02\x85'), dtype, inner(b'\x89'), data) + b'b'
        history = dict(_log_history=array, _count_history=array, max_length=b'K\x09')
        curve = named('mmengine.logging.history_buffer.HistoryBuffer') + b')\x81}(' + b''.join(
            text(key) + inner(value) for key, value in history.items()) + b'ub'
        storage = tuple_of(inner(text('storage')), inner(named('torch.FloatStorage')), inner(text('0')), inner(text('cpu')),
                           inner(b'K\x04')) + b'Q'
        tensor = named('torch._utils._rebuild_tensor_v2') + tuple_of(
            inner(storage), inner(b'K\x00'), inner(b'K\x04\x85'), inner(b'K\x01\x85'), inner(b'\x89'),
            inner(named('collections.OrderedDict') + b')R')) + b'R'
        call = rng.choice(self.NAMES) + inner(tuple_of(*some)) + rng.choice([b'R', b'\x81'])
        return rng.choice([array, curve, tensor, call, call, call + inner() + b'b', inner() + b'q\0', tuple_of(*some),
                           b'](' + b''.join(some) + b'e', b'}' + inner() + inner() + b's',
                           named('numpy._core.multiarray.scalar') + tuple_of(dtype, data) + b'R'])

    def case(self, rng, folder):
        body = b'\x80\x02' + self.value(rng) + b'.'
        path = folder / 'a.pth'
        write(path, body)
        loaded = load._load_pickle(str(path), 'cpu')
        used = _bytes_of(loaded, set())
        assert used < 100 * path.stat().st_size, f'silently unfolded to {used} bytes'
        return 'read'


def _bytes_of(value, seen):
    """int: What nested values take in memory; nothing but plain ones may be among them."""
    if id(value) in seen:
        return 0
    seen.add(id(value))
    inner = [*value.items()] if isinstance(value, dict) else value
    inner = inner if isinstance(inner, (list, tuple, set, frozenset)) else ()
    assert not callable(value) or isinstance(value, torch.Tensor), f'silently a {type(value).__name__}'
    own = value.untyped_storage().nbytes() if isinstance(value, torch.Tensor) else sys.getsizeof(value)
    return own + sum(_bytes_of(one, seen) for one in inner)


class Notes(Family):
    """`last_checkpoint`, whatever it says."""
    name, cases = 'notes', 3000

    def prepare(self, folder):
        for number in (1, 2):
            torch.save(dict(state_dict=dict(a=torch.ones(1) * number)), folder / f'epoch_{number}.pth')
        os.utime(folder / 'epoch_1.pth', (0, 0))

    def case(self, rng, folder):
        text = rng.choice(['epoch_1.pth', f'{folder}/epoch_2.pth', f'{folder}/../a.pth', '/dev/zero', '/', 'epoch_1.pth/x'])
        content = rng.choice([damage(text.encode(), rng), text.encode(), rng.randbytes(rng.randrange(300)), b'a' * 10_000])
        (folder / 'last_checkpoint').write_bytes(content)
        assert Path(latest_checkpoint(folder)).name in ('epoch_1.pth', 'epoch_2.pth'), 'silently another file'
        return 'read'


class States(Configs):
    """Checkpoints of training with whole check sums and distorted content, resumed."""
    name, cases = 'states', 150

    def prepare(self, folder):
        super().prepare(folder)
        self.config = _written(self.configs['coma'], folder)
        train(read_config(self.config, {**SHORT, 'train_cfg.max_epochs': 1}, work_dir='first'))
        _forget()
        self.content = torch.load(folder / 'first/epoch_1.pth', weights_only=True)
        self.large = {key: self.content.pop(key) for key in ('state_dict', 'optimizer')}

    def case(self, rng, folder):
        content, _ = distort(self.content, rng)
        large = dict(state_dict=self.large['state_dict'], optimizer=dict(self.large['optimizer']))
        if rng.random() < 0.3:
            part = rng.choice([large['optimizer']['state'], large['state_dict'], large['optimizer']['param_groups'][0]])
            part = copy.copy(part)
            part[rng.choice([*part])] = rng.choice([None, {}, torch.ones(1), 'x', -1])
            large = rng.choice([dict(large, state_dict=part), dict(large, optimizer=dict(large['optimizer'], state=part)),
                                dict(large, optimizer=dict(large['optimizer'], param_groups=[part]))])
        torch.save({**large, **content}, folder / 'state.pth')
        return _start(self.config, dict(resume=True, load_from=str(folder / 'state.pth'), **{'train_cfg.max_epochs': 3}))


FAMILIES = {family.name: family() for family in (
    OptionTexts, Notes, Checkpoints, Pickles, Images, Maps, Coco, States, Options, Configs)}
