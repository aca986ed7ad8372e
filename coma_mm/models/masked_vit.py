"""mmpretrain's plain vision transformer as a masked encoder (He et al. 2022)."""
import torch
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones import VisionTransformer
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.weights.init_cfg import load_pretrained

from .token_layout import gather_patches, sincos_position


@MODELS.register_module()
class MaskedVisionTransformer(VisionTransformer):
    """mmpretrain's VisionTransformer that can be given only some patches of each image.

    Without `ids_keep` it is its parent. With them, the other patches are dropped after the position embedding, as in
    MAE, so only the kept ones are computed.

    The position embedding is the fixed 2-D sine-cosine one (not trained, also in fine-tuning), made for `img_size`
    and resized bicubically to other grids. To train it take mmpretrain's VisionTransformer, whose tensors have the
    same names.

    Args:
        arch (str | dict): See the parent. Defaults to 'base': 86 M parameters.
        img_size (int | tuple[int, int]): Side, or height and width, in px for which the position embedding is made.
            Defaults to 224.
        patch_size (int): Side of a patch in px, the unit of masking. Defaults to 16.
        init_cfg (dict | list[dict], optional): Defaults to Xavier-uniform linear layers as in MAE. With
            `dict(type='Pretrained', checkpoint=…, prefix='backbone.')` every tensor must be found in the checkpoint,
            but for the norm of averaged features (`ln2`), which pre-training lacks; see
            `load_backbone`.
        **kwargs: Further arguments of the parent. `out_type='raw'` is the only one for masked input.
    """
    allowed_missing = ('ln2.weight', 'ln2.bias')

    def __init__(self,
                 arch: str | dict = 'base',
                 img_size: int | tuple[int, int] = 224,
                 patch_size: int = 16,
                 init_cfg=(dict(type='Xavier', layer='Linear', distribution='uniform'), ),
                 **kwargs):
        init_cfg = list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg
        super().__init__(arch, img_size, patch_size, init_cfg=init_cfg, **kwargs)
        self.arch = arch if isinstance(arch, str) else 'custom'
        self.patch_size = patch_size
        self.in_channels = self.patch_embed.projection.in_channels
        self.out_channels = (self.embed_dims, ) * len(self.out_indices)
        self.out_sides = (1, ) * len(self.out_indices)
        self.pos_embed.requires_grad = False
        for module in self.modules():
            if isinstance(module, DropPath):  # NumPy's numbers are tensors to torch.compile, which stops at branches
                module.drop_prob = float(module.drop_prob)

    @classmethod
    def output_channels(cls, arch: str | dict = 'base', out_indices=-1, **_) -> tuple[int, ...]:
        """Channels of the outputs of a backbone with these settings, for what follows it in a config."""
        settings = cls.arch_zoo[arch.lower()] if isinstance(arch, str) else arch
        return (settings['embed_dims'], ) * (1 if isinstance(out_indices, int) else len(out_indices))

    def init_weights(self) -> None:
        """Initialise as MAE does; pre-trained weights must match (see the class)."""
        if load_pretrained(self):
            return
        super().init_weights()
        # mmpretrain's function for this takes x for y on grids that are not square.
        position = sincos_position(self.patch_resolution, self.embed_dims).flatten(2).mT
        with torch.no_grad():
            self.pos_embed.zero_()  # the class token's stays so
            self.pos_embed[:, self.num_extra_tokens:] = position
        # A linear layer on the pixels of a patch, though written as a convolution.
        nn.init.xavier_uniform_(self.patch_embed.projection.weight.data.flatten(1))
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=.02)

    def forward(self, x: torch.Tensor, ids_keep: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Encode images, or only some patches of them.

        Args:
            x (Tensor): Images, (B, in_channels, H, W).
            ids_keep (Tensor, optional): int64 indices of the patches to keep, (B, K), in raster order; needs
                `out_type='raw'`. Defaults to None: all patches.

        Returns:
            tuple[Tensor]: The parent's outputs. With `ids_keep` one (B, K, C) per layer in `out_indices` (by
            default the last): the patches' tokens. The class token takes part in attention, so that fine-tuning finds
            it trained, but is not among them.

        Raises:
            ValueError: `ids_keep` with another `out_type` than 'raw'.
        """
        if ids_keep is None:
            return super().forward(x)
        if self.out_type != 'raw':
            raise ValueError(f"masked input gives no feature map: use out_type='raw', not {self.out_type!r}")
        x, grid = self.patch_embed(x)  # B n C
        position = self.resize_pos_embed(self.pos_embed, self.patch_resolution, grid, self.interpolate_mode,
                                         self.num_extra_tokens)
        first, position = position.split((self.num_extra_tokens, x.shape[1]), dim=1)
        x = gather_patches(x + position, ids_keep)
        if self.cls_token is not None:
            x = torch.cat([(self.cls_token + first).expand(x.shape[0], -1, -1), x], dim=1)
        x = self.pre_norm(self.drop_after_pos(x))  # B 1+K C

        outs = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(x[:, self.num_extra_tokens:])
        return tuple(outs)
