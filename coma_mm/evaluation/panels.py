"""What a masked autoencoder sees and what it makes of it, as pictures: the panels that figures are made of."""
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from coma_mm.models.token_layout import gather_patches

from .beside_training import in_evaluation_mode

TITLES = {
    'input': 'Input',
    'adaptive_saw': 'Adaptive model\nsaw',
    'adaptive': 'and\nreconstructed',
    'evaluation_saw': 'Evaluation model\nsaw',
    'evaluation': 'and\nreconstructed',
    'assembled': 'Assembled\nfrom both',
}
HIDDEN_GREY = 128
"""Of patches that a model does not see."""
BORROWED = 'Brightness and contrast of reconstructed patches are the input’s (norm_pix).'


@torch.no_grad()
def reconstruction_panels(model, inputs: torch.Tensor, ids_keep: torch.Tensor, ids_rest: torch.Tensor,
                          own_statistics: bool = True) -> dict[str, np.ndarray]:
    """What each branch of a model sees and predicts, as pictures.

    In a reconstruction the patches that the branch saw are the input's, as no branch is trained to predict those.

    Args:
        model (MaskedAutoencoder): Or CoMA, with any complement. The mode of each of its parts is restored.
        inputs (Tensor): Images as the data set gives them, uint8 (B, 3, H, W).
        ids_keep (Tensor): int64 indices of the patches that the adaptive model sees, (B, K).
        ids_rest (Tensor): The others, (B, n - K).
        own_statistics (bool): With `norm_pix`, give every predicted patch the mean and variance of the true one, which
            the model does not know; False: the mean of those of the patches that the branch saw. Defaults to True.

    Returns:
        dict[str, ndarray]: RGB uint8 (B, H, W, 3) each: 'input', 'adaptive_saw', 'adaptive'; and with a complementary
        branch 'evaluation_saw', 'evaluation' and 'assembled' (Eq. 2: each patch from the branch that did not see it).
    """
    device, head = next(model.parameters()).device, model.head
    ids_keep, ids_rest = ids_keep.to(device), ids_rest.to(device)
    images = model.data_preprocessor(dict(inputs=inputs.to(device)))['inputs']
    with in_evaluation_mode(model):
        preds = model.reconstruct_both(images, ids_keep, ids_rest)

    grid = head.grid(images)
    original = head.patchify(model.data_preprocessor.to_uint8(images))
    seen = torch.zeros(original.shape[:2], dtype=torch.bool, device=device).scatter_(1, ids_keep, True)[..., None]
    predicted = {}
    for name, pred in preds.items():
        pixels = head.to_pixels(pred.float(), images)
        if head.norm_pix and not own_statistics:
            pixels = _with_seen_statistics(head, pred.float(), images, ids_keep if name == 'adaptive' else ids_rest)
        predicted[name] = head.patchify(model.data_preprocessor.to_uint8(pixels))
    grey = torch.full_like(original, HIDDEN_GREY)
    panels = {
        'input': original,
        'adaptive_saw': torch.where(seen, original, grey),
        'adaptive': torch.where(seen, original, predicted['adaptive']),
    }
    if 'evaluation' in predicted:
        panels['evaluation_saw'] = torch.where(seen, grey, original)
        panels['evaluation'] = torch.where(seen, predicted['evaluation'], original)
        panels['assembled'] = torch.where(seen, predicted['evaluation'], predicted['adaptive'])
    return {name: head.unpatchify(x, grid).permute(0, 2, 3, 1).cpu().numpy() for name, x in panels.items()}


def _with_seen_statistics(head, pred, images, ids):
    """What `head.to_pixels` gives, but each patch with the mean of the means and variances of the patches `ids`."""
    seen = gather_patches(head.patchify(images), ids)
    var, mean = torch.var_mean(seen, dim=-1, keepdim=True)
    pixels = pred * (var.mean(1, keepdim=True) + head.eps).sqrt() + mean.mean(1, keepdim=True)
    return head.unpatchify(pixels, head.grid(images))


def panel_title(model, name: str) -> str:
    """What stands above a panel of `reconstruction_panels`, in one line or two."""
    complement = getattr(model, 'complement', 'none')
    if complement == 'full' and name == 'evaluation_saw':
        return 'The same model\nsaw'
    if complement == 'none' and name == 'adaptive_saw':
        return 'Model\nsaw'
    return TITLES[name]


def spread_indices(dataset: Dataset, number: int | Sequence[int]) -> list[int]:
    """`number` indices (fewer if the data set is smaller), evenly spread over a data set; or those that are given."""
    if not isinstance(number, int):
        return list(number)
    number = min(number, len(dataset))
    return [i * len(dataset) // number for i in range(number)]
