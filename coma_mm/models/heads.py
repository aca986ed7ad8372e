"""Targets and errors: pixels, and the tokens of another encoder."""
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.errors import UserError


@MODELS.register_module()
class PixelHead(BaseModule):
    """Pixels as the target, compared patch by patch (Eq. 3; per-patch normalisation is MAE's).

    Args:
        patch_size (int): Side of a patch in px. Defaults to 32.
        norm_pix (bool): Normalise the target by each patch's own mean and variance. Defaults to True (MAE).
    """
    eps = 1e-6

    def __init__(self, patch_size: int = 32, norm_pix: bool = True, init_cfg=None):
        super().__init__(init_cfg)
        self.patch_size = patch_size
        self.norm_pix = norm_pix

    def grid(self, images: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of patches of images (B, C, H, W).

        Raises:
            UserError: A side is not a multiple of the patch.
        """
        H, W = images.shape[-2:]
        P = self.patch_size
        if H % P or W % P or not H or not W:
            raise UserError(f'pre-training images are {W}×{H} px: both sides must be multiples of the {P} px patch; '
                            'set the crop size of the train and val pipelines')
        return H // P, W // P

    def patchify(self, images: torch.Tensor) -> torch.Tensor:
        """(B, C, rows·P, columns·P) -> (B, rows·columns, P²·C), each patch row by row, channels last."""
        rows, columns = self.grid(images)
        B, C, P = *images.shape[:2], self.patch_size
        x = images.reshape(B, C, rows, P, columns, P)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(B, rows * columns, P * P * C)

    def cut(self, images: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Some patches as `patchify` has them, (B, M, P²·C), of int64 indices (B, M), without copying the others."""
        P = self.patch_size
        rows, columns = self.grid(images)
        x = images.unflatten(3, (columns, P)).unflatten(2, (rows, P)).permute(0, 2, 4, 3, 5, 1)  # B rows columns P P C
        batch = torch.arange(len(ids), device=ids.device)[:, None]
        return x[batch, ids // columns, ids % columns].flatten(2)

    def unpatchify(self, patches: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """The inverse of `patchify` for a grid of (rows, columns)."""
        B, P = patches.shape[0], self.patch_size
        x = patches.reshape(B, *grid, P, P, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(B, -1, grid[0] * P, grid[1] * P)

    def _moments(self, patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        var, mean = torch.var_mean(patches, dim=-1, keepdim=True)
        return mean, (var + self.eps).sqrt()

    def target(self, images: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
        """What the decoder should predict: (B, n, P²·C); of the patches `ids` (B, M) alone, where given."""
        patches = self.patchify(images) if ids is None else self.cut(images, ids)
        if self.norm_pix:
            mean, std = self._moments(patches)
            patches = (patches - mean) / std
        return patches

    def patch_errors(self, pred: torch.Tensor, images: torch.Tensor, ids: torch.Tensor | None = None) -> torch.Tensor:
        """Mean squared error of each patch, in float32 at least.

        Args:
            pred (Tensor): Prediction of M patches, (B, M, P²·C).
            images (Tensor): (B, C, H, W).
            ids (Tensor, optional): Which patches, int64, (B, M). Defaults to None: all.

        Returns:
            Tensor: (B, M).
        """
        dtype = torch.promote_types(pred.dtype, torch.float32)
        return (pred.to(dtype) - self.target(images.to(dtype), ids)).square().mean(-1)

    def to_pixels(self, pred: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """The prediction as images (B, C, H, W), in the scale of `images`.

        With `norm_pix` the prediction holds no brightness or contrast: each patch's own mean and variance are taken
        from `images`, masked patches included. That is for looking only.
        """
        if self.norm_pix:
            mean, std = self._moments(self.patchify(images))
            pred = pred * std + mean
        return self.unpatchify(pred, self.grid(images))


@MODELS.register_module()
class LatentHead(BaseModule):
    """Another encoder's tokens as the target, one for each patch, predicted linearly from the decoder's.

    Args:
        in_channels (int): Width of the decoder.
        out_channels (int): Channels of the encoder's tokens.
    """

    def __init__(self, in_channels: int, out_channels: int,
                 init_cfg=(dict(type='Xavier', layer='Linear', distribution='uniform'), )):
        super().__init__(list(init_cfg) if init_cfg else init_cfg)
        self.predict = nn.Linear(in_channels, out_channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """The decoder's tokens of some patches, (B, M, in_channels), to the prediction, (B, M, out_channels)."""
        return self.predict(tokens)

    @staticmethod
    def target(tokens: torch.Tensor) -> torch.Tensor:
        """The encoder's tokens, each with mean 0 and variance 1 over its channels (as I-JEPA and data2vec 2.0 have it), in
        float32 at least."""
        return F.layer_norm(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), tokens.shape[-1:])

    @staticmethod
    def patch_errors(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean squared error of each patch, (B, M). Who knows nothing has 1, who knows the place alone `spread` squared."""
        return (pred.to(target.dtype) - target).square().mean(-1)

    @staticmethod
    def spread(target: torch.Tensor, ids: torch.Tensor, num_patches: int) -> torch.Tensor:
        """How much targets differ between the images of a batch: their standard deviation around the mean of their place.

        The encoder has collapsed where it is near 0: its tokens say nothing of the image, or of nothing but the place.

        Args:
            target (Tensor): (B, M, C).
            ids (Tensor): Places of its patches, int64, (B, M).
            num_patches (int): Places in an image.

        Returns:
            Tensor: A number, the root of the mean variance over channels.
        """
        values, ids = target.flatten(0, 1), ids.flatten()
        counts = values.new_zeros(num_patches).index_add(0, ids, torch.ones_like(values[:, 0]))
        means = values.new_zeros(num_patches, values.shape[1]).index_add(0, ids, values) / counts.clamp(min=1)[:, None]
        freedom = (counts - 1).clamp(min=0).sum()  # each place's mean takes one degree
        variance = (values - means[ids]).square().sum(0) / freedom.clamp(min=1)
        return variance.mean().sqrt()
