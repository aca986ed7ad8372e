"""Fusion of DyViT's stages for the pre-training decoder ("Positional Downsampling", Eq. 5 and 6)."""
from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.errors import UserError


@MODELS.register_module()
class MultiScaleFusion(BaseModule):
    """Fuses the tokens of all stages into one token per patch. Belongs to pre-training; it is not transferred.

    Args:
        in_channels (Sequence[int]): Channels of the stages, finest first; each halves the side of a patch, the last
            has one token per patch.
        mode (str): 'cascade', Eq. 6's recursion Y_i = Conv(Y_{i-1}) + X_{i+1} with kernel = stride = 2; or
            'parallel', every X_i by its own kernel p_i straight to the last stage, summed (the kernels that Eq. 6
            names, whose shapes do not fit the recursion). Defaults to 'cascade'.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 mode: str = 'cascade',
                 init_cfg=(dict(type='Xavier', layer='Linear', distribution='uniform'), )):
        super().__init__(list(init_cfg) if init_cfg else init_cfg)
        if mode not in ('cascade', 'parallel'):
            raise UserError(f"MultiScaleFusion: mode={mode!r}: expected 'cascade' or 'parallel'")
        self.mode = mode
        last = len(in_channels) - 1
        # With kernel = stride inside a patch, and tokens in Z-order, a convolution is a linear layer on the
        # concatenated channels of consecutive tokens.
        if mode == 'cascade':
            self.convs = nn.ModuleList(nn.Linear(4 * in_channels[i], in_channels[i + 1]) for i in range(last))
        else:
            self.convs = nn.ModuleList(
                nn.Linear(4**(last - i) * in_channels[i], in_channels[last]) for i in range(last))

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Fuse.

        Args:
            feats (tuple[Tensor]): Per stage (B, K·side², C_i), patch by patch in Z-order.

        Returns:
            Tensor: (B, K, C_last).
        """
        *feats, last = feats
        B, K = last.shape[:2]
        if self.mode == 'parallel':
            return last + sum(conv(x.reshape(B, K, -1)) for conv, x in zip(self.convs, feats, strict=True))
        y = feats[0]
        for conv, x in zip(self.convs, (*feats[1:], last), strict=True):
            y = conv(y.reshape(B, x.shape[1], -1)) + x
        return y
