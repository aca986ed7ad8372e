"""Pictures of what a masked autoencoder sees and what it makes of it."""
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import default_collate

from .loading import device_of, spread_indices
from .style import HIDDEN_GREY, RC

TITLES = {
    'input': 'Input',
    'adaptive_saw': 'Adaptive model\nsaw',
    'adaptive': 'and\nreconstructed',
    'evaluation_saw': 'Evaluation model\nsaw',
    'evaluation': 'and\nreconstructed',
    'assembled': 'Assembled\nfrom both',
}


@torch.no_grad()
def reconstruction_panels(model, inputs: torch.Tensor, ids_keep: torch.Tensor,
                          ids_rest: torch.Tensor) -> dict[str, np.ndarray]:
    """What each branch of a model sees and predicts, as pictures.

    In a reconstruction the patches that the branch saw are the input's, as no branch is trained to predict those.

    Args:
        model (MaskedAutoencoder): Or CoMA, with any complement. Its training mode is restored.
        inputs (Tensor): Images as the data set gives them, uint8 (B, 3, H, W).
        ids_keep (Tensor): int64 indices of the patches that the adaptive model sees, (B, K).
        ids_rest (Tensor): The others, (B, n - K).

    Returns:
        dict[str, ndarray]: RGB uint8 (B, H, W, 3) each: 'input', 'adaptive_saw', 'adaptive'; and with a complementary
        branch 'evaluation_saw', 'evaluation' and 'assembled' (Eq. 2: each patch from the branch that did not see it).
    """
    training = model.training
    model.eval()
    device, head = device_of(model), model.head
    ids_keep, ids_rest = ids_keep.to(device), ids_rest.to(device)
    images = model.data_preprocessor(dict(inputs=inputs.to(device)))['inputs']
    preds = model.reconstruct_both(images, ids_keep, ids_rest)
    model.train(training)

    grid = head.grid(images)
    original = head.patchify(model.data_preprocessor.to_uint8(images))
    seen = torch.zeros(original.shape[:2], dtype=torch.bool, device=device).scatter_(1, ids_keep, True)[..., None]
    predicted = {
        name: head.patchify(model.data_preprocessor.to_uint8(head.to_pixels(pred.float(), images)))
        for name, pred in preds.items()
    }
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


def reconstruction_figure(model, dataset, number: int = 4) -> Figure:
    """One row per image: the input, what each branch saw and reconstructed, the assembled image.

    Args:
        model (MaskedAutoencoder): Or CoMA; without a complementary branch the figure has the first three columns.
        dataset (Sequence[dict]): A data set whose pipeline ends in ``PatchMask`` and ``PackMaskedImage``, or a list of
            such samples.
        number (int): Images, evenly spread over the data set. Defaults to 4.

    Returns:
        Figure: For ``savefig``.
    """
    batch = default_collate([dataset[i] for i in spread_indices(dataset, number)])
    panels = reconstruction_panels(model, batch['inputs'], batch['ids_keep'], batch['ids_rest'])
    height, width = panels['input'].shape[1:3]
    rows, columns = len(panels['input']), len(panels)
    cell, title, note = 1.4, .45, .3 if model.head.norm_pix else 0.  # inches
    with matplotlib.rc_context(RC):
        figure_height = rows * cell * height / width + title + note
        fig = Figure(figsize=(cell * columns, figure_height))
        axes = fig.subplots(rows, columns, squeeze=False)
        fig.subplots_adjust(0, note / figure_height, 1, 1 - title / figure_height, wspace=.04, hspace=.04)
        for column, (name, images) in enumerate(panels.items()):
            axes[0, column].set_title(_title(model, name), fontsize=8.5, pad=4)
            for ax, image in zip(axes[:, column], images, strict=True):
                ax.imshow(image, interpolation='nearest')
                ax.set_axis_off()
        if note:
            words = 'Brightness and contrast of reconstructed patches are the input’s (norm_pix).'
            fig.text(.005, .02, words, fontsize=7.5)
    return fig


def _title(model, name: str) -> str:
    complement = getattr(model, 'complement', 'none')
    if complement == 'full' and name == 'evaluation_saw':
        return 'The same model\nsaw'
    if complement == 'none' and name == 'adaptive_saw':
        return 'Model\nsaw'
    return TITLES[name]


def reconstruction_caption(model) -> str:
    """What a reader must know to read :func:`reconstruction_figure` rightly."""
    caption = 'Grey patches are hidden. In a reconstruction, hidden patches are predicted, the others are the input.'
    complement = getattr(model, 'complement', 'none')
    if complement == 'full':
        caption += ' The same model sees the image twice, each time what the other time hid.'
    elif complement == 'decoder':
        caption += (' The evaluation model’s encoder, one update behind the adaptive one, sees exactly what the other '
                    'does not; both share the decoder.')
    elif complement == 'frozen':
        caption += ' The evaluation model, one update behind the adaptive one, sees exactly what the other does not.'
    if complement != 'none':
        caption += (' The assembled image takes every patch from the branch that did not see it, so all of it is '
                    'predicted.')
    if model.head.norm_pix:
        caption += (' The models predict the structure inside a patch, not its brightness and contrast (norm_pix): for '
                    'these pictures each predicted patch borrows the mean and variance of the true one, hidden or not.')
    return caption
