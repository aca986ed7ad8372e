"""Pictures of what a masked autoencoder sees and what it makes of it."""
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import default_collate

from coma_mm.models.token_layout import gather_patches

from .loading import device_of, spread_indices
from .style import HIDDEN_GREY, RC, NotebookFigure

TITLES = {
    'input': 'Input',
    'adaptive_saw': 'Adaptive model\nsaw',
    'adaptive': 'and\nreconstructed',
    'evaluation_saw': 'Evaluation model\nsaw',
    'evaluation': 'and\nreconstructed',
    'assembled': 'Assembled\nfrom both',
}


@torch.no_grad()
def reconstruction_panels(model, inputs: torch.Tensor, ids_keep: torch.Tensor, ids_rest: torch.Tensor,
                          own_statistics: bool = True) -> dict[str, np.ndarray]:
    """What each branch of a model sees and predicts, as pictures.

    In a reconstruction the patches that the branch saw are the input's, as no branch is trained to predict those.

    Args:
        model (MaskedAutoencoder): Or CoMA, with any complement. Its training mode is restored.
        inputs (Tensor): Images as the data set gives them, uint8 (B, 3, H, W).
        ids_keep (Tensor): int64 indices of the patches that the adaptive model sees, (B, K).
        ids_rest (Tensor): The others, (B, n - K).
        own_statistics (bool): With `norm_pix`, give every predicted patch the mean and variance of the true one, which
            the model does not know; False: the mean of those of the patches that the branch saw. Defaults to True.

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


def ratios_figure(model, inputs: torch.Tensor, masks: dict[float, tuple], own_statistics: bool = True) -> Figure:
    """One image at several masking ratios, a row each: what each branch saw and reconstructed, and the error.

    Args:
        model (MaskedAutoencoder): See `reconstruction_panels`.
        inputs (Tensor): The image, uint8 (3, H, W), or grey (H, W).
        masks (dict[float, tuple[Tensor, Tensor]]): By ratio the indices of the patches that the adaptive model sees,
            and of the others.
        own_statistics (bool): See `reconstruction_panels`. Defaults to True.

    Returns:
        Figure: For `savefig`. Errors are absolute differences in grey levels, mean of the three channels, of predicted
        patches only, on one colour scale.
    """
    P = model.head.patch_size
    inputs = inputs if inputs.ndim == 3 else inputs.expand(3, -1, -1)
    rows = {}
    for ratio, (keep, rest) in masks.items():
        panels = reconstruction_panels(model, inputs[None], keep[None], rest[None], own_statistics)
        panels = {name: images[0] for name, images in panels.items()}
        best = 'assembled' if 'assembled' in panels else 'adaptive'
        error = np.abs(panels[best].astype(float) - panels['input']).mean(2)
        if best == 'adaptive':
            hidden = np.zeros((inputs.shape[1] // P, inputs.shape[2] // P), bool)
            hidden.flat[rest.numpy()] = True
            error[~hidden.repeat(P, 0).repeat(P, 1)] = np.nan
        rows[ratio] = panels, error
    limit = max(1., *(np.nanpercentile(error, 99) for _, error in rows.values()))
    names = list(panels)
    height, width = inputs.shape[1:]
    cell = 1.4  # inches
    side = cell * height / width
    left, right, top = .75, .75, .45
    total = left + cell * (len(names) + 1) + right, top + side * len(rows) + .1
    with matplotlib.rc_context(RC):
        fig = NotebookFigure(figsize=total)
        axes = fig.subplots(len(rows), len(names) + 1, squeeze=False)
        fig.subplots_adjust(left / total[0], .1 / total[1], 1 - right / total[0], 1 - top / total[1], .04, .04)
        for row, (ratio, (panels, error)) in zip(axes, rows.items(), strict=True):
            row[0].set_ylabel(f'{100 * ratio:.0f} %\nmasked', rotation=0, ha='right', va='center', fontsize=9)
            for ax, image in zip(row, panels.values(), strict=False):
                ax.imshow(image, interpolation='nearest')
            row[-1].set_facecolor('#d9d9d9')  # of patches that are not predicted
            shown = row[-1].imshow(error, cmap='viridis', vmin=0, vmax=limit, interpolation='nearest')
            for ax in row:
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
        for ax, name in zip(axes[0], [*names, 'error'], strict=True):
            ax.set_title('Error,\ngrey levels' if name == 'error' else _title(model, name), fontsize=8.5, pad=4)
        tall = min(total[1] - top - .1, 2.4)
        bar = fig.add_axes((1 - .65 / total[0], 1 - (top + tall) / total[1], .13 / total[0], tall / total[1]))
        fig.colorbar(shown, bar, extend='max').ax.tick_params(labelsize=8)
    return fig


def reconstruction_figure(model, dataset, number: int = 4) -> Figure:
    """One row per image: the input, what each branch saw and reconstructed, the assembled image.

    Args:
        model (MaskedAutoencoder): Or CoMA; without a complementary branch the figure has the first three columns.
        dataset (Sequence[dict]): A data set whose pipeline ends in `PatchMask` and `PackMaskedImage`, or a list of
            such samples.
        number (int): Images, evenly spread over the data set. Defaults to 4.

    Returns:
        Figure: For `savefig`.
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


def reconstruction_caption(model, own_statistics: bool = True) -> str:
    """What a reader must know to read `reconstruction_figure` or `ratios_figure` rightly.

    Args:
        model (MaskedAutoencoder): The one that was drawn.
        own_statistics (bool): As the figure was drawn. Defaults to True.

    Returns:
        str: The caption.
    """
    caption = 'Grey patches are hidden. In a reconstruction, hidden patches are predicted, the others are the input.'
    complement = getattr(model, 'complement', 'none')
    if complement == 'full':
        caption += ' The same model sees the image twice, each time what the other time hid.'
    elif complement in ('decoder', 'latent'):
        behind = 'one update behind' if complement == 'decoder' else 'a moving average of'
        caption += (f' The evaluation model’s encoder, {behind} the adaptive one, sees exactly what the other '
                    'does not; both share the decoder.')
    elif complement == 'frozen':
        caption += ' The evaluation model, one update behind the adaptive one, sees exactly what the other does not.'
    if complement != 'none':
        caption += (' The assembled image takes every patch from the branch that did not see it, so all of it is '
                    'predicted.')
    if model.head.norm_pix:
        caption += ' The models predict the structure inside a patch, not its brightness and contrast (norm_pix): '
        caption += ('for these pictures each predicted patch borrows the mean and variance of the true one, hidden or not.'
                    if own_statistics else
                    'here each predicted patch gets the average mean and variance of the patches that its branch saw, so '
                    'nothing in the picture comes from hidden pixels, and steps between patches are no failure to predict.')
    return caption
