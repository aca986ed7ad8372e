"""DyViT, the fusion of its stages, the decoder and the target, written out slowly and literally from the paper.

Everything happens on the 2-D grid, image by image and patch by patch: a masked patch is not in the list of patches, a
window convolution is a strided `F.conv2d` on one patch, attention is a softmax over explicit logits, pooling a loop.
Only weights are taken from the modules under test.

The modules keep the taps of a window in Z-order (Morton order), and return raw tokens in it; `morton` is the one
place where rows and columns are turned into that order.
"""
import math

import torch
import torch.nn.functional as F


def morton(y: int, x: int) -> int:
    """Place of row y, column x in Z-order: the bits of y and x interleaved, those of y the more significant."""
    code = 0
    for bit in range(8):
        code |= (x >> bit & 1) << 2 * bit
        code |= (y >> bit & 1) << 2 * bit + 1
    return code


def taps_to_kernel(taps: torch.Tensor, k: int) -> torch.Tensor:
    """(k² in Z-order, ...) -> (..., k, k) in rows and columns."""
    kernel = torch.empty(*taps.shape[1:], k, k, dtype=taps.dtype)
    for y in range(k):
        for x in range(k):
            kernel[..., y, x] = taps[morton(y, x)]
    return kernel


def layer_norm(x: torch.Tensor, norm) -> torch.Tensor:
    """LayerNorm over the last axis."""
    mean = x.mean(-1, keepdim=True)
    var = (x - mean).square().mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-6) * norm.weight + norm.bias


def linear(x: torch.Tensor, layer) -> torch.Tensor:
    """x·Wᵀ + b."""
    return x @ layer.weight.T + layer.bias


def gelu(x: torch.Tensor) -> torch.Tensor:
    """The exact GELU."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Softmax(q·kᵀ/√d)·v head by head, on (N, C) queries and (M, C) keys and values."""
    d = q.shape[1] // num_heads
    heads = []
    for h in range(num_heads):
        part = slice(h * d, (h + 1) * d)
        logits = q[:, part] @ k[:, part].T / math.sqrt(d)
        weights = logits.exp() / logits.exp().sum(1, keepdim=True)
        heads.append(weights @ v[:, part])
    return torch.cat(heads, 1)


def on_tokens(patches: list[torch.Tensor], function) -> list[torch.Tensor]:
    """Apply a function of the channel axis, (..., C) -> (..., C'), to patches (C, side, side)."""
    return [function(p.permute(1, 2, 0)).permute(2, 0, 1) for p in patches]


def flat(patches: list[torch.Tensor]) -> torch.Tensor:
    """Patches (C, h, w) -> all their tokens, row by row in each patch, (N, C)."""
    return torch.cat([p.flatten(1).T for p in patches])


def window_conv(patch: torch.Tensor, taps: torch.Tensor, k: int, dense: bool) -> torch.Tensor:
    """Conv_k of Eq. 9 on one patch (C, side, side); taps (k², C) depthwise or (k²·C_in, C_out) dense, in Z-order."""
    C = patch.shape[0]
    if dense:
        kernel = taps_to_kernel(taps.reshape(k * k, C, C), k).transpose(0, 1)  # C_out C_in k k
        return F.conv2d(patch[None], kernel, stride=k)[0]
    return F.conv2d(patch[None], taps_to_kernel(taps, k)[:, None], stride=k, groups=C)[0]


