"""CoMA's mode 'latent': a moving average teaches by its tokens of the patches that it alone sees."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS

from coma_mm.errors import UserError
from coma_mm.models import CoMA, LatentHead
from coma_mm.models.token_layout import sincos_position

from ..helpers import reference
from ..helpers.small_models import ARCH, model_settings, randomise, small_batch, small_coma, small_mae
from .test_masked_vit import masked_batch
from .test_masked_vit import small_coma as small_vit_coma


def normalised(token):
    """One token by its own mean and variance over its channels."""
    mean = token.sum() / len(token)
    variance = (token - mean).square().sum() / len(token)
    return (token - mean) / torch.sqrt(variance + 1e-5)


def disturbed(*args, **kwargs):
    """Another encoder than the adaptive one, as in the middle of a training."""
    model = small_coma('latent', *args, **kwargs)
    randomise(model.evaluation, seed=7)
    return model


def test_targets_and_predictions_are_the_references():
    """Image by image and patch by patch on the grid, by the literal DyViT and decoder, to the loss and its gradient."""
    model, batch = disturbed(), small_batch(2, (2, 3), 0.6)
    model.latent_weight, model.pixel_weight = 0.7, 0.2
    positions = [sincos_position(sides, dims)[0].double() for sides, dims in (((16, 24), ARCH['dims'][0]), ((2, 3), 16))]
    encoder, decoder = model.evaluation['backbone'], model.decoder
    to_tokens = SimpleNamespace(embed=decoder.embed, mask_token=decoder.mask_token, blocks=decoder.blocks, norm=decoder.norm,
                                predict=model.latent_head.predict)
    latents, pixels, targets = [], [], []
    for image, keep, rest in zip(batch['inputs'], batch['ids_keep'].tolist(), batch['ids_rest'].tolist(), strict=True):
        # The evaluation encoder sees the complement alone.
        stages, _ = reference.dyvit(encoder, image, [stage[1].attn.windows for stage in encoder.stages], positions[0], rest)
        target = [normalised(patch[:, 0, 0]) for patch in stages[3]]  # of the last stage, one token per patch
        guessed = reference.reconstruct(
            SimpleNamespace(backbone=model.backbone, neck=model.neck, decoder=to_tokens), image, keep, positions)
        latents += [(guessed[i] - token).square().mean() for i, token in zip(rest, target, strict=True)]
        pixels.append(reference.loss(reference.reconstruct(model, image, keep, positions), None, image, keep, rest))
        targets.append(dict(zip(rest, target, strict=True)))
    tokens, pixel = torch.stack(latents).mean(), torch.stack(pixels).mean()
    loss = 0.7 * tokens + 0.2 * pixel
    found = model(**batch, mode='loss')
    assert list(found) == ['loss', 'mse_adaptive', 'mse_latent', 'target_std']
    for name, expected in dict(loss=loss, mse_adaptive=pixel, mse_latent=tokens).items():
        assert found[name].item() == pytest.approx(expected.item(), rel=1e-10), name
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(loss, [*parameters.values()])
    found['loss'].backward()
    for (name, parameter), grad in zip(parameters.items(), expected, strict=True):
        assert grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-7, atol=1e-11, msg=name)
    # Between images, place by place: two images differ where they have a place in common.
    both = [(targets[0][i], targets[1][i]) for i in targets[0].keys() & targets[1].keys()]
    variance = torch.stack([(a - b).square() / 2 for a, b in both]).mean()
    assert both and found['target_std'].item() == pytest.approx(variance.sqrt().item(), rel=1e-10)


@pytest.mark.parametrize('unit', [8, 16])
def test_the_tokens_of_a_plain_transformer_are_its_last_layers_without_the_class_token(unit):
    model, batch = small_vit_coma('latent'), masked_batch(unit)
    randomise(model.evaluation, seed=7)
    with torch.no_grad():
        tokens = model.evaluation['backbone'](batch['inputs'], batch['ids_rest'])[-1]
        described = model.decoder.describe(model.backbone(batch['inputs'], batch['ids_keep'])[-1], batch['ids_keep'], (4, 4))
    errors = []
    for image in range(len(tokens)):
        for target, place in zip(tokens[image], batch['ids_rest'][image].tolist(), strict=True):
            guessed = reference.linear(described[image, place], model.latent_head.predict)
            errors.append((guessed - normalised(target)).square().mean())
    assert model(**batch, mode='loss')['mse_latent'].item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-10)


def test_without_the_tokens_it_is_the_masked_autoencoder():
    mae, batch = small_mae(), small_batch()
    model = disturbed()
    assert torch.equal(model(**batch, mode='loss')['mse_adaptive'], mae(**batch, mode='loss')['loss'])
    mae(**batch, mode='loss')['loss'].backward()
    alone = model(**batch, mode='loss', both_branches=False)
    assert list(alone) == ['loss', 'mse_adaptive'] and torch.equal(alone['loss'], alone['mse_adaptive'])
    alone['loss'].backward()
    grads = {name: value.grad for name, value in model.named_parameters()}
    for name, value in mae.named_parameters():
        torch.testing.assert_close(grads.pop(name), value.grad, rtol=1e-9, atol=1e-12)
    assert set(grads) == {'latent_head.predict.weight', 'latent_head.predict.bias'}
    assert not any(grad.any() for grad in grads.values())  # as DDP expects: zeros, not nothing


def test_with_no_weight_the_pixels_teach_nothing():
    model = disturbed()
    model.pixel_weight = 0.
    losses = model(**small_batch(), mode='loss')
    losses['loss'].backward()
    assert torch.equal(losses['loss'], losses['mse_latent'])
    for name, value in model.named_parameters():
        assert value.grad.any() == (not name.startswith('decoder.predict')), name


# The moving average


def updated(model, wrapper, batches, progress):
    """The evaluation encoder after each batch."""
    states = []
    for step in range(batches):
        model.progress = progress(step)
        with wrapper.optim_context(model):
            loss = model(**small_batch(seed=step), mode='loss')['loss']
        wrapper.update_params(loss)
        states.append({name: value.clone() for name, value in model.evaluation.state_dict().items()})
    return states


def test_it_goes_from_one_momentum_to_the_other_once_per_update():
    """Of four batches of two micro-batches each."""
    model = small_coma('latent')
    model.momentum, model.end_momentum = 0.5, 0.9
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-1), accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 8)
    model.follow(wrapper.optimizer)
    adaptive = []
    wrapper.optimizer.register_step_pre_hook(lambda *_: adaptive.append(
        {name: value.clone() for name, value in model.state_dict().items()}))
    average = {name: value.clone() for name, value in model.evaluation.state_dict().items()}
    states = updated(model, wrapper, 8, lambda step: step / 8)
    assert len(adaptive) == 4
    for i, state in enumerate(states):
        if i % 2:
            momentum = 0.5 + 0.4 * i / 8
            average = {name: momentum * value + (1 - momentum) * adaptive[i // 2][name] for name, value in average.items()}
        for name, value in state.items():
            torch.testing.assert_close(value, average[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize('complement, given, expected', [
    ('latent', {}, (0.996, 1.)), ('latent', dict(momentum=0.9), (0.9, 1.)), ('latent', dict(end_momentum=0.9), (0.996, 0.9)),
    ('frozen', {}, (0., 0.)), ('decoder', dict(momentum=0.9), (0.9, 0.9)), ('decoder', dict(end_momentum=0.9), (0., 0.9))])
def test_momentum(complement, given, expected):
    model = CoMA(**model_settings(), complement=complement, **given)
    assert (model.momentum, model.end_momentum) == expected


# What is logged of a collapse


@pytest.mark.parametrize('targets, expected', [
    ('noise', 1.), ('constant', 0.), ('places', 0.), ('half', 0.5**0.5)])
def test_the_spread_is_that_between_images_at_one_place(targets, expected):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 5, 64, generator=generator, dtype=torch.float64)
    ids = torch.stack([torch.randperm(9, generator=generator)[:5] for _ in noise])
    places = torch.randn(9, 64, generator=generator, dtype=torch.float64)[ids]
    tokens = dict(noise=noise, constant=places[:1, :1].expand_as(noise), places=places, half=noise + places)[targets]
    tokens = LatentHead.target(tokens)
    assert LatentHead.spread(tokens, ids, 9).item() == pytest.approx(expected, abs=0.02)
    torch.testing.assert_close(tokens.square().mean(-1), torch.ones(400, 5, dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_the_spread_of_a_single_image_is_0():
    assert LatentHead.spread(torch.randn(1, 3, 8), torch.tensor([[0, 2, 3]]), 4) == 0


# Settings


@pytest.mark.parametrize('changes, words', [
    (dict(latent_weight=0), 'CoMA: latent_weight=0: expected a number above 0'),
    (dict(pixel_weight=-1), 'CoMA: pixel_weight=-1: expected a number, 0 or more'),
    (dict(end_momentum=1.1), 'CoMA: end_momentum=1.1: expected a number from 0 to 1'),
    (dict(momentum=1.), r'momentum 1.0 is outside \[0, 1\)'),
    (dict(decoder=torch.nn.Module), 'predicts from the decoder\'s tokens: Module is no PatchDecoder .*; take ViTDecoder'),
    (dict(backbone=(0, 1)), "predicts one token per patch: DyViT needs .* with DyViT let out_indices end with 3"),
])
def test_settings_that_do_not_fit(changes, words):
    cfg = model_settings()
    if 'decoder' in changes:
        decoder = changes['decoder']()
        decoder.patch_size = 32
        changes = dict(changes, decoder=decoder)
    if 'backbone' in changes:
        cfg['backbone']['out_indices'] = changes['backbone']
        cfg['neck'] = dict(type='ConcatStages')
        cfg['decoder']['in_channels'] = 16
        changes = {}
    with pytest.raises(UserError, match=words):
        MODELS.build(dict(dict(cfg, **changes), type='CoMA', complement='latent'))
