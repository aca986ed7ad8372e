"""Pictures of predictions beside the truth.

mmsegmentation's and mmdetection's own visualisers write their labels into the pixels of the image, which covers a
picture of 100 px; these figures put them on top at the figure's resolution, in the same colours in every panel.
"""
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke
from mmdet.datasets.transforms import LoadAnnotations as LoadInstances
from mmengine.dataset import pseudo_collate
from mmengine.structures import BaseDataElement, InstanceData
from torch import nn
from torch.utils.data import Dataset

from coma_mm.datasets.viewing import bands_read, read_picture
from coma_mm.errors import UserError
from coma_mm.evaluation.panels import spread_indices

from .loading import with_true_map
from .style import RC, class_colors, text_color

IGNORED = 255  # in segmentation maps: not labelled, not scored
CELL = 2.1  # inches, width of a panel
WRONG = '#bd1f01'  # titles of what is taken for another class
MIN_NAMED = .015  # of the image: smaller regions get no name


@torch.no_grad()
def predict(model: nn.Module, dataset: Dataset, index: int) -> BaseDataElement:
    """The model's output for one sample, in the scale of the image file."""
    return model.test_step(pseudo_collate([dataset[index]]))[0].cpu()


def segmentation_figure(model, dataset, number: int | Sequence[int] = 4) -> Figure:
    """One row per image: image, truth, prediction; the classes in a legend.

    Pixels that the truth does not label are not scored; predictions there are drawn faintly.

    Args:
        model (BaseSegmentor): Of mmsegmentation, in evaluation mode.
        dataset (BaseSegDataset): With annotations. The truth is read from the files, also where the pipeline does not.
        number (int | Sequence[int]): Images, evenly spread over the data set; or their indices. Defaults to 4.

    Returns:
        Figure: For `savefig`.

    Raises:
        UserError: Image, truth and prediction differ in size.
    """
    classes = dataset.metainfo['classes']
    colors = np.array(class_colors(classes, dataset.metainfo.get('palette')))
    rows, shown, bands = [], set(), bands_read(dataset)
    for index in spread_indices(dataset, number):
        info = with_true_map(dataset, index)
        image = read_picture(info, bands)
        truth = info['gt_seg_map']
        prediction = predict(model, dataset, index).pred_sem_seg.data[0].numpy()
        if not image.shape[:2] == truth.shape == prediction.shape:
            raise UserError(f'{info["img_path"]}: image, truth and prediction differ in size (rows × columns): '
                            f'{image.shape[:2]}, {truth.shape}, {prediction.shape}; they must agree to be compared')
        scored = truth != IGNORED
        shown |= {*np.unique(truth[scored]), *np.unique(prediction[scored])}
        rows.append((
            (image, None),
            (_tint(image, truth, colors, np.where(scored, .7, 0)), truth),
            (_tint(image, prediction, colors, np.where(scored, .7, .2)), np.where(scored, prediction, IGNORED)),
        ))
    shown = sorted(int(label) for label in shown)
    handles = [Patch(facecolor=colors[i], edgecolor='grey', label=classes[i]) for i in shown]
    fig, axes = _grid([row[0][0] for row in rows], ('Image', 'Truth', 'Prediction'), legend_rows=-(-len(handles) // 4))
    for row, panels in zip(axes, rows, strict=True):
        for ax, (image, labels) in zip(row, panels, strict=True):
            ax.imshow(image, interpolation='nearest')
            if labels is not None:
                _name_regions(ax, labels, classes, colors)
    fig.legend(
        handles=handles, loc='lower center', ncols=min(4, len(handles)), frameon=False, fontsize=9, borderaxespad=0)
    return fig


def detection_figure(model, dataset, number: int | Sequence[int] = 4, score_threshold: float = .3,
                     max_detections: int = 10) -> Figure:
    """One row per image: truth and prediction, with boxes, masks, class names and scores.

    Args:
        model (BaseDetector): Of mmdetection, in evaluation mode; one without masks is drawn with boxes alone.
        dataset (BaseDetDataset): With annotations. The truth is read from them, whatever the pipeline loads.
        number (int | Sequence[int]): Images, evenly spread over the data set; or their indices. Defaults to 4.
        score_threshold (float): Detections below are left out. Defaults to 0.3.
        max_detections (int): At most so many per image, the most certain. Defaults to 10.

    Returns:
        Figure: For `savefig`.
    """
    classes = dataset.metainfo['classes']
    colors = class_colors(classes, dataset.metainfo.get('palette'))
    load_truth = LoadInstances(with_mask=True)
    rows, bands = [], bands_read(dataset)
    for index in spread_indices(dataset, number):
        info = dataset.get_data_info(index)
        image = read_picture(info, bands)
        info = load_truth(dict(info, ori_shape=image.shape[:2]))
        truth = InstanceData(
            bboxes=info['gt_bboxes'].tensor,
            labels=torch.from_numpy(info['gt_bboxes_labels']),
            masks=torch.from_numpy(info['gt_masks'].to_ndarray().astype(bool)))
        found = predict(model, dataset, index).pred_instances
        found = found[found.scores >= score_threshold]
        # The most certain last, on top of the others.
        rows.append((image, truth, found[found.scores.argsort()[-max_detections:]]))
    fig, axes = _grid([row[0] for row in rows], ('Truth', f'Detections (score ≥ {score_threshold:g})'), cell=3.)
    for row, (image, *pair) in zip(axes, rows, strict=True):
        for ax, instances in zip(row, pair, strict=True):
            ax.imshow(_tint_masks(image, instances, colors), interpolation='nearest')
            _draw_boxes(ax, instances, classes, colors)
    return fig


def classification_figure(model, dataset, number: int | Sequence[int] = 4) -> Figure:
    """Images in a row, above each what it is taken for and with which score, and the truth where that is another class.

    Args:
        model (BaseClassifier): Of mmpretrain, in evaluation mode.
        dataset (BaseDataset): With labels.
        number (int | Sequence[int]): Images, evenly spread over the data set; or their indices. Defaults to 4.

    Returns:
        Figure: For `savefig`.
    """
    classes = dataset.metainfo.get('classes')

    def names(labels) -> str:
        return ', '.join(str(classes[i] if classes else i) for i in torch.as_tensor(labels).reshape(-1).tolist()) or 'none'

    panels, bands = [], bands_read(dataset)
    for index in spread_indices(dataset, number):
        image = read_picture(dataset.get_data_info(index), bands)
        found = predict(model, dataset, index)
        truth, label = names(found.gt_label), names(found.pred_label)
        score = f' {found.pred_score.max():.2f}' if found.pred_label.numel() == 1 else ''
        panels.append((image, f'{label}{score}', '' if label == truth else f'Truth: {truth}'))
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(CELL * columns, (CELL + .45) * rows), layout='constrained')
        for ax in (axes := fig.subplots(rows, columns, squeeze=False)).flat:
            ax.set_axis_off()
        for ax, (image, label, truth) in zip(axes.flat, panels, strict=False):
            ax.imshow(image, interpolation='nearest')
            ax.set_title(f'{label}\n{truth}', fontsize=9, color=WRONG if truth else 'black')
    return fig


def draw_prediction(axes: Axes, result: Any, colors: list[tuple[float, float, float]], score_threshold: float = .3,
                    top_k: int = 5) -> None:
    """Draw what a model says of one image over it.

    Args:
        axes (Axes): Where to.
        result (Result): Of `coma_mm.inference`.
        colors (list[tuple]): RGB in 0 to 1 of each class.
        score_threshold (float): Detections below are left out. Defaults to 0.3.
        top_k (int): Classes that are named of a classification. Defaults to 5.
    """
    image, classes = result.image, result.classes
    if result.task == 'segmentation':
        axes.imshow(_tint(image, result.map, np.array(colors), np.full(result.map.shape, .7)), interpolation='nearest')
        _name_regions(axes, result.map, classes, np.array(colors))
    elif result.task == 'detection':
        found = result.sample.pred_instances
        found = found[found.scores >= score_threshold]
        found = found[found.scores.argsort()]  # the most certain last, on top of the others
        axes.imshow(_tint_masks(image, found, colors), interpolation='nearest')
        _draw_boxes(axes, found, classes, colors)
    else:
        axes.imshow(image, interpolation='nearest')
        axes.set_title('   '.join(f'{classes[label]} {result.scores[label]:.2f}' for label in result.labels[:top_k]),
                       fontsize=9, loc='left')


def _tint(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay the colours of a label map (H, W) over an image's grey values, `alpha` (H, W) opaque."""
    grey = image.mean(-1, keepdims=True).repeat(3, -1)
    tint = 255 * colors[np.where(labels < len(colors), labels, 0)]
    return (grey + alpha[..., None] * (tint - grey)).astype(np.uint8)


def _tint_masks(image: np.ndarray, instances: InstanceData, colors: list) -> np.ndarray:
    image = image.astype(float)
    for mask, label in zip(instances.get('masks', ()), instances.labels, strict=False):
        mask = np.asarray(mask)
        image[mask] += .45 * (255 * np.array(colors[label]) - image[mask])
    return image.astype(np.uint8)


def _draw_boxes(ax, instances: InstanceData, classes: tuple[str, ...], colors: list) -> None:
    if not len(instances):
        ax.text(.03, .95, 'none', transform=ax.transAxes, va='top', bbox=dict(facecolor='white', edgecolor='none'))
    scores = instances.get('scores', [None] * len(instances))
    for box, label, score in zip(instances.bboxes.tolist(), instances.labels, scores, strict=True):
        left, top, right, bottom = box
        color = colors[label]
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.5))
        text = classes[label] if score is None else f'{classes[label]} {score:.2f}'
        ax.text(
            left, top, text, fontsize=8, color=text_color(color), ha='left', va='bottom' if top > 12 else 'top',
            clip_on=True, bbox=dict(facecolor=color, edgecolor='none', pad=1))


