"""DyViT: the hierarchical vision transformer of the CoMA paper (Section "Hierarchical Dynamic Vision Transformer")."""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import ModuleList
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from mmpretrain.models.utils import LayerNorm2d, build_norm_layer
from mmpretrain.registry import MODELS
from torch import nn
from torch.utils.checkpoint import checkpoint

from coma_mm.errors import UserError, choice
from coma_mm.ranges import SWITCH, above, each, number, whole
from coma_mm.weights.init_cfg import load_pretrained

from .attention import Block
from .norm import SameDtypeLN
from .scripted import ScriptedDyViT
from .token_layout import grid_to_tokens, sincos_position, tokens_to_grid
from .unread_maps import read_together

# Table 1 of the paper; 'tiny' is ours, for CPUs, tests and the demo.
ARCHS = {
    'tiny': dict(dims=(32, 64, 128, 256), depths=(1, 1, 3, 1), num_heads=(1, 2, 4, 8)),
    'small': dict(dims=(96, 192, 384, 768), depths=(1, 2, 11, 2), num_heads=(2, 4, 8, 16)),
    'base': dict(dims=(112, 224, 448, 896), depths=(2, 3, 16, 3), num_heads=(2, 4, 8, 16)),
}
ALIASES = {name[0]: name for name in ARCHS}

# How many windows DM-MSA has in each stage, the whole patch first, each next half as wide (None: all of them).
# 'default' reproduces Table 2's FLOPs; 'eq8' is Eq. 8 to the letter.
WINDOWS = {
    'default': (2, 1, 0, 0),
    'fine': (3, 2, 0, 0),
    'eq8': (None, None, 0, 0),
    'plain': (0, 0, 0, 0),
}

STRIDES = (4, 8, 16, 32)
# The stem's padding in px. It is needed above and to the left alone: the last kernel ends with the image.
HALO = 3
NORM = dict(type='SameDtypeLN', eps=1e-6)
# Norms that want maps, (B, C, H, W); all others see tokens, (B, N, C).
NORMS_OF_MAPS = (_BatchNorm, _InstanceNorm, nn.GroupNorm, LayerNorm2d)


