"""What a backbone attends to, and its features as colours.

The models return no attention weights: they are computed here from what went into the attention modules, with those
modules' own parameters, for a few queries only. So neither the models nor their fused kernels know of it.
"""
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from mmpretrain.models.backbones import VisionTransformer
from torch import nn

from coma_mm.datasets.loading import as_color
from coma_mm.errors import UserError
from coma_mm.models import DyViT, MultiWindowAttention
from coma_mm.models.token_layout import tokens_to_grid

from .style import RC

CELL = 1.6  # inches, width of a panel
COLOR_MAP = 'viridis'


@dataclass
class Stage:
    """Where to look in a backbone.

    Args:
        name (str): For titles.
        block (nn.Module): The last one of the stage; gives its tokens.
        side (int): Tokens along a patch's side.
        extra (int): Tokens before those of the image, as a class token. Defaults to 0.
    """
    name: str
    block: nn.Module
    side: int
    extra: int = 0

    @property
    def attention(self) -> nn.Module:
        """The block's attention."""
        return self.block.attn

    @property
    def windows(self) -> tuple[int, ...]:
        """Sides in tokens of the windows of keys; none where attention is plain."""
        return tuple(getattr(self.attention, 'windows', ()))


@dataclass
class AttentionMap:
    """How strongly queries attend to each place of an image.

    Args:
        title (str): Stage and window.
        weights (ndarray): (queries, heads, rows, columns), in units of even attention, 1 / number of keys.
        boxes (list[tuple]): Each query's token in the image, as fractions: left, top, width, height.
    """
    title: str
    weights: np.ndarray
    boxes: list[tuple[float, float, float, float]]


