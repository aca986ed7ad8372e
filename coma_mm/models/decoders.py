"""Pre-training decoders: from the tokens of some patches to the pixels of all."""
from collections.abc import Iterable

import torch
from mmengine.model import BaseModule
from mmpretrain.models.backbones.convnext import ConvNeXtBlock
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.errors import UserError, choice
from coma_mm.ranges import whole

from .norm import SameDtypeLN
from .token_layout import gather_patches, sincos_position


class PatchDecoder(BaseModule):
    """What decoders share: masked patches start from a mask token ("Mask Reassembly"), pixels are predicted linearly.

    Args:
        blocks (Iterable[nn.Module]): What `decode` applies.
        in_channels (int): Channels of the encoder's tokens.
        patch_size (int): Side of a patch in px.
        embed_dims (int): Width.
        mask_token (str): 'learned': one learned vector; 'noise': standard normal noise drawn at every forward.
        out_channels (int): Channels of the image.
    """

    def __init__(self, blocks: Iterable[nn.Module], in_channels: int, patch_size: int, embed_dims: int, mask_token: str,
                 out_channels: int, init_cfg):
        super().__init__(list(init_cfg) if init_cfg else init_cfg)
        for name, value in dict(in_channels=in_channels, patch_size=patch_size, embed_dims=embed_dims,
                                out_channels=out_channels).items():
            whole(1).check(f'{type(self).__name__}: {name}', value)
        choice(f'{type(self).__name__}: mask_token', mask_token, ('learned', 'noise'))
        self.patch_size = patch_size
        self.embed = nn.Linear(in_channels, embed_dims)
        self.mask_token = nn.Parameter(torch.zeros(embed_dims)) if mask_token == 'learned' else None
        if self.mask_token is not None:
            nn.init.normal_(self.mask_token, std=.02)
        self.blocks = nn.Sequential(*blocks)
        self.norm = SameDtypeLN(embed_dims, eps=1e-6)
        self.predict = nn.Linear(embed_dims, patch_size**2 * out_channels)

    def forward(self,
                tokens: torch.Tensor,
                ids_keep: torch.Tensor,
                grid: tuple[int, int],
                ids: torch.Tensor | None = None) -> torch.Tensor:
        """Predict the pixels of all patches, or of some.

        Args:
            tokens (Tensor): Encoded patches, (B, K, in_channels).
            ids_keep (Tensor): Their int64 places among the image's patches, (B, K).
            grid (tuple[int, int]): Rows and columns of patches.
            ids (Tensor, optional): The patches to predict, int64, (B, M). Defaults to None: all rows·columns.

        Returns:
            Tensor: Predicted pixels, (B, M, patch_size²·out_channels).
        """
        return self.predict(self.describe(tokens, ids_keep, grid, ids))

    def describe(self,
                 tokens: torch.Tensor,
                 ids_keep: torch.Tensor,
                 grid: tuple[int, int],
                 ids: torch.Tensor | None = None) -> torch.Tensor:
        """What pixels are predicted from, (B, M, embed_dims); the arguments are those of `forward`."""
        tokens = self.embed(tokens)  # B K D
        B, _, D = tokens.shape
        shape = (B, grid[0] * grid[1], D)
        if self.mask_token is None:
            x = torch.randn(shape, dtype=tokens.dtype, device=tokens.device)
        else:
            x = self.mask_token.to(tokens.dtype).expand(shape)
        x = x.scatter(1, ids_keep[..., None].expand(-1, -1, D), tokens)
        x = self.decode(x, grid)
        if ids is not None:
            x = gather_patches(x, ids)
        return self.norm(x)

    def decode(self, x: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Let the patches exchange what they know: (B, rows·columns, embed_dims), in raster order, to the same."""
        raise NotImplementedError


@MODELS.register_module()
class ViTDecoder(PatchDecoder):
    """Plain transformer over all patches; masked ones start from a mask token, as in MAE ("Mask Reassembly").

    Args:
        in_channels (int): Channels of the encoder's tokens.
        patch_size (int): Side of a patch in px. Defaults to 32.
        embed_dims (int): Width; a multiple of 4. Defaults to 512 (MAE).
        depth (int): Blocks. Defaults to 8 (the paper, and MAE).
        num_heads (int): Attention heads. Defaults to 16 (MAE).
        mask_token (str): 'learned': one learned vector; 'noise': standard normal noise drawn at every forward.
            Defaults to 'learned'.
        out_channels (int): Channels of the image. Defaults to 3.
    """

    def __init__(self,
                 in_channels: int,
                 patch_size: int = 32,
                 embed_dims: int = 512,
                 depth: int = 8,
                 num_heads: int = 16,
                 mask_token: str = 'learned',
                 out_channels: int = 3,
                 init_cfg=(dict(type='Xavier', layer='Linear', distribution='uniform'), )):
        whole(1).check('ViTDecoder: depth', depth)
        if embed_dims % num_heads:
            raise UserError(f'ViTDecoder: num_heads={num_heads} does not divide embed_dims={embed_dims}')
        norm_cfg = dict(type='SameDtypeLN', eps=1e-6)
        blocks = (TransformerEncoderLayer(embed_dims, num_heads, 4 * embed_dims, norm_cfg=norm_cfg)
                  for _ in range(depth))
        super().__init__(blocks, in_channels, patch_size, embed_dims, mask_token, out_channels, init_cfg)

    def decode(self, x, grid):
        """See the base class; with sine-cosine positions."""
        position = sincos_position(grid, x.shape[-1], x.device).flatten(2).mT  # 1 n D
        return self.blocks(x + position.to(x.dtype))


@MODELS.register_module()
class ConvNeXtDecoder(PatchDecoder):
    """ConvNeXt blocks on the grid of patches, the decoder of the paper's ablation (Fig. 5); without positions.

    Args:
        in_channels (int): Channels of the encoder's tokens.
        patch_size (int): Side of a patch in px. Defaults to 32.
        embed_dims (int): Width. Defaults to 512 (ours, as in `ViTDecoder`; the paper gives none).
        depth (int): Blocks, 7×7 depthwise convolution and MLP each. Defaults to 8 (the paper varies it up to 12).
        mask_token (str): 'learned': one learned vector; 'noise': standard normal noise drawn at every forward.
            Defaults to 'learned'.
        out_channels (int): Channels of the image. Defaults to 3.
        init_cfg (list[dict], optional): Defaults to ConvNeXt's, truncated normal of 0.02.
    """

    def __init__(self,
                 in_channels: int,
                 patch_size: int = 32,
                 embed_dims: int = 512,
                 depth: int = 8,
                 mask_token: str = 'learned',
                 out_channels: int = 3,
                 init_cfg=(dict(type='TruncNormal', layer=['Conv2d', 'Linear'], std=.02), )):
        whole(1).check('ConvNeXtDecoder: depth', depth)
        blocks = (ConvNeXtBlock(embed_dims) for _ in range(depth))
        super().__init__(blocks, in_channels, patch_size, embed_dims, mask_token, out_channels, init_cfg)

    def decode(self, x, grid):
        """See the base class."""
        x = x.mT.unflatten(2, grid)  # B D rows columns
        return self.blocks(x).flatten(2).mT
