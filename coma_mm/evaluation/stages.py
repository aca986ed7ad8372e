"""Features of every stage of a masked encoder, whichever of them its model reads, and how many dimensions they fill."""
import torch
import torch.nn.functional as F
from torch import nn


def stages_of(backbone: nn.Module) -> list[tuple[nn.Module, nn.Module | None]]:
    """Where features are taken: the last block of each stage of DyViT, or of each quarter of a vision transformer's layers.

    Args:
        backbone (nn.Module): A masked encoder.

    Returns:
        list[tuple[nn.Module, nn.Module | None]]: Each with the norm that the backbone has for its output, or None. Empty
        for a backbone of another kind.
    """
    stages, layers = getattr(backbone, 'stages', None), getattr(backbone, 'layers', None)
    if stages is not None and all(isinstance(stage, nn.ModuleList) for stage in stages):
        return [(stage[-1], getattr(backbone, f'norm{number}', None)) for number, stage in enumerate(stages)]
    if not isinstance(layers, nn.ModuleList):
        return []
    ends = sorted({max(0, round(len(layers) * quarter / 4) - 1) for quarter in range(1, 5)})
    final = backbone.ln1 if getattr(backbone, 'final_norm', False) else None
    return [(layers[end], final if end == len(layers) - 1 else None) for end in ends]


@torch.no_grad()
def stage_features(backbone: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """The mean over an image's tokens at each stage, after the norm of the stage's output.

    A stage that the model does not read has no such norm; it is normalised without weights, as by one that starts afresh.

    Args:
        backbone (nn.Module): A masked encoder, in evaluation mode.
        images (Tensor): Normalised, (B, C, H, W).

    Returns:
        list[Tensor]: One for each of `stages_of`, float32 (B, channels); for a backbone of another kind, of its outputs.
    """
    places, found = stages_of(backbone), []
    handles = [block.register_forward_hook(lambda _, inputs, output: found.append(output)) for block, _ in places]
    try:
        outputs = backbone(images)
    finally:
        for handle in handles:
            handle.remove()
    if not places:
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return [_mean(output).float() for output in outputs]
    extra = getattr(backbone, 'num_extra_tokens', 0)  # the class token
    tokens = [norm(one) if norm is not None else F.layer_norm(one, one.shape[-1:])
              for one, (_, norm) in zip(found, places, strict=True)]
    return [one[:, extra:].float().mean(1) for one in tokens]


def _mean(output: torch.Tensor) -> torch.Tensor:
    return output.mean((2, 3)) if output.ndim == 4 else output.mean(1) if output.ndim == 3 else output


def rank_me(features: torch.Tensor) -> float:
    """How many dimensions features fill: RankMe, which needs no labels (Garrido et al. 2023, Eq. 1 and 2).

    Args:
        features (Tensor): (n, C).

    Returns:
        float: The exponential of the entropy of the singular values' shares, from 1 to min(n, C).
    """
    values = torch.linalg.svdvals(features.float())
    shares = values / values.sum().clamp_min(1e-12) + 1e-7
    return (-(shares * shares.log()).sum()).exp().item()
