"""`torch.jit.script` compiles a DyViT that computes the same."""
import io

import pytest
import torch

from ..helpers.small_models import ARCH, small_dyvit


@pytest.mark.filterwarnings('ignore:.*torch.jit')
@pytest.mark.parametrize('settings', [
    dict(out_indices=(0, 1, 2, 3), patch_size=16, pos_scale=.25, reduce='mean'),
    dict(windows='fine', out_type='avg_featmap', dense_conv=True),
    dict(out_indices=(1, 3), out_type='raw', pos_embed='learned', img_size=64)], ids=['maps', 'means', 'tokens'])
def test_a_scripted_backbone_gives_the_same_for_images_of_any_size(settings):
    backbone = small_dyvit(arch=dict(ARCH, depths=(2, 1, 1, 1)), **settings)
    before = list(backbone.state_dict())
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(backbone), file)
    file.seek(0)
    scripted = torch.jit.load(file)
    assert list(backbone.state_dict()) == before
    for size in ((64, 64), (37, 90), (1, 33)):
        images = torch.randn(2, 3, *size, dtype=torch.float64)
        with torch.no_grad():
            for found, expected in zip(scripted(images), backbone(images), strict=True):
                torch.testing.assert_close(found, expected)
