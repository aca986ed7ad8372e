"""Folders of runs as mmengine writes them: its dump of a config, its backend's scalars, its text log."""
import copy
import functools
import json
import os
import shutil
from pathlib import Path
from unittest import mock

from mmengine.config import Config
from mmengine.visualization import LocalVisBackend

ROOT = Path(__file__).parents[2]
COMA = dict(
    algorithm='CoMA', backbone='DyViT', arch='base', epochs=800, iters=249_600, max_epochs=800, mask_ratio=0.6,
    mask_sampler='UniformMaskSampler', complement='frozen', decoder='ViTDecoder', decoder_depth=8,
    config='coma_dyvit-base_8xb512-amp-coslr-800e_in1k.py', data_root='data/imagenet', images=1_281_167,
    images_per_update=4096, seed=0, backbone_from=None, checkpoint='/elsewhere/coma/epoch_800.pth')
"""Facts on a pre-trained backbone as a fine-tuning's provenance.json has them."""
IMAGENET = 'classification/dyvit-base_8xb128-coslr-100e_in1k'
ENVIRONMENT = """2026/01/01 {0}:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    CUDA available: True
    GPU 0,1,2,3: NVIDIA H200
    PyTorch: 2.15.0
    MMEngine: 0.10.12

Runtime environment:
    seed: 0
    Distributed training: True
    GPU number: 4
------------------------------------------------------------
2026/01/01 {0}:30:00 - mmengine - INFO - Epoch(train)  [1][100/1252]
2026/01/01 {1}:00:00 - mmengine - INFO - Saving checkpoint
"""


@functools.cache
def _read(name):
    return Config.fromfile(ROOT / f'configs/{name}.py')


def config_of(name, **options):
    """A config of the repository with options set, whose dots are written as double underscores."""
    cfg = copy.deepcopy(_read(name))
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return cfg


def train(step, loss, epoch=None, **others):
    """An entry of training."""
    entry = dict(lr=1e-3, data_time=.1, loss=loss, time=.5, **others, iter=step, memory=2048)
    return entry if epoch is None else dict(entry, epoch=epoch)


def unformatted():
    """A context in which mmengine dumps configs without laying their text out, which takes seconds."""
    return mock.patch('yapf.yapflib.yapf_api.FormatCode', lambda text, **_: (text, True))


def write_start(folder, cfg, entries, name='20260101_000000', hours=('00', '02')):
    """One start of a run: `entries` are those of training, which have 'iter', and (metrics, logged step) of validation."""
    backend = LocalVisBackend(str(folder / name / 'vis_data'))
    with unformatted():
        backend.add_config(cfg)
    for entry in entries:
        scalars, step = entry if isinstance(entry, tuple) else (entry, entry['iter'])
        backend.add_scalars(dict(scalars), step=step)
    (folder / name / f'{name}.log').write_text(ENVIRONMENT.format(*hours))


def write_run(folder, cfg, entries, provenance=None, checkpoint=None, **options):
    """A run with one start; its log has not grown for a day."""
    folder.mkdir(parents=True, exist_ok=True)
    write_start(folder, cfg, entries, **options)
    shutil.copy(next(folder.glob('*/vis_data/config.py')), folder / 'dumped.py')
    if provenance is not None:
        (folder / 'provenance.json').write_text(json.dumps(provenance))
    if checkpoint:
        (folder / checkpoint).touch()
        (folder / 'last_checkpoint').write_text(f'/where/it/was/{checkpoint}')
    age(folder)
    return folder


def age(folder, seconds=86_400):
    """Make all files that old."""
    for file in folder.rglob('*'):
        times = file.stat().st_mtime - seconds
        os.utime(file, (times, times))


def write_test(folder, cfg, checkpoint, metrics, name='20260102_000000', images=None):
    """The results of a test, as mmengine's logger hook and visualizer write them, and the number of its images as we do."""
    cfg = copy.deepcopy(cfg)
    cfg.load_from = str(checkpoint)
    backend = LocalVisBackend(str(folder / name / 'vis_data'))
    with unformatted():
        backend.add_config(cfg)
    (folder / name / f'{name}.json').write_text(json.dumps(dict(metrics, data_time=.1, time=.2)))
    if images:
        (folder / name / 'tested.json').write_text(json.dumps(dict(images=images)))


def imagenet_run(folder, top1=84.5, origin=None, seed=0, images=1_281_167, entries=None, **options):
    """A finished fine-tuning on ImageNet-1K, from CoMA's weights."""
    cfg = config_of(IMAGENET, randomness__seed=seed, **options)
    provenance = dict(
        algorithm='ImageClassifier', seed=seed, images=images, images_per_update=1024, config='any.py',
        backbone_from=COMA | (origin or {}), command='tools/train.py any.py', world_size=8, device='NVIDIA H200',
        versions=dict(torch='2.15.0'))
    entries = entries or [train(125_000, 2.5, 100), ({'accuracy/top1': top1, 'accuracy/top5': 97.}, 100)]
    return write_run(folder, cfg, entries, provenance, 'epoch_100.pth')
