#!/usr/bin/env python
"""Whether it matters that DyViT's residual stream is bf16 under autocast, where MAE's ViT has a float32 one.

    python tests/campaigns/residual_stream.py [--updates 300] [--seeds 0 1 2 3 4] [--folder FOLDER]

Pre-trains an MAE with a narrow DyViT of DyViT-B's 24 blocks on drawn images, from the same weights on the same batches and
masks, in float32, under bf16 autocast as it is, under bf16 autocast with a float32 stream in encoder and decoder, and in
float32 from weights that differ by a millionth, which shows what any other rounding does. Prints for each the training loss
(mean of the last eighth), the error on held-out images, in float32 and as in training, how far its losses are from those of
the float32 run of the same seed, and of another seed, and the relative error of the features of its trained weights. A run's
numbers are kept in FOLDER, so that what was interrupted goes on.
"""
import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import MMLogger

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from coma_mm.datasets.masking import draw_masks  # noqa: E402
from coma_mm.markdown import markdown_table  # noqa: E402
from coma_mm.models import MaskedAutoencoder  # noqa: E402
from coma_mm.models.dyvit import Downsample  # noqa: E402
from coma_mm.prepare.shape_scenes import render_scene  # noqa: E402

SIZE, BATCH, WARM_UP, RATE = 128, 16, 50, 1e-3
ARCH = dict(dims=(16, 32, 64, 128), depths=(2, 3, 16, 3), num_heads=(1, 2, 4, 8))
KINDS = ('float32', 'bf16', 'bf16, float32 stream', 'float32, nudged')


def images(split, count):
    """Tensor: uint8 (count, 3, SIZE, SIZE)."""
    drawn = [render_scene(0, split, index, SIZE).image.transpose(2, 0, 1) for index in range(count)]
    return torch.from_numpy(np.stack(drawn))


def masked(drawn, seed, epoch, indices):
    """dict: A batch with the masks of an epoch."""
    samples = [(seed, epoch, int(index)) for index in indices]
    keep, rest = draw_masks((SIZE, SIZE), samples, dict(type='UniformMaskSampler', ratio=0.6), 32)
    return dict(inputs=drawn[indices], ids_keep=keep, ids_rest=rest)


def build(kind, seed):
    """MaskedAutoencoder: Whose streams are float32 where the kind says so."""
    torch.manual_seed(seed)
    model = MaskedAutoencoder(
        backbone=dict(type='DyViT', arch=ARCH, out_indices=(0, 1, 2, 3), out_type='raw'),
        neck=dict(type='MultiScaleFusion'), decoder=dict(type='ViTDecoder', embed_dims=64, depth=4, num_heads=4),
        head=dict(type='PixelHead'))
    model.init_weights()
    if kind == KINDS[2]:  # what a stream begins with is float32, and float32 plus bf16 is that
        starts = [model.backbone.stem, model.decoder.embed,
                  *(part.expand for part in model.modules() if isinstance(part, Downsample))]
        for start in starts:
            start.register_forward_hook(lambda part, inputs, output: output.float())
    if kind == KINDS[3]:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 1e-6 * torch.randn_like(parameter))
    return model


def autocast(kind):
    return torch.autocast('cpu', torch.bfloat16, enabled=kind.startswith('bf16'))


@torch.no_grad()
def error(model, held_out, kind):
    """float: Of the masked patches of held-out images."""
    with autocast(kind):
        samples = model.eval().val_step(masked(held_out, 0, 0, torch.arange(len(held_out))))
    return statistics.mean(sample.reconstruction_error['masked'] for sample in samples)


def train(kind, seed, updates, drawn):
    """tuple: The model, and the losses."""
    model = build(kind, seed).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates - WARM_UP)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=WARM_UP)
    schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm_up, decay], [WARM_UP])
    generator, losses = torch.Generator().manual_seed(seed), []
    batches = (part for epoch in itertools.count() for part in (
        (epoch, indices) for indices in torch.randperm(len(drawn), generator=generator).split(BATCH)))
    for epoch, indices in itertools.islice(batches, updates):
        with autocast(kind):
            loss = model(**model.data_preprocessor(masked(drawn, seed, epoch, indices), True), mode='loss')['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def feature_errors(weights, held_out):
    """dict: Of each kind in bf16, the relative error of the last stage's features of the same weights."""
    found = {}
    for kind in KINDS[:3]:
        model = build(kind, 0).eval()
        model.load_state_dict(weights)
        data = model.data_preprocessor(masked(held_out, 0, 0, torch.arange(len(held_out))))
        with autocast(kind):
            found[kind] = model.backbone(data['inputs'], data['ids_keep'])[-1].double()
    exact = found.pop(KINDS[0])
    return {kind: float((value - exact).norm() / exact.norm()) for kind, value in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--updates', type=int, default=300)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2, 3, 4])
    parser.add_argument('--folder', type=Path, default='work_dirs/residual_stream')
    parser.add_argument('--images', type=int, default=512)
    args = parser.parse_args()
    MMLogger.get_current_instance().setLevel('ERROR')
    args.folder.mkdir(parents=True, exist_ok=True)
    runs, drawn, held_out = {}, None, images('val', 64)
    for seed, kind in itertools.product(args.seeds, KINDS):
        path = args.folder / f'{kind.replace(", ", "_").replace(" ", "_")}_{args.updates}_{seed}.json'
        if not path.exists():
            drawn = images('unlabelled', args.images) if drawn is None else drawn
            model, losses = train(kind, seed, args.updates, drawn)
            found = dict(losses=losses, float32=error(model, held_out, KINDS[0]), own=error(model, held_out, kind),
                         features=feature_errors(model.state_dict(), held_out))
            path.write_text(json.dumps(found))
            print(f'{kind}, seed {seed}: done', flush=True)
        runs[kind, seed] = json.loads(path.read_text())
    last = args.updates // 8

    def apart(one, other):
        return statistics.mean(abs(a - b) for a, b in zip(one['losses'][-last:], other['losses'][-last:], strict=True))

    rows = []
    for (kind, seed), run in runs.items():
        other = args.seeds[(args.seeds.index(seed) + 1) % len(args.seeds)]
        rows.append([kind, str(seed), f'{statistics.mean(run["losses"][-last:]):.4f}', f'{run["float32"]:.4f}',
                     f'{run["own"]:.4f}', f'{apart(run, runs[KINDS[0], seed]):.4f}',
                     f'{apart(run, runs[KINDS[0], other]):.4f}', *(f'{run["features"][name]:.4f}' for name in KINDS[1:3])])
    print(markdown_table(
        ['kind', 'seed', 'training loss', 'held out, float32', 'held out, as in training', 'from float32',
         'from float32, other seed', *(f'features, {name}' for name in KINDS[1:3])], rows, numbers=8, aligned=True))


if __name__ == '__main__':
    main()
