"""Pictures of what a masked autoencoder sees and what it makes of it."""
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.dataset import default_collate

from coma_mm.evaluation.panels import BORROWED, panel_title, reconstruction_panels, spread_indices

from .style import RC, NotebookFigure


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
            ax.set_title('Error,\ngrey levels' if name == 'error' else panel_title(model, name), fontsize=8.5, pad=4)
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
            axes[0, column].set_title(panel_title(model, name), fontsize=8.5, pad=4)
            for ax, image in zip(axes[:, column], images, strict=True):
                ax.imshow(image, interpolation='nearest')
                ax.set_axis_off()
        if note:
            fig.text(.005, .02, BORROWED, fontsize=7.5)
    return fig


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
