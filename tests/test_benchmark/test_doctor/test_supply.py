"""Images come as fast as the model takes them, or it is said what to do."""
import numpy as np
import pytest
from PIL import Image

from coma_mm.benchmark.doctor import BAD, LOOK, OK, supply
from coma_mm.datasets.samples import BandReading
from coma_mm.errors import UserError
from coma_mm.prepare.new.measure import Speed


@pytest.mark.parametrize('disk, reading, on_gpu, mark, said', [
    (900, 0.01, True, OK, 'the model takes 200 images/s'), (900, 0.04, True, LOOK, 'num_workers=10'),
    (900, 0.2, True, LOOK, 'a machine with more cores'), (50, 0.01, True, LOOK, 'on a faster disk'),
    (900, 0.01, False, OK, 'reading is 20 % of the time'), (900, 0.1, False, LOOK, 'reading is 71 % of the time'),
    (-50, 0.01, True, OK, 'in the first epoch, the memory later')])
def test_what_a_model_takes_is_set_against_what_there_is(monkeypatch, disk, reading, on_gpu, mark, said):
    monkeypatch.setattr(supply, 'usable_cores', lambda: 16)
    measured = supply.Reading(abs(disk), 500, 100, (4, 4), [])
    found = supply.compare(Speed(0.1, 9, reading, 0.005), measured, 8, on_gpu, 8, kept=disk < 0)
    assert found.mark == mark and said in str(found)


def test_a_folder_is_read_and_its_broken_images_are_named(tmp_path):
    with pytest.raises(UserError, match='does not exist; expected one with images'):
        supply.of_folder(str(tmp_path / 'none'))
    assert supply.of_folder(str(tmp_path)).mark == BAD
    for index in range(3):
        Image.fromarray(np.full((20, 30, 3), index, np.uint8)).save(tmp_path / f'{index}.png')
    assert '3 images, as of 30 × 20 px' in str(supply.of_folder(str(tmp_path)))
    (tmp_path / 'broken.png').write_bytes(b'')
    found = supply.of_folder(str(tmp_path))
    assert found.mark == BAD and 'broken.png' in found.found


def test_without_data_a_drawn_image_is_decoded():
    assert 'a core decodes' in str(supply.of_nothing())


def test_bands_are_read_as_the_config_reads_them(tmp_path):
    path = str(tmp_path / 'a.npy')
    np.save(path, np.zeros((20, 30, 4), np.uint16))
    assert supply.measure_reading([dict(img_path=path)], BandReading(4)).shape == (20, 30)
    assert 'expected bands=3' in supply.measure_reading([dict(img_path=path)], BandReading(3)).bad[0]