def stages(backbone: nn.Module) -> list[Stage]:
    """The last block of each stage; of a plain vision transformer those at the ends of its quarters.

    Raises:
        UserError: Another kind of backbone.
    """
    if isinstance(backbone, DyViT):
        return [Stage(f'Stage {i}', stage[-1], side)
                for i, (stage, side) in enumerate(zip(backbone.stages, backbone.sides, strict=True), 1)]
    layers = getattr(backbone, 'layers', ())
    if isinstance(backbone, VisionTransformer) and all(hasattr(layer.attn, 'qkv') for layer in layers):
        ends = sorted({-(-len(layers) * quarter // 4) for quarter in (1, 2, 3, 4)})
        return [Stage(f'Layer {end}', layers[end - 1], 1, backbone.num_extra_tokens) for end in ends]
    raise UserError(f'the backbone is a {type(backbone).__name__}; expected DyViT or a plain VisionTransformer')


def patch_size(backbone: nn.Module) -> int:
    """Side of a patch in px."""
    return getattr(backbone, 'patch_size', None) or backbone.patch_embed.projection.kernel_size[0]


def split_heads(attention: nn.Module, x: torch.Tensor) -> list[tuple[int | None, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Queries, keys and values of an attention, per window.

    Args:
        attention (nn.Module): `MultiWindowAttention`, or plain attention with `qkv` and `num_heads`.
        x (Tensor): What went into it, (B, N, C).

    Returns:
        list[tuple]: Window side in tokens (None: every token is a key), queries (B, heads, N, C/heads), keys and values
        (B, heads, M, C/heads). Their attention, summed over the windows, times `attention.scale` where there is
        one, is what its output projection gets.
    """

    def heads(t):
        return t.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    if not isinstance(attention, MultiWindowAttention) or not attention.windows:
        return [(None, heads(query), heads(key), heads(value))]
    found = []
    for window, conv in zip(attention.windows, attention.convs, strict=True):
        # From the parameters alone, so that it does not depend on how the forward pass computes it.
        if conv.weight.dim() == 3:  # dense: K or V, k²·C, C
            pooled = (t.unflatten(1, (-1, window**2)).flatten(2) @ w for t, w in zip((key, value), conv.weight, strict=True))
        else:  # depthwise: k², 2·C
            pooled = ((t.unflatten(1, (-1, window**2)) * w).sum(2)
                      for t, w in zip((key, value), conv.weight.chunk(2, dim=1), strict=True))
        found.append((window, heads(query), *map(heads, pooled)))
    return found


@contextmanager
def recorded(modules: list[nn.Module]):
    """While it is entered, collects what goes into modules and what comes out: {module: (input, output)}."""
    found = {}
    handles = [
        module.register_forward_hook(lambda module, args, output: found.update({module: (args[0], output)}))
        for module in modules
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def attention_maps(backbone: nn.Module, image: torch.Tensor, points: list[tuple[float, float]],
                   windows: bool) -> list[AttentionMap]:
    """Attention of the tokens at some points of an image, in the last block of each stage.

    Args:
        backbone (nn.Module): See `stages`, in evaluation mode.
        image (Tensor): Normalised, (1, 3, H, W), both sides multiples of the patch.
        points (list[tuple[float, float]]): Of queries: x and y as fractions of the width and the height.
        windows (bool): The stages with DM-MSA windows, one map for each window; or else the stages without.

    Returns:
        list[AttentionMap]: For each stage, and each of its windows, the maps of all heads at all points.

    Raises:
        UserError: There is no such stage.
    """
    chosen = [stage for stage in stages(backbone) if bool(stage.windows) == windows]
    if not chosen:
        raise UserError(f'no stage of this {type(backbone).__name__} has DM-MSA windows; use the subcommand attention'
                        if windows else f'every stage of this {type(backbone).__name__} has DM-MSA windows; use the '
                        'subcommand windows')
    with recorded([stage.attention for stage in chosen]) as found:
        backbone(image)
    grid = tuple(side // patch_size(backbone) for side in image.shape[-2:])
    maps = []
    for stage in chosen:
        tokens = found[stage.attention][0]
        order = torch.arange(tokens.shape[1] - stage.extra)[None, :, None]
        order = tokens_to_grid(order, grid, stage.side)[0, 0]  # rows, columns of tokens: the place of each in `tokens`
        rows, columns = order.shape
        spots = [(min(int(y * rows), rows - 1), min(int(x * columns), columns - 1)) for x, y in points]
        queries = torch.stack([order[spot] for spot in spots]).to(tokens.device) + stage.extra
        boxes = [(column / columns, row / rows, 1 / columns, 1 / rows) for row, column in spots]
        for window, query, key, _ in split_heads(stage.attention, tokens):
            logits = query[:, :, queries] @ key.mT / query.shape[-1]**.5
            weights = logits.float().softmax(-1)[0] * key.shape[2]  # heads, queries, keys
            weights = weights[..., stage.extra:].transpose(0, 1)
            side = stage.side // (window or 1)
            over = tokens_to_grid(weights.flatten(0, 1)[..., None], grid, side).unflatten(0, weights.shape[:2])
            title = stage.name if window is None else f'{stage.name}\n{window}×{window} tokens per key'
            maps.append(AttentionMap(title, over[:, :, 0].cpu().numpy(), boxes))
    return maps


def attention_figure(picture: np.ndarray, maps: list[AttentionMap], per_head: bool = False) -> list[Figure]:
    """Attention over the image, on one colour scale.

    Args:
        picture (ndarray): The image, RGB uint8 (H, W, 3), or grey (H, W).
        maps (list[AttentionMap]): From `attention_maps`.
        per_head (bool): A figure per query with a row per head, instead of one with a row per query and the mean of
            the heads. Defaults to False.

    Returns:
        list[Figure]: For `savefig`.
    """
    picture = as_color(picture)
    highest = max(x.weights.max() for x in maps) if per_head else max(x.weights.mean(1).max() for x in maps)
    norm = LogNorm(.25, max(4, 2**np.ceil(np.log2(highest))))
    queries = range(len(maps[0].boxes))
    if not per_head:
        return [_rows(picture, [(f'query {q + 1}', q, [x.weights[q].mean(0) for x in maps]) for q in queries], maps, norm)]
    figures = []
    for q in queries:
        heads = range(max(x.weights.shape[1] for x in maps))
        rows = [(f'head {h + 1}', q, [x.weights[q, h] if h < x.weights.shape[1] else None for x in maps]) for h in heads]
        figures.append(_rows(picture, rows, maps, norm))
    return figures


def _rows(picture, rows, maps, norm) -> Figure:
    """A row of panels for each (label, query, one array per map or None)."""
    grey = picture @ (.299, .587, .114) / 255
    height, width = picture.shape[:2]
    cell = CELL * height / width
    left, right, top, gap = .75, .85, .5, .06  # inches
    total = left + CELL * (1 + len(maps)) + right, top + cell * len(rows) + .1
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=total)
        axes = fig.subplots(len(rows), 1 + len(maps), squeeze=False)
        fig.subplots_adjust(left / total[0], .1 / total[1], 1 - right / total[0], 1 - top / total[1], gap / CELL, gap / cell)
        for row, (label, query, arrays) in zip(axes, rows, strict=True):
            row[0].set_ylabel(label, rotation=0, ha='right', va='center', fontsize=9)
            row[0].imshow(picture)
            _mark(row[0], maps[0].boxes[query], width, height)
            for ax, x, array in zip(row[1:], maps, arrays, strict=True):
                if array is None:  # this stage has fewer heads
                    ax.set_visible(False)
                    continue
                ax.imshow(grey, cmap='gray', vmin=-1, vmax=1)  # its lighter half, to change the colours less
                shown = ax.imshow(array, norm=norm, cmap=COLOR_MAP, alpha=.7, extent=(-.5, width - .5, height - .5, -.5),
                                  interpolation='nearest')
                _mark(ax, x.boxes[query], width, height)
        for ax, title in zip(axes[0], ['Image, query', *(x.title for x in maps)], strict=True):
            ax.set_title(title, fontsize=8.5, pad=4)
        for ax in axes.flat:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        tall = min(total[1] - top - .1, 2.4)
        bar = fig.add_axes((1 - .7 / total[0], 1 - (top + tall) / total[1], .13 / total[0], tall / total[1]))
        colors = fig.colorbar(shown, bar, extend='min')
        ticks = 2.**np.arange(np.log2(norm.vmin), np.log2(norm.vmax) + .5)
        ticks = ticks[::-(-len(ticks) // 7)]
        colors.set_ticks(ticks, labels=[f'{tick:g}×' for tick in ticks], fontsize=8)
        colors.ax.minorticks_off()
    return fig


def _mark(ax, box, width, height) -> None:
    """A ring around the query's token, visible on any background."""
    x, y, w, h = box
    ring = ax.plot((x + w / 2) * width - .5, (y + h / 2) * height - .5, 'o', markersize=8, markerfacecolor='none',
                   markeredgecolor='white', markeredgewidth=1.5)
    ring[0].set_path_effects([withStroke(linewidth=3.5, foreground='black')])


@torch.no_grad()
def feature_maps(backbone: nn.Module, image: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """What each stage of a backbone makes of an image.

    Args:
        backbone (nn.Module): See `stages`, in evaluation mode.
        image (Tensor): Normalised, (1, 3, H, W), both sides multiples of the patch.

    Returns:
        list[tuple[str, Tensor]]: Each stage's name and its tokens on the grid, (C, rows, columns).
    """
    found = stages(backbone)
    with recorded([stage.block for stage in found]) as tokens:
        backbone(image)
    grid = tuple(side // patch_size(backbone) for side in image.shape[-2:])
    return [(stage.name, tokens_to_grid(tokens[stage.block][1][:, stage.extra:], grid, stage.side)[0]) for stage in found]


def principal_components(features: torch.Tensor) -> tuple[np.ndarray, float]:
    """The three main directions in which an image's own tokens differ, as red, green and blue.

    Args:
        features (Tensor): (C, rows, columns).

    Returns:
        tuple[ndarray, float]: (rows, columns, 3) in 0 to 1, every component stretched between its 1st and 99th
        percentile; and their share of the tokens' variance. A component's sign is arbitrary: here its largest
        coefficient is positive.
    """
    x = features.flatten(1).T.double().cpu()
    x = x - x.mean(0)
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    number = min(3, len(s))
    largest = vh[:number].abs().argmax(1, keepdim=True)
    components = u[:, :number] * s[:number] * vh[:number].gather(1, largest).sign().T
    low, high = np.percentile(components.numpy(), (1, 99), axis=0)
    rgb = np.zeros((len(x), 3))
    rgb[:, :number] = ((components.numpy() - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    share = (s[:number].square().sum() / s.square().sum().clamp(min=1e-12)).item()
    return rgb.reshape(*features.shape[1:], 3), share


def features_figure(picture: np.ndarray, features: list[tuple[str, torch.Tensor]]) -> Figure:
    """The image and each stage's features as colours, in one row.

    Args:
        picture (ndarray): RGB uint8 (H, W, 3), or grey (H, W).
        features (list[tuple[str, Tensor]]): From `feature_maps`.

    Returns:
        Figure: For `savefig`.
    """
    panels = [('Image', as_color(picture))]
    for name, values in features:
        rgb, share = principal_components(values)
        panels.append((f'{name}\n{100 * share:.0f} % of variance', rgb))
    height, width = picture.shape[:2]
    cell, top = CELL * height / width, .45
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(CELL * len(panels), cell + top))
        axes = fig.subplots(1, len(panels))
        fig.subplots_adjust(.005, .01, .995, cell / (cell + top), wspace=.04)
        for ax, (title, panel) in zip(axes, panels, strict=True):
            ax.imshow(panel, extent=(0, width, height, 0), interpolation='nearest')
            ax.set_title(title, fontsize=8.5, pad=4)
            ax.set_axis_off()
    return fig


def attention_caption(windows: bool, per_head: bool) -> str:
    """What a reader must know to read `attention_figure` rightly.

    Args:
        windows (bool): As the maps were made, see `attention_maps`.
        per_head (bool): As the figure was drawn, see `attention_figure`.

    Returns:
        str: The caption.
    """
    heads = 'one row per head' if per_head else 'mean of the heads'
    keys = ('every square is one key, which stands for a window of that many tokens; each window size has a softmax of its '
            'own, and the outputs are added' if windows else
            'every square is one token; a class token is a key too, and not shown')
    return (f'The last block of each stage, {heads}: how much the token in the ring takes from each place ({keys}). '
            'Logarithmic scale, the same in all maps of an image: 1× is what even attention to all keys would give, the '
            'darkest colour a quarter of it or less. Weights say where a layer reads, not what it uses it for.')


FEATURES_CAPTION = (
    'Tokens of each stage by their first three principal components, as red, green and blue. They are fitted to this '
    'image’s own tokens, stage by stage: equal colours mean similar features within one panel, and nothing between panels '
    'or images.')
