"""Checkpoints of models of other bands say so, and predict on files of these."""
import json

import numpy as np
import pytest
import tifffile
import torch

from coma_mm.config.read import read_config
from coma_mm.engine.description import as_text, describe
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.inference import backbones, load_described
from coma_mm.inference.backbones import features, load_backbone
from coma_mm.inference.export.facts import preprocessing
from coma_mm.inference.images import as_read
from coma_mm.inference.predict import Settings, predict
from coma_mm.weights import load, load_weights_only
from coma_mm.weights.description import KEY

from ..test_configs import ROOT


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    cfg = read_config(str(ROOT / 'small/upernet_dyvit-tiny-p16_12e_shapes-4bands.py'))
    cfg.model.backbone.init_cfg = None
    model = build_model(cfg)
    path = tmp_path_factory.mktemp('run') / 'model.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={KEY: as_text(describe(cfg, model))}), path)
    return str(path)


@pytest.fixture
def file(tmp_path):
    (tmp_path / 'in').mkdir()
    values = np.random.default_rng(0).integers(0, 10_000, (64, 64, 4)).astype(np.uint16)
    tifffile.imwrite(tmp_path / 'in/a.tif', values, photometric='minisblack', planarconfig='contig')
    return str(tmp_path / 'in/a.tif'), values


def test_a_checkpoint_alone_reads_its_bands_and_normalises_by_their_moments(checkpoint, file):
    path, values = file
    usable = load_described(checkpoint)
    assert usable.bands.names == ['red', 'green', 'blue', 'nir'] and usable.bands.chosen == 4
    mean = usable.model.data_preprocessor.mean.flatten().tolist()
    assert mean == usable.bands.moments['mean'] == [3214, 3171, 3073, 5256]
    one, other = usable(path), usable(values)
    assert torch.equal(one.sample.seg_logits.data, other.sample.seg_logits.data)
    assert one.image.shape == (64, 64, 3) and one.image.dtype == np.uint8
    with pytest.raises(UserError, match=r'an array \(H, W, 4\) of the bands red, green, blue, nir'):
        usable(values[..., :3])
    facts = preprocessing(usable.model, usable.pipeline, usable.bands)
    assert facts['bands'] == ['red', 'green', 'blue', 'nir'] and facts['mean'] == mean
    assert facts['channel_order'] == 'red, green, blue, nir'


def test_features_in_python_are_of_the_bands(checkpoint, file):
    backbone = load_backbone(checkpoint)
    one, other = features(backbone, file[0]), features(backbone, torch.from_numpy(file[1]).permute(2, 0, 1))
    assert [len(part) for part in one] == [32, 64, 128, 256] and all(map(torch.equal, one, other))


def test_predictions_are_drawn_on_the_bands_asked_for(checkpoint, file, tmp_path):
    outcome = predict(checkpoint, [file[0]], str(tmp_path / 'out'), Settings(), overlay=True, rgb=['nir', 0, 1])
    assert outcome.predicted == 1 and not outcome.failed
    assert (tmp_path / 'out/overlays/a.jpg').is_file() and (tmp_path / 'out/gallery.html').is_file()
    with pytest.raises(UserError, match="--rgb: what is read has no band 'swir'"):
        predict(checkpoint, [file[0]], str(tmp_path / 'other'), Settings(), rgb=['swir', 0, 1])


def test_a_file_of_other_bands_is_skipped_with_its_name(checkpoint, tmp_path):
    tifffile.imwrite(tmp_path / 'b.tif', np.zeros((64, 64, 5), np.uint16), photometric='minisblack', planarconfig='contig')
    outcome = predict(checkpoint, [str(tmp_path / 'b.tif')], str(tmp_path / 'out'), Settings())
    assert len(outcome.failed) == 1 and 'b.tif' in outcome.failed[0] and '5 bands' in outcome.failed[0]


def test_of_a_folder_all_files_are_taken_that_the_bands_can_be_read_of(checkpoint, file, tmp_path):
    path, values = file
    np.save(tmp_path / 'in/b.npy', values)
    outcome = predict(checkpoint, [str(tmp_path / 'in')], str(tmp_path / 'out'), Settings())
    assert outcome.predicted == 2 and not outcome.failed


def test_values_without_data_and_pages_are_read_in_python_as_the_models_step_reads_them(checkpoint, file, tmp_path):
    values = file[1].clip(8)
    values[:8] = 7
    pages = str(tmp_path / 'pages.tif')
    tifffile.imwrite(pages, values.transpose(2, 0, 1), photometric='minisblack')
    saved = torch.load(checkpoint)
    use = json.loads(saved['meta'][KEY])
    use['pipeline'][0].update(nodata=7, pages=True)
    use['bands']['nodata'] = 7
    saved['meta'][KEY] = json.dumps(use)
    torch.save(saved, tmp_path / 'm.pth')
    backbone, usable = load_backbone(tmp_path / 'm.pth'), load_described(tmp_path / 'm.pth')
    filled = values.copy()
    filled[:8] = values[8:].mean((0, 1)).round()
    expected = features(load_backbone(checkpoint), filled)
    for image in (pages, values):
        assert all(map(torch.equal, features(backbone, image), expected))
        assert np.array_equal(as_read(image, usable.bands, usable.reading), filled)
    gap = np.where(values == 7, np.nan, values)
    assert all(map(torch.equal, features(load_backbone(checkpoint), gap.round()), features(backbone, gap)))
    assert features(backbone, gap)[0].isfinite().all()
    with pytest.raises(UserError, match='an array of complex128 is no image; expected integers'):
        features(backbone, values + 1j)


def test_a_backbones_file_is_read_once(checkpoint, monkeypatch):
    read = []
    monkeypatch.setattr(load, 'load_weights_only', lambda path: read.append(path) or load_weights_only(path))
    monkeypatch.setattr(backbones, 'load_weights_only', lambda path: read.append(path) or load_weights_only(path))
    load_backbone(checkpoint)
    assert read == [checkpoint]
