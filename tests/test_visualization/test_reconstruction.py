import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from PIL import Image

import coma_mm  # noqa: F401
from coma_mm.errors import UserError
from coma_mm.visualization import (
    load_for_viewing,
    ratios_figure,
    reconstruction_caption,
    reconstruction_figure,
    reconstruction_panels,
)

P = 32
KEEP = torch.tensor([[0, 4], [2, 3]])
REST = torch.tensor([[1, 2, 3, 5], [0, 1, 4, 5]])


def model_cfg(norm_pix=True, **kwargs):
    return dict(
        backbone=dict(type='DyViT', arch='tiny', out_indices=(0, 1, 2, 3), out_type='raw'),
        neck=dict(type='MultiScaleFusion', in_channels=(32, 64, 128, 256)),
        decoder=dict(type='ViTDecoder', in_channels=256, embed_dims=32, depth=1, num_heads=2),
        head=dict(type='PixelHead', norm_pix=norm_pix),
        **kwargs)


def images():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 2 * P, 3 * P), dtype=np.uint8))


def patch(pictures, image, index):
    row, column = divmod(index, 3)
    return pictures[image, row * P:(row + 1) * P, column * P:(column + 1) * P]


@pytest.mark.parametrize('complement', ['frozen', 'decoder', 'full', 'latent', 'none', 'MAE'])
@pytest.mark.parametrize('norm_pix', [True, False])
def test_every_patch_of_every_panel(complement, norm_pix):
    torch.manual_seed(0)
    kwargs = dict(type='MaskedAutoencoder') if complement == 'MAE' else dict(type='CoMA', complement=complement)
    model = MODELS.build(model_cfg(norm_pix, **kwargs)).train()
    panels = reconstruction_panels(model, images(), KEEP, REST)
    assert model.training

    rgb = images().flip(1).permute(0, 2, 3, 1).numpy()  # files are read as BGR
    np.testing.assert_array_equal(panels['input'], rgb)
    model.eval()
    normalised = model.data_preprocessor(dict(inputs=images()))['inputs']
    with torch.no_grad():
        predicted = {
            name: model.data_preprocessor.to_uint8(model.head.to_pixels(x, normalised)).permute(0, 2, 3, 1).numpy()
            for name, x in model.reconstruct_both(normalised, KEEP, REST).items()
        }
    branches = dict(adaptive=KEEP) if complement in ('none', 'MAE') else dict(adaptive=KEEP, evaluation=REST)
    assert set(panels) == {'input', *branches, *(f'{name}_saw' for name in branches),
                           *(['assembled'] if len(branches) == 2 else [])}
    for i in range(2):
        for index in range(6):
            for name, seen in branches.items():
                if index in seen[i]:
                    assert (patch(panels[f'{name}_saw'], i, index) == patch(rgb, i, index)).all()
                    assert (patch(panels[name], i, index) == patch(rgb, i, index)).all()
                else:
                    assert (patch(panels[f'{name}_saw'], i, index) == 128).all()
                    assert (patch(panels[name], i, index) == patch(predicted[name], i, index)).all()
            if 'assembled' in panels:
                unseeing, other = ('evaluation', 'adaptive') if index in KEEP[i] else ('adaptive', 'evaluation')
                assert (patch(panels['assembled'], i, index) == patch(predicted[unseeing], i, index)).all()
                assert (patch(panels['assembled'], i, index) != patch(predicted[other], i, index)).any()


@pytest.mark.parametrize('complement, norm_pix, columns', [('frozen', True, 6), ('none', False, 3)])
def test_figure_and_caption(complement, norm_pix, columns):
    model = MODELS.build(model_cfg(norm_pix, type='CoMA', complement=complement))
    samples = [dict(inputs=x, ids_keep=k, ids_rest=r) for x, k, r in zip(images(), KEEP, REST, strict=True)]
    fig = reconstruction_figure(model, samples, number=5)
    assert len(fig.axes) == 2 * columns
    titles = [ax.get_title() for ax in fig.axes[:columns]]
    assert all(titles) and not any(ax.get_title() for ax in fig.axes[columns:])
    note = ' '.join(text.get_text() for text in fig.texts)
    assert ('norm_pix' in note) == norm_pix
    assert ('mean and variance' in reconstruction_caption(model)) == norm_pix
    assert ('ssembled' in reconstruction_caption(model)) == (complement == 'frozen')


