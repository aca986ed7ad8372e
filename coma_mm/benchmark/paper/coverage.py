"""Fig. 2: how often each patch is reconstructed, and how often it teaches, by mask sampler and `complement` mode."""
from pathlib import Path

import matplotlib
import numpy as np
import pandas
import torch
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from coma_mm.datasets import masking
from coma_mm.datasets.mask_samplers import ColorNoiseMaskSampler
from coma_mm.datasets.seeding import seeded_generators
from coma_mm.markdown import markdown_table
from coma_mm.models import CoMA
from coma_mm.progress import track
from coma_mm.visualization.style import RC

SAMPLERS = {
    'uniform': dict(type='UniformMaskSampler'),
    **{f'{color} noise': dict(type='ColorNoiseMaskSampler', color=color) for color in ColorNoiseMaskSampler.COLORS},
    'blocks': dict(type='BlockMaskSampler'),
}
EFFECTS = ('reconstructed', 'teaches the decoder', 'teaches the encoder')
TIMES = (1, 5, 10, 50, 100)
MODES = tuple(mode for mode in CoMA.COPIES if mode != 'latent')  # which reconstructs what 'none' does


def run(args):
    """Draw the masks, write figure and tables, print the tables."""
    masks, teaching = measure(args.iterations, args.ratio, args.size, args.patch_size, args.seed, progress=True)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    coverage_figure(masks, teaching).savefig(out / 'coverage.png', dpi=110, facecolor='white')
    text = tables(masks, teaching)
    (out / 'coverage.md').write_text(text, encoding='utf-8')
    write_csv(masks, teaching, out / 'coverage.csv')
    print(f'{text}\nfigure and tables: {out}/coverage.png, .csv, .md')


def measure(iterations=1600, ratio=0.6, size=224, patch_size=32, seed=0, progress=False):
    """All samplers and modes.

    Args:
        iterations (int): Defaults to 1600, as Fig. 2.
        ratio (float): Share of masked patches. Defaults to 0.6.
        size, patch_size, seed: See `draw_masks`.
        progress (bool): Whether to show it. Defaults to False.

    Returns:
        tuple[dict, dict]: By sampler what `draw_masks` gives, and by mode what `patches_that_teach` does.
    """
    teaching = {complement: patches_that_teach(complement) for complement in MODES}
    # In the order none, frozen, decoder, full: by how much the complement teaches.
    teaching = dict(sorted(teaching.items(), key=lambda item: sum(map(sum, item[1].values()))))
    masks = {name: draw_masks(dict(sampler, ratio=ratio), iterations, size, patch_size, seed, name if progress else None)
             for name, sampler in SAMPLERS.items()}
    return masks, teaching


def patches_that_teach(complement):
    """What the loss makes of the patches that the adaptive model sees, and of those that it does not.

    A small CoMA model's loss is taken for one patch at a time, by leaving all other patches' errors out of it. A patch
    is reconstructed if that loss is not zero; it teaches a module if that loss gives the module a gradient.

    Args:
        complement (str): Of `CoMA`.

    Returns:
        dict[str, tuple[bool, bool]]: For each of `EFFECTS` whether kept patches have it, and whether masked ones do.

    Raises:
        RuntimeError: Patches of the same kind differ.
    """
    with seeded_generators(0):
        images = torch.randn(1, 3, 64, 64)
        model = CoMA(
            backbone=dict(type='DyViT', arch=dict(dims=(8, 16, 16, 16), depths=(1, ) * 4, num_heads=(1, ) * 4),
                          out_indices=(0, 1, 2, 3), out_type='raw'),
            neck=dict(type='MultiScaleFusion'),
            decoder=dict(type='ViTDecoder', embed_dims=16, depth=1, num_heads=1),
            head=dict(type='PixelHead'), complement=complement)
    model.eval()
    kept, masked = torch.tensor([[0]]), torch.tensor([[1, 2, 3]])
    patch_errors = model.head.patch_errors
    found = {}
    for patch in range(4):
        model.head.patch_errors = lambda pred, images, ids, patch=patch: patch_errors(pred, images, ids) * (ids == patch)
        model.zero_grad()
        loss = model(images, kept, masked, mode='loss')['loss']
        if loss.requires_grad:
            loss.backward()
        gradients = [any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
                     for module in (model.decoder, model.backbone)]
        found.setdefault(patch in masked, set()).add((loss.item() != 0, *gradients))
    if any(len(kinds) > 1 for kinds in found.values()):
        raise RuntimeError(f'complement={complement!r}: patches of one kind differ in what they teach: {found}')
    kept, masked = (found[kind].pop() for kind in (False, True))
    return dict(zip(EFFECTS, zip(kept, masked, strict=True), strict=True))