def multi_window_attention(patches: list[torch.Tensor], attn, windows, reduce='sum', dense=False):
    """DM-MSA, Eq. 7 to 10, over the patches of one image."""
    C, side = patches[0].shape[:2]
    weight, bias = attn.qkv.weight, attn.qkv.bias
    q, k, v = (on_tokens(patches, lambda t, i=i: t @ weight[i * C:(i + 1) * C].T + bias[i * C:(i + 1) * C])
               for i in range(3))
    total = 0
    for i, window in enumerate(windows):
        taps = attn.convs[i].weight
        k_taps, v_taps = (taps[0], taps[1]) if dense else (taps[:, :C], taps[:, C:])
        keys = [window_conv(p, k_taps, window, dense) for p in k]
        values = [window_conv(p, v_taps, window, dense) for p in v]
        total = total + attention(flat(q), flat(keys), flat(values), attn.num_heads)
    if not windows:
        total = attention(flat(q), flat(k), flat(v), attn.num_heads)
    elif reduce == 'mean':
        total = total / len(windows)
    total = linear(total, attn.proj)
    return [part.T.reshape(C, side, side) for part in total.split(side * side)]


def max_pool(patch: torch.Tensor) -> torch.Tensor:
    """2×2 maximum inside a patch: (C, side, side) -> (C, side/2, side/2)."""
    C, side = patch.shape[:2]
    out = torch.empty(C, side // 2, side // 2, dtype=patch.dtype)
    for y in range(side // 2):
        for x in range(side // 2):
            out[:, y, x] = patch[:, 2 * y:2 * y + 2, 2 * x:2 * x + 2].flatten(1).max(1).values
    return out


def cut_patches(grid_map: torch.Tensor, side: int) -> list[torch.Tensor]:
    """(C, H, W) -> patches (C, side, side) in raster order."""
    _, H, W = grid_map.shape
    return [grid_map[:, y:y + side, x:x + side] for y in range(0, H, side) for x in range(0, W, side)]


def paste_patches(patches: list[torch.Tensor], grid: tuple[int, int]) -> torch.Tensor:
    """The inverse of `cut_patches`."""
    C, side = patches[0].shape[:2]
    out = torch.empty(C, grid[0] * side, grid[1] * side, dtype=patches[0].dtype)
    for i, patch in enumerate(patches):
        y, x = i // grid[1] * side, i % grid[1] * side
        out[:, y:y + side, x:x + side] = patch
    return out


def sincos(rows: int, columns: int, dims: int) -> torch.Tensor:
    """MAE's position embedding, number by number: (dims, rows, columns), the first half the row, the second the
    column; in each half sines, then cosines, of position / 10000^(i / (dims/4))."""
    quarter = dims // 4
    out = torch.empty(dims, rows, columns, dtype=torch.float64)
    for y in range(rows):
        for x in range(columns):
            for i in range(quarter):
                frequency = 10000**(-i / quarter)
                out[i, y, x] = math.sin(y * frequency)
                out[quarter + i, y, x] = math.cos(y * frequency)
                out[2 * quarter + i, y, x] = math.sin(x * frequency)
                out[3 * quarter + i, y, x] = math.cos(x * frequency)
    return out


def dyvit(model, image, windows, position, keep=None, reduce='sum', dense=False, mask_before_stem=True, P=32):
    """DyViT on one image.

    Args:
        model: The DyViT whose weights are used.
        image (Tensor): (3, H, W).
        windows: Window sides per stage.
        position (Tensor): Position embedding (C, H', W') of the padded image's stage-1 grid.
        keep (list[int], optional): Patches to keep.
        mask_before_stem (bool): Whether the image is masked (Eq. 1), or only the stem's feature map.
        P (int): Side of a patch in px.

    Returns:
        tuple[list[list[Tensor]], tuple[int, int]]: Per stage the patches (C, side, side) after the output norm, where
        the model has one, in the order of `keep`; and the padded image's grid of patches.
    """
    _, H, W = image.shape
    rows, columns = math.ceil(H / P), math.ceil(W / P)
    padded = torch.zeros(3, rows * P, columns * P, dtype=image.dtype)
    padded[:, :H, :W] = image
    keep = range(rows * columns) if keep is None else keep
    if mask_before_stem:
        for i in range(rows * columns):
            if i not in keep:
                y, x = i // columns * P, i % columns * P
                padded[:, y:y + P, x:x + P] = 0

    x = F.conv2d(padded[None], model.stem.weight, model.stem.bias, stride=4, padding=3)[0] + position
    patches = cut_patches(x, P // 4)
    patches = [patches[i] for i in keep]

    outputs = []
    for stage in range(4):
        downsample, *blocks = model.stages[stage]
        if stage:
            patches = on_tokens(patches, lambda t, d=downsample: layer_norm(t, d.norm))
            if patches[0].shape[1] > 1:
                patches = [max_pool(p) for p in patches]
            patches = on_tokens(patches, lambda t, d=downsample: linear(t, d.expand))
        for block in blocks:
            normed = on_tokens(patches, lambda t, b=block: layer_norm(t, b.norm1))
            update = multi_window_attention(normed, block.attn, windows[stage], reduce, dense)
            patches = [p + u for p, u in zip(patches, update, strict=True)]
            update = on_tokens(patches, lambda t, b=block: linear(gelu(linear(layer_norm(t, b.norm2), b.mlp[0])),
                                                                  b.mlp[2]))
            patches = [p + u for p, u in zip(patches, update, strict=True)]
        norm = getattr(model, f'norm{stage}', None)
        outputs.append(None if norm is None else on_tokens(patches, lambda t, n=norm: layer_norm(t, n)))
    return outputs, (rows, columns)


def feature_map(patches: list[torch.Tensor], grid: tuple[int, int], stride: int, size: tuple[int, int]):
    """All patches of one stage on the grid, cropped to ceil(side / stride)."""
    return paste_patches(patches, grid)[:, :math.ceil(size[0] / stride), :math.ceil(size[1] / stride)]


def raw_tokens(patches: list[torch.Tensor]) -> torch.Tensor:
    """Patches (C, side, side) -> (N, C) in the order in which the models return tokens."""
    C, side = patches[0].shape[:2]
    out = torch.empty(len(patches), side * side, C, dtype=patches[0].dtype)
    for i, patch in enumerate(patches):
        for y in range(side):
            for x in range(side):
                out[i, morton(y, x)] = patch[:, y, x]
    return out.flatten(0, 1)


def from_raw(tokens: torch.Tensor, side: int) -> list[torch.Tensor]:
    """The inverse of `raw_tokens`."""
    patches = []
    for part in tokens.split(side * side):
        patch = torch.empty(tokens.shape[1], side, side, dtype=tokens.dtype)
        for y in range(side):
            for x in range(side):
                patch[:, y, x] = part[morton(y, x)]
        patches.append(patch)
    return patches


def fusion(neck, stages: list[list[torch.Tensor]], cascade: bool) -> torch.Tensor:
    """Positional downsampling (Eq. 5 and 6) as strided convolutions on each patch; (K, C_4). The kernel is what takes
    a stage's patch to the side of the next one (cascade) or to a single token."""
    def conv(layer, patch, k):
        C = patch.shape[0]
        taps = layer.weight.reshape(-1, k * k, C).permute(1, 0, 2)  # k² C_out C_in
        return F.conv2d(patch[None], taps_to_kernel(taps, k), layer.bias, stride=k)[0]

    tokens = []
    for i in range(len(stages[0])):
        if cascade:
            y = stages[0][i]
            for stage in (1, 2, 3):
                kernel = y.shape[1] // stages[stage][i].shape[1]
                y = conv(neck.convs[stage - 1], y, kernel) + stages[stage][i]
        else:
            y = stages[3][i] + sum(conv(neck.convs[s], stages[s][i], stages[s][i].shape[1]) for s in range(3))
        tokens.append(y[:, 0, 0])
    return torch.stack(tokens)


def reassemble(decoder, tokens, keep, n) -> list[torch.Tensor]:
    """Embedded tokens of the patches `keep` and mask tokens for the others of `n` patches."""
    embedded = linear(tokens, decoder.embed)
    return [embedded[keep.index(i)] if i in keep else decoder.mask_token for i in range(n)]


def convnext_decoder(decoder, tokens, keep, grid) -> torch.Tensor:
    """The ConvNeXt decoder on one image: tokens (K, C) of the patches `keep` -> (n, P²·3)."""
    rows, columns = grid
    x = torch.stack(reassemble(decoder, tokens, keep, rows * columns)).view(rows, columns, -1)
    for block in decoder.blocks:
        kernel, bias = block.depthwise_conv.weight, block.depthwise_conv.bias  # D 1 7 7
        mixed = torch.empty_like(x)
        for y0 in range(rows):
            for x0 in range(columns):
                total = bias.clone()
                for y in range(rows):
                    for x1 in range(columns):
                        if abs(y - y0) <= 3 and abs(x1 - x0) <= 3:
                            total = total + kernel[:, 0, y - y0 + 3, x1 - x0 + 3] * x[y, x1]
                mixed[y0, x0] = total
        mixed = linear(gelu(linear(layer_norm(mixed, block.norm), block.pointwise_conv1)), block.pointwise_conv2)
        x = x + block.gamma * mixed
    return linear(layer_norm(x, decoder.norm), decoder.predict).flatten(0, 1)


def vit_decoder(decoder, tokens, keep, grid, position) -> torch.Tensor:
    """The decoder on one image: tokens (K, C) of the patches `keep` -> (n, P²·3); position (D, rows, columns)."""
    x = reassemble(decoder, tokens, keep, grid[0] * grid[1])
    x = torch.stack([token + position[:, i // grid[1], i % grid[1]] for i, token in enumerate(x)])
    for block in decoder.blocks:
        normed = layer_norm(x, block.ln1)
        D = x.shape[1]
        q, k, v = linear(normed, block.attn.qkv).split(D, 1)
        x = x + linear(attention(q, k, v, block.attn.num_heads), block.attn.proj)
        first, second = block.ffn.layers[0][0], block.ffn.layers[1]
        x = x + linear(gelu(linear(layer_norm(x, block.ln2), first)), second)
    return linear(layer_norm(x, decoder.norm), decoder.predict)


def reconstruct(branch, image, keep, positions) -> torch.Tensor:
    """What a branch (backbone, neck, decoder) predicts of one image from the patches `keep`: (n, P²·3).

    `positions` are those of the encoder's and of the decoder's grid, (C, rows, columns) each.
    """
    backbone = branch.backbone
    windows = [stage[1].attn.windows for stage in backbone.stages]
    stages, grid = dyvit(backbone, image, windows, positions[0], keep, mask_before_stem=backbone.mask_before_stem)
    return vit_decoder(branch.decoder, fusion(branch.neck, stages, cascade=True), keep, grid, positions[1])


def loss(adaptive, evaluation, image, keep, rest) -> torch.Tensor:
    """Eq. 2 and 3 on one image: each branch's predictions (n, P²·3) count on the patches that it does not see."""
    target = normalise(patchify(image, 32))
    errors = [(adaptive[i] - target[i]).square() for i in rest]
    errors += [(evaluation[i] - target[i]).square() for i in keep] if evaluation is not None else []
    return torch.cat(errors).mean()


def patchify(image: torch.Tensor, P: int) -> torch.Tensor:
    """(3, H, W) -> (n, P²·3), pixel by pixel: rows, columns, then channels."""
    patches = []
    for patch in cut_patches(image, P):
        patches.append(torch.stack([patch[:, y, x] for y in range(P) for x in range(P)]).flatten())
    return torch.stack(patches)


def normalise(patches: torch.Tensor) -> torch.Tensor:
    """Each patch (a row) by its own mean and unbiased variance, as MAE's target."""
    rows = []
    for p in patches:
        mean = p.sum() / len(p)
        var = (p - mean).square().sum() / (len(p) - 1)
        rows.append((p - mean) / torch.sqrt(var + 1e-6))
    return torch.stack(rows)
