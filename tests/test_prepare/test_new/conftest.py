"""Data as people have them, small, and what runs a config that was written from them."""
import numpy as np
import pytest
from PIL import Image

from coma_mm.config.read import read_config
from coma_mm.engine.train import train
from coma_mm.prepare.new import new_config


@pytest.fixture(scope='session')
def noise():
    """Writes an image of noise: (path, width, height)."""
    chance = np.random.RandomState(0)

    def write(path, width=96, height=64):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.randint(0, 255, (height, width, 3), np.uint8)).save(path)

    return write


@pytest.fixture
def written(tmp_path):
    """Writes a config, and reads it as `coma-mm train` does: (task, …) -> the config, the text and the summary."""

    def write(task, **what):
        text, summary = new_config(task, **{'measure': False, 'arch': 'tiny', **what})
        path = tmp_path / 'my.py'
        path.write_text(text)
        return read_config(str(path), work_dir=str(tmp_path / 'run')), text, summary

    return write


@pytest.fixture
def runs(monkeypatch):
    """Trains as a config says, but for an epoch of the first samples, and validates."""
    monkeypatch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **options: (text, True))

    def run(cfg, samples=2):
        for split in ('train', 'val'):
            loader = cfg[f'{split}_dataloader']
            loader.update(num_workers=0, batch_size=samples)
            for key in ('persistent_workers', 'prefetch_factor'):
                loader.pop(key, None)
            own = loader.dataset.get('indices')
            loader.dataset.indices = own[:samples] if own else samples
        cfg.auto_scale_lr = dict(base_batch_size=samples)
        cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = 1
        cfg.param_scheduler = None
        train(cfg)

    return run