def draw_masks(sampler, iterations, size=224, patch_size=32, seed=0, name=None):
    """The masks that one image gets in training, one per epoch.

    Args:
        sampler (dict): Config of a mask sampler.
        iterations (int): N.
        size (int): Side of the image in px. Defaults to 224.
        patch_size (int): Side of a patch in px. Defaults to 32.
        seed (int): The run's. Defaults to 0.
        name (str, optional): For the progress; without it there is none.

    Returns:
        ndarray: bool (N, rows, columns), True where the adaptive model does not see the patch.
    """
    epochs = track(range(iterations), f'Masks, {name}', disable=not name)
    _, rest = masking.draw_masks((size, size), ((seed, epoch, 0) for epoch in epochs), sampler, patch_size)
    side = size // patch_size
    return torch.zeros(iterations, side**2, dtype=torch.bool).scatter_(1, rest, True).view(-1, side, side).numpy()


def select(masks, kinds):
    """Which patches have an effect in each iteration.

    Args:
        masks (ndarray): bool (N, rows, columns), from `draw_masks`.
        kinds (tuple[bool, bool]): Whether kept patches have it, and whether masked ones do.

    Returns:
        ndarray: bool, of the same shape.
    """
    kept, masked = kinds
    return masks & masked | ~masks & kept


def variation(chosen):
    """float: Coefficient of variation over the patches of how often each was chosen: standard deviation by mean."""
    counts = chosen.sum(0)
    return counts.std() / counts.mean()


def variation_by_chance(chosen):
    """float: What `variation` is expected to be if every mask is drawn independently and no patch is preferred.

    A patch is then chosen with the same probability p in each of N iterations, so its count has the variance
    N·p·(1 - p), and the mean over the patches is N·p in every draw.
    """
    p = chosen.mean()
    return np.sqrt((1 - p) / (p * len(chosen)))


def iterations_until(chosen, times):
    """Mean number of iterations until every patch was chosen so many times.

    As iterations are independent, counting starts anew each time it is reached: the mean over these stretches.

    Args:
        chosen (ndarray): bool (N, rows, columns).
        times (int): c.

    Returns:
        float | None: None if N iterations are too few for one stretch.
    """
    stretches, start = 0, 0
    counts = np.zeros(chosen.shape[1:], int)
    for iteration, now in enumerate(chosen, 1):
        counts += now
        if counts.min() >= times:
            stretches, start, counts[:] = stretches + 1, iteration, 0
    return start / stretches if stretches else None


def columns(teaching):
    """Effects that fall on the same patches in a mode share a column.

    Args:
        teaching (dict[str, dict]): By mode, what `patches_that_teach` returns.

    Returns:
        list[tuple]: Mode, names of effects, and for `select` which patches have them.
    """
    found = []
    for complement, effects in teaching.items():
        for kinds in dict.fromkeys(effects.values()):
            found.append((complement, [name for name in effects if effects[name] == kinds], kinds))
    return found