class Downsample(nn.Module):
    """Between two stages: LayerNorm, max-pooling inside each patch, linear C -> 2C.

    Args:
        in_dims (int): Channels C.
        out_dims (int): Channels C'.
        pool (int): Side in tokens of what is pooled: 2, or 1 where a patch is a single token already. Defaults to 2.
    """

    def __init__(self, in_dims: int, out_dims: int, pool: int = 2):
        super().__init__()
        self.area = pool**2
        self.norm = SameDtypeLN(in_dims, eps=1e-6)
        self.expand = nn.Linear(in_dims, out_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, pool²·N, C) -> (B, N, C')."""
        x = self.norm(x)
        return self.expand(x.view(x.shape[0], -1, self.area, x.shape[-1]).amax(2))


@MODELS.register_module()
class DyViT(BaseBackbone):
    """Hierarchical vision transformer with Dynamic Multi-Window Self-Attention.

    A 7×7 convolution of stride 4, then four stages at strides 4, 8, 16 and 32. The first two attend to windows of
    several sizes (`MultiWindowAttention`), the last two globally. Inputs of any size:
    they are padded to multiples of the patch at the right and bottom, and the feature maps cropped to
    ceil(side / stride).

    It is a *masked encoder*: given the indices of the patches to keep, only those patches are computed after the stem.
    The dense and the masked encoder are the same plain transformer on (B, N, C); the number of patches differs.

    Under autocast what the blocks add to is in its dtype, from the stem on, where mmpretrain's ViT keeps it in float32. In
    bf16 training is the same but for what any other rounding changes, and moves a quarter less (docs/performance.md).

    Args:
        arch (str | dict): 'tiny' (1.5 M parameters, ours), 'small' (35 M), 'base' (70 M), in any case, or their first
            letters; or a dict with `dims`, `depths` and `num_heads`, one number per stage. In the place of `dims` it may
            have `embed_dims`, as mmpretrain's archs do: those of the first stage, from stage to stage doubled. Defaults to
            'base'.
        in_channels (int): Channels of the image. Defaults to 3.
        patch_size (int): Side of a patch in px, the unit of masking: 32 (the paper), a patch being 8, 4, 2, 1 tokens
            wide in the four stages; or 16 (ours), 4, 2, 1, 1 tokens wide, with stage 4 at stride 16 like stage 3.
            Larger units are the mask's: `PatchMask(unit=64)`. Defaults to 32.
        windows (str | Sequence[Sequence[int]]): DM-MSA's window sides per stage in tokens, or a preset (here for
            patches of 32 px; for 16 px, windows count from the patch's own width likewise): 'default' {8,4},{4};
            'fine' {8,4,2},{4,2}; 'eq8' {8,4,2,1},{4,2,1}; 'plain'. An empty set is plain attention over all tokens.
            Defaults to 'default'.
        dense_conv (bool): Dense instead of depthwise window convolutions. Defaults to False.
        reduce (str): 'sum' (Eq. 10) or 'mean' of the windows' outputs. Defaults to 'sum'.
        mlp_ratio (float): Hidden over input channels of the MLPs. Defaults to 4.
        pos_embed (str): 'sincos', computed for the grid at hand, or 'learned' for `img_size` and resized
            bicubically to other grids; both at stride 4. Defaults to 'sincos'.
        pos_scale (float): Factor on the sine-cosine embedding, with which a learned one starts (ours): on scenes of little
            contrast the positions of MAE, which are of root mean square 0.7, are as strong as what the stem sees
            (docs/results/small_scale.md). Defaults to 1, MAE's.
        img_size (int): Side in px that the learned position embedding is made for. Defaults to 224.
        mask_before_stem (bool): The pixels of dropped patches are zero for the stem (Eq. 1 masks the image). With False
            its 7×7 kernel sees 3 px of them (the text drops patches after the stem), and reconstruction is in part
            copying. Without `ids_keep` it changes nothing. Defaults to True.
        out_indices (Sequence[int] | int): Stages to return, 0 to 3; negative counts from the end. Each has an output
            LayerNorm. A stage is named once; the outputs are in the stages' order. Defaults to (3, ).
        out_type (str): 'featmap' (B, C, ceil(H/stride), ceil(W/stride)); 'avg_featmap' (B, C), the map's mean; 'raw'
            (B, patches·side², C), tokens patch by patch in Z-order, the only one for masked input.
            Defaults to 'featmap'.
        drop_rate (float): Dropout after the position embedding. Defaults to 0.
        drop_path_rate (float): Stochastic depth, rising linearly with depth. Defaults to 0.
        zero_init_residual (bool): Every block starts as the identity: the last layers of attention and MLP start at
            zero. With False, as before version 0.3, attention adds nearly the same vector to all tokens at the start,
            and what differs between them fades with depth (docs/results/small_scale.md). Defaults to True.
        frozen_stages (int): Freezes the stem, and the stages up to this one. -1: nothing. Defaults to -1.
        norm_cfg (dict, optional): The norms of the outputs, as mmpretrain builds them; those of the blocks are the arch's.
            None: no norms. Defaults to `dict(type='SameDtypeLN', eps=1e-6)`, LayerNorm in its input's precision.
        norm_eval (bool): Batch norms stay in evaluation mode, for `norm_cfg=dict(type='BN')`. Defaults to False.
        with_cp (bool | Sequence[int]): Recompute activations in the backward pass to save memory: in all stages, or in
            those named, 0 to 3. Stage 0 saves the most for the operations repeated. Defaults to False.
        init_cfg (dict | list[dict], optional): Defaults to Xavier-uniform linear layers as in MAE; what
            `zero_init_residual` sets to zero is zero all the same. The stem, the only Conv2d, stays as PyTorch starts it,
            uniform within ±1/(7·√in_channels), unless a `dict(type=…, layer='Conv2d')` is among them. (MAE's patch
            embedding starts by Xavier as a linear layer, which would be twice as wide here; all our results are of
            PyTorch's.) With
            `dict(type='Pretrained', checkpoint=…, prefix='backbone.')` every tensor must be found in the checkpoint;
            the report is logged and the origin kept as `self.provenance`.

    Raises:
        UserError: An unknown arch, patch size, preset or out_type, a number outside its range, a stage that is named twice,
            or windows that do not divide the patch.

    Attributes:
        arch_zoo (dict[str, dict]): The archs by all their names, as mmpretrain's backbones have it.
        embed_dims (int): Channels of the first stage.
        num_layers (int): Number of stages, as in mmpretrain's SwinTransformer.
    """
    OUT_TYPES = ('featmap', 'avg_featmap', 'raw')
    arch_zoo = {name: dict(embed_dims=arch['dims'][0], depths=list(arch['depths']), num_heads=list(arch['num_heads']))
                for full, arch in ARCHS.items() for name in (full[0], full)}

    def __init__(self,
                 arch: str | dict = 'base',
                 in_channels: int = 3,
                 patch_size: int = 32,
                 windows: str | Sequence[Sequence[int]] = 'default',
                 dense_conv: bool = False,
                 reduce: str = 'sum',
                 mlp_ratio: float = 4.,
                 pos_embed: str = 'sincos',
                 pos_scale: float = 1.,
                 img_size: int = 224,
                 mask_before_stem: bool = True,
                 out_indices: Sequence[int] | int = (3, ),
                 out_type: str = 'featmap',
                 drop_path_rate: float = 0.,
                 zero_init_residual: bool = True,
                 frozen_stages: int = -1,
                 with_cp: bool | Sequence[int] = False,
                 drop_rate: float = 0.,
                 norm_cfg: dict | None = NORM,
                 norm_eval: bool = False,
                 init_cfg=(dict(type='Xavier', layer='Linear', distribution='uniform'), )):
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        self.arch_settings = _check_arch(arch)
        self.arch = _full_name(arch) if isinstance(arch, str) else 'custom'
        self.dims, self.depths, num_heads = (tuple(self.arch_settings[key]) for key in ('dims', 'depths', 'num_heads'))
        self.embed_dims, self.num_layers = self.dims[0], len(self.dims)
        if patch_size not in (16, 32):
            raise UserError(f'DyViT: patch_size={patch_size}: expected 32 or 16; larger mask units are made by '
                            'PatchMask(unit=…)')
        self.patch_size, self.in_channels = patch_size, in_channels
        # Tokens along a patch's side, per stage.
        self.sides = tuple(max(patch_size // stride, 1) for stride in STRIDES)
        windows = self._check_windows(windows)
        for name, value, values in (('in_channels', in_channels, whole(1)), ('img_size', img_size, whole(1)),
                                    ('mlp_ratio', mlp_ratio, above(0)), ('pos_scale', pos_scale, number(0)),
                                    ('drop_rate', drop_rate, number(0, 1, below=True)),
                                    ('drop_path_rate', drop_path_rate, number(0, 1, below=True)),
                                    ('norm_eval', norm_eval, SWITCH)):
            values.check(f'DyViT: {name}', value)
        choice('DyViT: pos_embed', pos_embed, ('sincos', 'learned'))
        if not -1 <= frozen_stages <= 3:
            raise UserError(f'DyViT: frozen_stages={frozen_stages}: expected -1 (nothing) to 3 (all stages)')
        self.out_indices = _check_stages(out_indices)
        self.out_channels = tuple(self.dims[i] for i in self.out_indices)
        self.out_sides = tuple(self.sides[i] for i in self.out_indices)
        self.out_type = choice('DyViT: out_type', out_type, self.OUT_TYPES)
        self.mask_before_stem = mask_before_stem
        self.frozen_stages = frozen_stages
        if isinstance(with_cp, bool):
            with_cp = range(4) if with_cp else ()
        if isinstance(with_cp, (int, str)) or not all(stage in range(4) for stage in with_cp):
            raise UserError(f'DyViT: with_cp={with_cp!r}: expected True, False, or stages 0 to 3')
        self.with_cp = tuple(with_cp)

        self.stem = nn.Conv2d(in_channels, self.dims[0], 7, stride=STRIDES[0])  # padded by HALO
        self.pos_scale = float(pos_scale)  # 1 and 1.0 are one setting
        if pos_embed == 'learned':
            grid = (_ceil(img_size, self.patch_size) * self.sides[0], ) * 2
            self.pos_embed = nn.Parameter(sincos_position(grid, self.dims[0]) * pos_scale)
        else:
            self.pos_embed = None

        # Without it nothing is drawn, and nothing computed.
        self.drop_after_pos = nn.Dropout(drop_rate) if drop_rate else nn.Identity()

        drop_path = iter(torch.linspace(0, drop_path_rate, sum(self.depths), device='cpu').tolist())
        self.stages = ModuleList()
        for i, (dims, depth, heads) in enumerate(zip(self.dims, self.depths, num_heads, strict=True)):
            blocks = [
                Block(dims, heads, windows[i], mlp_ratio, next(drop_path), zero_init_residual, dense_conv=dense_conv,
                      reduce=reduce)
                for _ in range(depth)
            ]
            downsample = nn.Identity()
            if i:
                downsample = Downsample(self.dims[i - 1], dims, pool=self.sides[i - 1] // self.sides[i])
            self.stages.append(ModuleList([downsample, *blocks]))
        for i in self.out_indices:
            self.add_module(f'norm{i}', _output_norm(norm_cfg, self.dims[i]))
        self.norm_eval = norm_eval
        # A checkpoint of other out_indices lacks them, such as that of a pre-training on the last stage alone.
        self.allowed_missing = tuple(name for name in self.state_dict() if name.startswith('norm'))
        self.settings = dict(patch_size=patch_size, windows=[list(sides) for sides in windows], reduce=reduce,
                             pos_scale=self.pos_scale if self.pos_embed is None else None)
        """What no tensor's shape tells, yet the weights are trained for: loading compares it."""
        self._freeze()

    @classmethod
    def output_channels(cls, arch: str | dict = 'base', out_indices: Sequence[int] | int = (3, ), **_) -> tuple[int, ...]:
        """Channels of the outputs of a backbone with these settings, for what follows it in a config."""
        dims = _check_arch(arch)['dims']
        return tuple(dims[i] for i in _check_stages(out_indices))

    def _check_windows(self, windows) -> tuple[tuple[int, ...], ...]:
        every = [tuple(side >> i for i in range(side.bit_length())) for side in self.sides]  # 8: 8, 4, 2, 1
        if isinstance(windows, str):
            counts = WINDOWS[choice('DyViT: windows', windows, WINDOWS)]
            return tuple(sides[:count] for sides, count in zip(every, counts, strict=True))
        if len(windows) != 4 or any(isinstance(stage, (int, str)) for stage in windows):
            raise UserError(f'DyViT: windows={windows}: expected four sets of window sides, one per stage')
        windows = tuple(tuple(stage) for stage in windows)
        for i, (stage, allowed) in enumerate(zip(windows, every, strict=True)):
            for k in stage:
                if k not in allowed:
                    raise UserError(f'DyViT: window {k} of stage {i} does not divide its patch of {allowed[0]}×'
                                    f'{allowed[0]} tokens; choose from {sorted(allowed)}')
        return windows

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride in px of each stage's tokens."""
        return tuple(self.patch_size // side for side in self.sides)

    def forward(self, x: torch.Tensor, ids_keep: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Encode images, or only some patches of them.

        Args:
            x (Tensor): Images, (B, in_channels, H, W), of any size.
            ids_keep (Tensor, optional): int64 indices of the patches to keep, (B, K), in raster order of the padded
                image's ceil(H/patch_size)·ceil(W/patch_size) patches; needs `out_type='raw'`.
                Defaults to None: all patches.

        Returns:
            tuple[Tensor]: One output per stage in `out_indices`, see `out_type`; with `ids_keep` of shape
            (B, K·side², C).

        Raises:
            ValueError: `ids_keep` with another `out_type` than 'raw'.
        """
        if ids_keep is not None and self.out_type != 'raw':
            raise ValueError(f"masked input gives no feature map: use out_type='raw', not {self.out_type!r}")
        H, W = x.shape[-2:]
        P = self.patch_size
        grid = (_ceil(H, P), _ceil(W, P))
        if torch.compiler.is_exporting() or H % P or W % P:  # a pad of nothing copies the images
            x = F.pad(x, (0, grid[1] * P - W, 0, grid[0] * P - H))

        position = grid_to_tokens(self._position([side // STRIDES[0] for side in x.shape[-2:]], x.device), self.sides[0])
        x = F.pad(x, (HALO, 0, HALO, 0))
        if ids_keep is None:
            x = grid_to_tokens(self.stem(x), self.sides[0])  # B n side² C
        else:
            x = self._cut_patches(x, ids_keep)  # B·K in_channels P+3 P+3
            x = grid_to_tokens(self.stem(x), self.sides[0]).view(*ids_keep.shape, -1, self.dims[0])  # B K side² C
            position = position[0][ids_keep]
        x = self.drop_after_pos(x + position.to(x.dtype))
        x = x.flatten(1, 2)  # B N C

        outs = []
        for i, (downsample, *blocks) in enumerate(self.stages):
            x = downsample(x)
            for block in blocks:
                if i in self.with_cp and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            if i in self.out_indices:
                outs.append(self._format(self._normalise(x, i), i, grid, (H, W)))
        # The last stage's tokens, too, which no output may have.
        return read_together(*outs, x)[:-1]

    def _cut_patches(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Some patches of padded images with what the stem sees of their neighbours: (B·K, in_channels, P+3, P+3).

        With `mask_before_stem` neighbours that are not among `ids` are zero there, as if the whole image were masked.
        """
        P = self.patch_size
        x = x.unfold(2, P + HALO, P).unfold(3, P + HALO, P)  # B in_channels rows columns P+3 P+3
        batch = torch.arange(len(ids), device=ids.device)[:, None]
        row, column = ids // x.shape[3], ids % x.shape[3]
        patches = x[batch, :, row, column]  # B K in_channels P+3 P+3, a copy
        if self.mask_before_stem:
            # One more row above and column to the left, where the image ends: patch (y, x) is at (y + 1, x + 1).
            dropped = torch.ones(len(ids), x.shape[2] + 1, x.shape[3] + 1, dtype=torch.bool, device=ids.device)
            dropped[batch, row + 1, column + 1] = False
            above, left, corner = (
                dropped[batch, row + dy, column + dx][..., None, None, None] for dy, dx in ((0, 1), (1, 0), (0, 0)))
            patches[..., :HALO, HALO:].masked_fill_(above, 0)
            patches[..., HALO:, :HALO].masked_fill_(left, 0)
            patches[..., :HALO, :HALO].masked_fill_(corner, 0)
        return patches.flatten(0, 1)

    def _position(self, size: Sequence[int], device: torch.device) -> torch.Tensor:
        if self.pos_embed is None:
            position = sincos_position(size, self.dims[0], device)
            return position if self.pos_scale == 1 else position * self.pos_scale
        return _resize(self.pos_embed, tuple(size))

    def _normalise(self, x: torch.Tensor, stage: int) -> torch.Tensor:
        norm = getattr(self, f'norm{stage}')
        if isinstance(norm, NORMS_OF_MAPS):
            return norm(x.mT[..., None])[..., 0].mT  # B C N 1
        return norm(x)

    def _format(self, x: torch.Tensor, stage: int, grid: tuple[int, int], size: tuple[int, int]) -> torch.Tensor:
        if self.out_type == 'raw':
            return x
        stride = self.strides[stage]
        x = tokens_to_grid(x, grid, self.sides[stage])
        x = x[..., :_ceil(size[0], stride), :_ceil(size[1], stride)]
        # A copy, where an exported program would else hold for those sizes alone of which nothing is cropped, or something.
        x = x.clone(memory_format=torch.contiguous_format) if torch.compiler.is_exporting() else x.contiguous()
        return x if self.out_type == 'featmap' else x.mean((2, 3))

    def init_weights(self) -> None:
        """Initialise by `init_cfg`; pre-trained weights must match (see the class)."""
        if not load_pretrained(self):
            super().init_weights()

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Resize a learned position embedding to the grid of `img_size`, as the forward pass does with any other."""
        key = prefix + 'pos_embed'
        if self.pos_embed is not None and key in state_dict and state_dict[key].ndim == 4:
            state_dict[key] = _resize(state_dict[key], tuple(self.pos_embed.shape[-2:]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def __prepare_scriptable__(self) -> ScriptedDyViT:
        """What `torch.jit.script` compiles in the place of this."""
        return ScriptedDyViT(self)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.stem, *self.stages[:self.frozen_stages + 1]]
        frozen += [getattr(self, f'norm{i}') for i in self.out_indices if i <= self.frozen_stages]
        for module in frozen:
            module.eval().requires_grad_(False)
        if self.pos_embed is not None:
            self.pos_embed.requires_grad_(False)

    def train(self, mode: bool = True):
        """Set training mode; frozen stages stay in evaluation mode, and batch norms with `norm_eval`."""
        super().train(mode)
        self._freeze()
        for module in self.modules() if self.norm_eval else ():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter, for layer-wise learning-rate decay.

        Args:
            param_name (str): Name of the parameter in the whole model.
            prefix (str): What comes before the backbone's own name, for instance 'backbone.'. Defaults to ''.

        Returns:
            tuple[int, int]: The parameter's depth and the number of depths: 0 for stem and position embedding, then
            one per block (a downsampling belongs to the block after it), the last for output norms and heads.
        """
        num_layers = sum(self.depths) + 2
        name = param_name.removeprefix(prefix).split('.')
        if not param_name.startswith(prefix):
            return num_layers - 1, num_layers
        if name[0] in ('stem', 'pos_embed'):
            return 0, num_layers
        if name[0] == 'stages':
            stage, block = int(name[1]), int(name[2])  # block 0 is the downsampling
            return sum(self.depths[:stage]) + max(block, 1), num_layers
        return num_layers - 1, num_layers


def _ceil(a: int, b: int) -> int:
    """a / b rounded up; -(-a // b) would be another number in ONNX, whose division rounds towards zero."""
    return (a + b - 1) // b


def _resize(pos_embed: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A position embedding, (1, C, rows, columns), on a grid of another size."""
    if not torch.compiler.is_exporting() and tuple(pos_embed.shape[-2:]) == size:  # an exported program is for any size
        return pos_embed
    return F.interpolate(pos_embed, size, mode='bicubic', align_corners=False)


def _full_name(arch: str) -> str:
    name = str(arch).lower()
    name = ALIASES.get(name, name)
    return name if name in ARCHS else choice('DyViT: arch', arch, ARCHS)


def _check_arch(arch: str | dict) -> dict[str, Sequence[int]]:
    """The `dims`, `depths` and `num_heads` of an arch, checked."""
    if not isinstance(arch, dict):
        return ARCHS[_full_name(arch)]
    settings = dict(arch)
    if 'dims' not in settings and 'embed_dims' in settings:
        width = settings.pop('embed_dims')
        settings['dims'] = width
        if not isinstance(width, (list, tuple)):
            settings['dims'] = tuple(whole(1).check('DyViT: arch.embed_dims', width) * 2**i for i in range(4))
    if set(settings) != {'dims', 'depths', 'num_heads'} or any(
            not isinstance(v, (list, tuple)) or len(v) != 4 for v in settings.values()):
        raise UserError(f"DyViT: arch={arch}: expected keys 'dims', 'depths', 'num_heads', each with four numbers, or "
                        "'embed_dims' for 'dims', one number that is doubled from stage to stage")
    for name, numbers in settings.items():
        each(whole(0 if name == 'depths' else 1)).check(f'DyViT: arch.{name}', numbers)
    for dims, heads in zip(settings['dims'], settings['num_heads'], strict=True):
        if dims % heads:
            raise UserError(f'DyViT: arch={arch}: {heads} heads do not divide {dims} channels')
    if settings['dims'][0] % 4:
        raise UserError(f"DyViT: arch={arch}: the first of 'dims' must be a multiple of 4 (sine-cosine positions)")
    return settings


def _check_stages(out_indices: Sequence[int] | int) -> tuple[int, ...]:
    """The stages that `out_indices` names, 0 to 3, in their order."""
    single = not isinstance(out_indices, Sequence) or isinstance(out_indices, str)
    indices = [out_indices] if single else list(out_indices)
    if not indices or not all(index in whole(-4, 3) for index in indices):
        raise UserError(f'DyViT: out_indices={out_indices!r}: expected stages 0 to 3 (or -4 to -1), one or a list of them')
    stages = sorted(index % 4 for index in indices)
    if len(set(stages)) < len(stages):
        raise UserError(f'DyViT: out_indices={out_indices!r} names a stage twice, and its map would come once; name each '
                        'stage once')
    return tuple(stages)


def _output_norm(norm_cfg: dict | None, dims: int) -> nn.Module:
    """The norm of an output with `dims` channels."""
    if norm_cfg is None:
        return nn.Identity()
    if not isinstance(norm_cfg, dict) or 'type' not in norm_cfg:
        raise UserError(f"DyViT: norm_cfg={norm_cfg!r}: expected None or the config of a norm, such as dict(type='LN')")
    try:
        return build_norm_layer(norm_cfg, dims)
    except (KeyError, TypeError, ValueError) as error:
        reason = ' '.join(str(error.args[0] if error.args else error).split())
        raise UserError(f'DyViT: norm_cfg={dict(norm_cfg)!r} gives no norm of {dims} channels ({reason}); expected the '
                        "config of one that mmpretrain can build, such as dict(type='LN')") from error
