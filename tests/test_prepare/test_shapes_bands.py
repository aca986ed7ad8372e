"""The set with a near-infrared band: two classes that it alone tells apart."""
import json

import numpy as np
import tifffile

from coma_mm.prepare.shape_scenes import INFRARED, LEVELS, WHITE, render_scene
from coma_mm.prepare.shapes import write_shapes

COUNTS = dict(unlabelled=1, train=2, val=0, test=0)


def test_near_infrared_alone_tells_field_from_roof():
    level = LEVELS['easy'].of_bands(4)
    values = {name: [] for name in INFRARED}
    for index in range(30):
        scene = render_scene(0, 'train', index, 48, 'easy', bands=4)
        for number, class_id in enumerate(scene.classes, 1):
            name = level.classes[class_id]
            if name in values:
                values[name].append(np.median(scene.image[scene.instances == number], axis=0) / WHITE)
    field, roof = (np.array(values[name]) for name in ('field', 'roof'))
    assert min(len(field), len(roof)) >= 5
    assert field[:, 3].min() > 0.6 > 0.4 > roof[:, 3].max()
    # In each other band the ranges overlap by more than half of what both cover.
    for band in range(3):
        ranges = [(one[:, band].min(), one[:, band].max()) for one in (field, roof)]
        shared = min(high for _, high in ranges) - max(low for low, _ in ranges)
        assert shared > (max(high for _, high in ranges) - min(low for low, _ in ranges)) / 2


def test_files_are_geotiff_of_16_bits_with_named_bands(tmp_path):
    assert write_shapes(tmp_path / 'set', COUNTS, 48, progress=False, level='easy', bands=4)
    assert not write_shapes(tmp_path / 'set', COUNTS, 48, progress=False, level='easy', bands=4)
    paths = sorted((tmp_path / 'set').rglob('*.tif'))
    assert len(paths) == 1 + 3 * 2
    with tifffile.TiffFile(tmp_path / 'set/coco/train/train_000001.tif') as file:
        assert file.is_geotiff
        assert (file.asarray() == render_scene(0, 'train', 1, 48, 'easy', 4).image).all()
        assert all(f'>{name}<' in file.pages[0].tags[42112].value for name in ('red', 'green', 'blue', 'nir'))
    marker = json.loads((tmp_path / 'set/coma_shapes.json').read_text())
    assert marker['parameters']['bands'] == 4 and marker['classes'] == ['circle', 'cross', 'field', 'roof', 'triangle']