def coverage_figure(masks, teaching):
    """Heat maps on one colour scale: a row per sampler, one or two columns per mode.

    Args:
        masks (dict[str, ndarray]): By sampler, from `draw_masks`.
        teaching (dict[str, dict]): By mode, from `patches_that_teach`.

    Returns:
        Figure: For `savefig`.
    """
    parts = columns(teaching)
    iterations = len(next(iter(masks.values())))
    cell, left, right, top, bottom = 1.2, 1.15, 1.1, 1.15, .5  # inches
    width, height = left + cell * len(parts) + right, top + cell * len(masks) + bottom
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(width, height))
        axes = fig.subplots(len(masks), len(parts), squeeze=False)
        fig.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, wspace=.08, hspace=.26)
        for row, (name, drawn) in zip(axes, masks.items(), strict=True):
            row[0].set_ylabel(name.replace(' ', '\n'), rotation=0, ha='right', va='center')
            for ax, (_, _, kinds) in zip(row, parts, strict=True):
                share = 100 * select(drawn, kinds).mean(0)
                picture = ax.imshow(share, cmap='viridis', vmin=0, vmax=100)
                low, high = round(share.min()), round(share.max())
                ax.set_xlabel(f'{low} %' if low == high else f'{low} to {high} %', fontsize=9, labelpad=3)
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
        for ax, (_, effects, _) in zip(axes[0], parts, strict=True):
            words = [effect.replace('teaches the ', 'teaches\n') for effect in effects]
            if effects[-2:] == list(EFFECTS[1:]):
                words[-2:] = ['teaches encoder\nand decoder']
            ax.set_title(',\n'.join(words), fontsize=9, pad=5)
        for complement in teaching:
            spots = [ax.get_position() for ax, part in zip(axes[0], parts, strict=True) if part[0] == complement]
            start, end = spots[0].x0, spots[-1].x1
            fig.text((start + end) / 2, 1 - .3 / height, f"'{complement}'", ha='center', va='center', fontweight='bold')
            fig.add_artist(Line2D((start, end), (1 - .45 / height, ) * 2, color='grey', linewidth=1))
        fig.text((left - .1) / width, 1 - .3 / height, 'complement', ha='right', va='center')
        bar = fig.add_axes((1 - .9 / width, bottom / height, .18 / width, 1 - (top + bottom) / height))
        fig.colorbar(picture, bar, label=f'% of {iterations} iterations')
    return fig


def tables(masks, teaching):
    """What the modes do with a mask, and how evenly the samplers cover the image, as Markdown."""
    return ('Which patches an iteration reconstructs, and from which it learns:\n\n'
            f'{markdown_table(*mode_table(teaching))}\n'
            f'{explanation(masks)}:\n\n{markdown_table(*sampler_table(masks), numbers=8)}')


def mode_table(teaching):
    """tuple[list, list]: Heads of the columns and rows: what the modes do with a mask."""
    words = {(False, True): 'masked', (True, True): 'all', (False, False): 'none', (True, False): 'kept'}
    rows = [[f"'{mode}'", *(words[kinds] for kinds in effects.values())] for mode, effects in teaching.items()]
    return ['complement', *EFFECTS], rows


def sampler_table(masks):
    """tuple[list, list]: Heads of the columns and rows: how evenly the samplers cover the image."""
    rows = [[f'masked, {name}', *_cells(chosen)] for name, chosen in masks.items()]
    rows.append(['all, any sampler', *_cells(np.ones_like(next(iter(masks.values()))))])
    return ['patches', 'share of iterations', 'coefficient of variation', 'by chance', *(f'c = {c}' for c in TIMES)], rows


def explanation(masks):
    """str: Of the columns of `sampler_table`."""
    drawn = next(iter(masks.values()))
    return (f'Over {len(drawn)} iterations on {drawn.shape[1]}×{drawn.shape[2]} patches, {100 * drawn.mean():.0f} % of them '
            'masked; by chance: the coefficient of variation that independent masks have on average if no patch is '
            'preferred; then the mean number of iterations until every patch was among them c times')


def _cells(chosen):
    share = 100 * chosen.mean(0)
    until = (iterations_until(chosen, c) for c in TIMES)
    return (f'{share.min():.1f} to {share.max():.1f} %', f'{100 * variation(chosen):.1f} %',
            f'{100 * variation_by_chance(chosen):.1f} %', *('' if n is None else f'{n:.1f}' for n in until))


def write_csv(masks, teaching, path):
    """One row per sampler, mode and effect; shares as fractions; an empty cell: not reached in so many iterations."""
    rows = []
    for sampler, drawn in masks.items():
        for complement, effects in teaching.items():
            for effect, kinds in effects.items():
                chosen = select(drawn, kinds)
                share = chosen.mean(0)
                rows.append(dict(
                    sampler=sampler, complement=complement, effect=effect, iterations=len(chosen), min_share=share.min(),
                    mean_share=share.mean(), max_share=share.max(), variation=variation(chosen),
                    variation_by_chance=variation_by_chance(chosen),
                    **{f'iterations_until_{c}': iterations_until(chosen, c) for c in TIMES}))
    pandas.DataFrame(rows).to_csv(path, index=False, float_format='%.5g')
