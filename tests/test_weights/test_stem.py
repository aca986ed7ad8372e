"""The stem of a backbone is taken to other bands, and back."""
import pytest
import torch

from coma_mm.errors import UserError
from coma_mm.models import DyViT
from coma_mm.weights.load import load_backbone
from coma_mm.weights.stem import adapt_stem, names_of

from ..helpers.small_models import ARCH, randomise

RGB, RGBN = ['red', 'green', 'blue'], ['red', 'green', 'blue', 'nir']


def saved(tmp_path, channels, bands=None):
    """A checkpoint of a backbone, and the backbone."""
    backbone = randomise(DyViT(ARCH, in_channels=channels, out_indices=(0, 3))).eval()
    path = tmp_path / f'{channels}.pth'
    torch.save(dict(state_dict={f'backbone.{name}': value for name, value in backbone.state_dict().items()},
                    meta=dict(coma_mm=dict(bands=bands) if bands else {})), path)
    return str(path), backbone


def loaded(path, bands):
    backbone = DyViT(ARCH, in_channels=len(bands), out_indices=(0, 3), init_cfg=dict(
        type='Pretrained', checkpoint=path, prefix='backbone.', in_channels='adapt', bands=bands))
    backbone.init_weights()
    return backbone.eval()


def test_the_sum_of_the_responses_stays_and_named_bands_keep_their_places():
    weight = torch.randn(8, 3, 7, 7)
    found, line = adapt_stem(weight, RGB, ['nir', 'blue', 'red', 'green'])
    assert torch.allclose(found.sum(1), weight.sum(1), atol=1e-6)
    assert torch.equal(found[:, 1], weight[:, 2] * .75) and torch.allclose(found[:, 0], weight.mean(1) * .75)
    assert line == 'its 3 bands became 4: blue, red, green in their places; nir from the mean over red, green, blue'


def test_rgb_images_are_seen_as_before(tmp_path, caplog):
    path, before = saved(tmp_path, 3)
    images = torch.randn(1, 3, 64, 64)
    # The same bands in another order.
    after = loaded(path, ['blue', 'red', 'green'])
    for one, other in zip(before(images), after(images[:, [2, 0, 1]]), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    # Grey ones, with any band more.
    grey = images[:, :1].expand(-1, 3, -1, -1)
    for one, other in zip(before(grey), loaded(path, RGBN)(images[:, :1].expand(-1, 4, -1, -1)), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_there_and_back_is_the_same_backbone(tmp_path):
    path, before = saved(tmp_path, 3)
    wide = loaded(path, RGBN)
    torch.save(dict(state_dict=wide.state_dict(), meta=dict(coma_mm=dict(bands=RGBN))), tmp_path / 'wide.pth')
    back = loaded(str(tmp_path / 'wide.pth'), RGB)
    assert torch.allclose(back.stem.weight, before.stem.weight, atol=1e-7)


def test_the_loading_line_says_it_and_without_the_key_the_error_names_it(tmp_path, capfd):
    path, _ = saved(tmp_path, 3)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('coma_mm.weights.load.print_log', lambda line, **_: lines.append(line))
        load_backbone(DyViT(ARCH, in_channels=4), path, in_channels='adapt', bands=RGBN)
    assert 'stem.weight: its 3 bands became 4: red, green, blue in their places; nir from the mean' in lines[-1]
    with pytest.raises(UserError, match="trained on images of 3 bands, and this model is for 4.*in_channels='adapt'"):
        load_backbone(DyViT(ARCH, in_channels=4), path)
    with pytest.raises(UserError, match="init_cfg.in_channels='adpat': expected one of adapt"):
        load_backbone(DyViT(ARCH, in_channels=4), path, in_channels='adpat')


def test_three_bands_without_names_are_red_green_and_blue():
    assert names_of(3, None) == RGB and names_of(2, None) == ['band 0', 'band 1'] and names_of(2, ['A', 'B']) == ['a', 'b']