def test_without_statistics_nothing_comes_from_hidden_pixels():
    model = MODELS.build(model_cfg(type='CoMA'))
    other = images()
    for i, rest in enumerate(REST):
        for index in rest.tolist():
            row, column = divmod(index, 3)
            other[i, :, row * P:(row + 1) * P, column * P:(column + 1) * P] //= 2
    for own in (False, True):
        a, b = (reconstruction_panels(model, x, KEEP, REST, own)['adaptive'] for x in (images(), other))
        assert (a == b).all() == (not own)
    with torch.no_grad():  # predicts nothing, so the means are left
        model.evaluation['decoder'].predict.weight.zero_()
        model.evaluation['decoder'].predict.bias.zero_()
    predicted = reconstruction_panels(model, images(), KEEP, REST, False)['evaluation']
    rgb = images().flip(1).permute(0, 2, 3, 1).numpy()
    normalised = (rgb - model.data_preprocessor.mean.flatten().numpy()) / model.data_preprocessor.std.flatten().numpy()
    mean = np.mean([patch(normalised, 0, index) for index in REST[0].tolist()])
    expected = mean * model.data_preprocessor.std.flatten().numpy() + model.data_preprocessor.mean.flatten().numpy()
    np.testing.assert_allclose(patch(predicted, 0, 4), np.broadcast_to(expected, (P, P, 3)), atol=.51)


@pytest.mark.parametrize('complement', ['frozen', 'none'])
def test_ratios_figure(complement):
    model = MODELS.build(model_cfg(type='CoMA', complement=complement))
    masks = {.5: (torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])), .8: (torch.tensor([4]), torch.tensor([0, 1, 2, 3, 5]))}
    fig = ratios_figure(model, images()[0] if complement == 'none' else images()[0, 0], masks)
    panels = 7 if complement == 'frozen' else 4
    assert len(fig.axes) == 2 * panels + 1
    errors = [fig.axes[row * panels + panels - 1].images[0] for row in range(2)]
    assert len({error.norm.vmax for error in errors}) == 1
    shown = np.ma.getmaskarray(errors[1].get_array())
    assert not shown[:P].any() and shown[P:, P:2 * P].all() == (complement == 'none')
    for own, words in ((True, 'borrows'), (False, 'nothing in the picture comes from hidden pixels')):
        assert words in reconstruction_caption(model, own)


def test_load_for_viewing(tmp_path):
    for i, picture in enumerate(images().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(tmp_path / f'{i}.png')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PatchMask'), dict(type='PackMaskedImage')]
    cfg = Config(dict(
        default_scope='mmpretrain',
        model=model_cfg(type='CoMA'),
        data_preprocessor=dict(type='MaskedImagePreprocessor', mean=(1., 2., 3.)),
        val_dataloader=dict(
            dataset=dict(type='CustomDataset', data_root=str(tmp_path), with_label=False, pipeline=pipeline))))
    trained = MODELS.build(cfg.model)
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'trained.pth')
    model, dataset = load_for_viewing(cfg, tmp_path / 'trained.pth')
    assert not model.training
    assert model.data_preprocessor.mean.flatten().tolist() == [1., 2., 3.]
    for name, value in trained.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    assert len(reconstruction_figure(model, dataset).axes) == 12
    assert len({tuple(dataset[1]['ids_keep'].tolist()) for _ in range(8)}) == 1

    torch.save(dict(state_dict=trained.backbone.state_dict()), tmp_path / 'backbone.pth')
    with pytest.raises(UserError, match='backbone.pth does not hold the model'):
        load_for_viewing(cfg, tmp_path / 'backbone.pth')
    with pytest.raises(UserError, match='no test_dataloader'):
        load_for_viewing(cfg, tmp_path / 'trained.pth', 'test')
