"""Fusion of an encoder's stages: for the pre-training decoder ("Positional Downsampling", Eq. 5 and 6), for a classifier."""
from collections.abc import Sequence
from itertools import pairwise

import torch
from mmengine.model import BaseModule, constant_init
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.errors import UserError, choice


@MODELS.register_module()
class MultiScaleFusion(BaseModule):
    """Fuses the tokens of all stages into one token per patch. Belongs to pre-training; it is not transferred.

    Args:
        in_channels (Sequence[int]): Channels of the stages, finest first. A single stage is passed on as it is.
        mode (str): 'cascade', Eq. 6's recursion Y_i = Conv(Y_{i-1}) + X_{i+1} with kernel = stride = 2 (1 between
            stages of equal side); or 'parallel', every X_i by its own kernel p_i straight to the last stage, summed
            (the kernels that Eq. 6 names, whose shapes do not fit the recursion). Defaults to 'cascade'.
        sides (Sequence[int], optional): Tokens along a patch's side, per stage; each divides the one before, the last
            is 1. (4, 2, 1, 1) is for DyViT with patches of 16 px. Defaults to halving: 8, 4, 2, 1 for four stages.
        zero_init (bool): The convolutions start at zero, so that the decoder sees the last stage alone at first and the
            finer ones fade in (ours; docs/results/small_scale.md has what is known of it). Defaults to False.
        detach (bool): The finer stages get no gradient through this fusion, only through the stages that follow them: the
            decoder sees what they hold, and does not shape it (ours). Defaults to False.
        weighted (bool): Each stage is multiplied by a learned weight before it is fused (ours). They are the softmax of
            `stage_logits` times the number of stages, so that all start at 1 and their mean stays so. Defaults to False.

    Raises:
        UserError: Another mode, or sides that do not fit each other, or the features.
    """

    def __init__(self,
                 in_channels: Sequence[int],
                 mode: str = 'cascade',
                 sides: Sequence[int] | None = None,
                 zero_init: bool = False,
                 detach: bool = False,
                 weighted: bool = False,
                 init_cfg=(dict(type='Xavier', layer='Linear', distribution='uniform'), )):
        super().__init__(list(init_cfg) if init_cfg else init_cfg)
        self.mode = choice('MultiScaleFusion: mode', mode, ('cascade', 'parallel'))
        in_channels = tuple(in_channels)
        sides = tuple(sides or (2**i for i in reversed(range(len(in_channels)))))
        if len(sides) != len(in_channels) or sides[-1] != 1 or any(a % b for a, b in pairwise(sides)):
            raise UserError(f'MultiScaleFusion: sides={sides}: expected {len(in_channels)} numbers, one per stage of '
                            'in_channels, each a divisor of the one before, the last 1')
        self.areas = tuple(side**2 for side in sides)
        # With kernel = stride inside a patch, and tokens in Z-order, a convolution is a linear layer on the
        # concatenated channels of consecutive tokens.
        kernels = [fine // coarse for fine, coarse in pairwise(self.areas)] if mode == 'cascade' else self.areas[:-1]
        outputs = in_channels[1:] if mode == 'cascade' else in_channels[-1:] * len(kernels)
        self.convs = nn.ModuleList(
            nn.Linear(area * C, D) for area, C, D in zip(kernels, in_channels[:-1], outputs, strict=True))
        self.zero_init, self.detach = zero_init, detach
        self.stage_logits = nn.Parameter(torch.zeros(len(in_channels))) if weighted else None

    @property
    def stage_weights(self) -> torch.Tensor | None:
        """Tensor | None: What each stage is multiplied by, (number of stages, ), if it is."""
        return None if self.stage_logits is None else self.stage_logits.softmax(0) * len(self.stage_logits)

    def init_weights(self) -> None:
        """Initialise by `init_cfg`, then zero what `zero_init` says."""
        super().init_weights()
        if self.zero_init:
            for conv in self.convs:
                constant_init(conv, 0)

    def forward(self, feats: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Fuse.

        Args:
            feats (tuple[Tensor]): Per stage (B, K·side², C_i), patch by patch in Z-order.

        Returns:
            Tensor: (B, K, C_last).
        """
        *feats, last = feats
        B, K = last.shape[:2]
        areas = tuple(x.shape[1] // K for x in (*feats, last))
        if areas != self.areas:
            raise UserError(f'MultiScaleFusion: the stages have {areas} tokens per patch, expected {self.areas}: '
                            "set the neck's in_channels and sides to the stages of the backbone")
        if self.detach:
            feats = [x.detach() for x in feats]
        if self.stage_logits is not None:
            *feats, last = (x * weight for x, weight in zip((*feats, last), self.stage_weights, strict=True))
        if self.mode == 'parallel':
            for conv, x in zip(self.convs, feats, strict=True):
                last = last + conv(x.reshape(B, K, -1))
            return last
        y, *others = *feats, last
        for conv, x in zip(self.convs, others, strict=True):
            y = conv(y.reshape(B, x.shape[1], -1)) + x
        return y


@MODELS.register_module()
class ConcatStages(BaseModule):
    """Lays the pooled features of all stages side by side, for a linear classifier (ours).

    After pre-training the finer stages hold what the last one does not, since the decoder saw them all.
    """

    def forward(self, feats: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor]:
        """Per stage (B, C_i), as DyViT's `out_type='avg_featmap'` gives them -> one (B, ΣC_i)."""
        return (torch.cat(feats, 1), )