def _name_regions(ax, labels: np.ndarray, classes: tuple[str, ...], colors: np.ndarray) -> None:
    """Write its class on every connected region of a label map that is large enough, where it is widest."""
    for label in np.unique(labels[labels < len(classes)]):
        number, regions, stats, _ = cv2.connectedComponentsWithStats((labels == label).astype(np.uint8))
        for region in range(1, number):
            if stats[region, cv2.CC_STAT_AREA] < MIN_NAMED * labels.size:
                continue
            # Padded, as the image's edge is a region's edge too.
            depth = cv2.distanceTransform(np.pad(regions == region, 1).astype(np.uint8), cv2.DIST_L2, 3)
            y, x = np.array(np.unravel_index(depth.argmax(), depth.shape)) - 1
            color = text_color(colors[label])
            width = labels.shape[1]
            side = 'left' if x < .15 * width else 'right' if x > .85 * width else 'center'
            text = ax.text(x, y, classes[label], fontsize=7, color=color, ha=side, va='center', clip_on=True)
            halo = 'white' if color == 'black' else 'black'
            text.set_path_effects([withStroke(linewidth=1.5, foreground=halo, alpha=.4)])


def _grid(images: list[np.ndarray], titles: tuple[str, ...], cell: float = CELL, legend_rows: int = 0):
    """Empty axes, a row per image in its shape, under column titles."""
    heights = [cell * image.shape[0] / image.shape[1] for image in images]
    head, foot = .3, .22 * legend_rows + (.1 if legend_rows else 0)
    total = sum(heights) + head + foot
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(cell * len(titles), total))
        axes = fig.subplots(len(images), len(titles), squeeze=False, height_ratios=heights)
        fig.subplots_adjust(0, foot / total, 1, 1 - head / total, wspace=.03, hspace=.03)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=10, pad=4)
    for ax in axes.flat:
        ax.set_axis_off()
    return fig, axes
