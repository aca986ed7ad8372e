"""Images in every form that people have them in."""
import numpy as np
import pytest
import torch
from PIL import Image

from coma_mm.errors import UserError
from coma_mm.inference.images import as_bgr, several


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_every_form_is_the_same_image(tmp_path, rgb):
    Image.fromarray(rgb).save(tmp_path / 'a.png')
    tensor = torch.from_numpy(rgb).permute(2, 0, 1)
    forms = [tmp_path / 'a.png', str(tmp_path / 'a.png'), rgb, Image.fromarray(rgb), tensor, tensor / 255,
             Image.fromarray(rgb).convert('RGBA')]
    assert all(np.array_equal(as_bgr(one), rgb[..., ::-1]) and as_bgr(one).dtype == np.uint8 for one in forms)


def test_grey_images_have_three_equal_channels(rgb):
    grey = rgb[..., 0]
    for one in (grey, grey[..., None], Image.fromarray(grey), torch.from_numpy(grey)[None]):
        assert np.array_equal(as_bgr(one), np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize(('wrong', 'line'), [
    (np.zeros((4, 4, 3)), 'an array of float64 is no image'),
    (np.zeros((4, 4, 2), np.uint8), r'an array of shape \(4, 4, 2\) is no image'),
    (np.zeros((0, 4, 3), np.uint8), r'an array of shape \(0, 4, 3\) is no image'),
    (torch.full((3, 4, 4), 2.), 'a tensor of torch.float32 in 2 to 2 is no image'),
    (torch.zeros(4, 4, dtype=torch.uint8), r'a tensor of shape \(4, 4\) is no image'),
    (torch.full((3, 4, 4), torch.nan), 'is no image'),
    (torch.zeros(3, 4, 4, dtype=torch.int64), 'an array of int64 is no image'),
    (7, 'a int is no image; expected a path'),
    ('nowhere.jpg', 'nowhere.jpg'),
])
def test_what_is_no_image_is_said_in_one_line(wrong, line):
    with pytest.raises(UserError, match=line):
        as_bgr(wrong)


def test_one_image_and_several_are_told_apart(rgb):
    assert several(rgb) == ([rgb], True) and several('a.png') == (['a.png'], True)
    assert several(['a.png']) == (['a.png'], False) and several(('a.png', 'b.png'))[1] is False
    found, single = several(torch.zeros(2, 3, 4, 4))
    assert len(found) == 2 and found[0].shape == (3, 4, 4) and not single
