"""Pictures of segmentations and detections beside the truth.

mmsegmentation's and mmdetection's own visualisers write their labels into the pixels of the image, which covers a
picture of 100 px; these figures put them on top at the figure's resolution, in the same colours in every panel.
"""
import matplotlib
import mmcv
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from mmdet.datasets.transforms import LoadAnnotations as LoadInstances
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from mmseg.datasets.transforms import LoadAnnotations as LoadSegmentation

from coma_mm.errors import UserError

from .loading import spread_indices
from .style import RC, class_colors, text_color

IGNORED = 255  # in segmentation maps: not labelled, not scored
CELL = 2.1  # inches, width of a panel


@torch.no_grad()
def _predict(model, dataset, index: int):
    """The model's output for one sample, in the scale of the image file."""
    return model.test_step(pseudo_collate([dataset[index]]))[0].cpu()


def segmentation_figure(model, dataset, number: int = 4) -> Figure:
    """One row per image: image, truth, prediction; the classes in a legend.

    Pixels that the truth does not label are not scored; predictions there are drawn faintly.

    Args:
        model (BaseSegmentor): Of mmsegmentation, in evaluation mode.
        dataset (BaseSegDataset): With annotations. The truth is read from the files, whatever the pipeline loads.
        number (int): Images, evenly spread over the data set. Defaults to 4.

    Returns:
        Figure: For ``savefig``.
    """
    classes = dataset.metainfo['classes']
    colors = np.array(class_colors(classes, dataset.metainfo.get('palette')))
    load_truth = LoadSegmentation()
    rows, shown = [], set()
    for index in spread_indices(dataset, number):
        info = load_truth(dataset.get_data_info(index))
        image = mmcv.imread(info['img_path'], channel_order='rgb')
        truth = info['gt_seg_map']
        prediction = _predict(model, dataset, index).pred_sem_seg.data[0].numpy()
        scored = truth != IGNORED
        shown |= {*np.unique(truth[scored]), *np.unique(prediction[scored])}
        rows.append((image, _tint(image, truth, colors, np.where(scored, .7, 0)),
                     _tint(image, prediction, colors, np.where(scored, .7, .2))))
    handles = [Patch(color=colors[i], label=classes[i]) for i in sorted(int(i) for i in shown)]
    fig, axes = _grid(rows, ('Image', 'Truth', 'Prediction'), legend_rows=-(-len(handles) // 4))
    for row, images in zip(axes, rows, strict=True):
        for ax, image in zip(row, images, strict=True):
            ax.imshow(image, interpolation='nearest')
    fig.legend(handles=handles, loc='lower center', ncols=min(4, len(handles)), frameon=False, fontsize=9, borderaxespad=0)
    return fig


def detection_figure(model, dataset, number: int = 4, score_threshold: float = .3, max_detections: int = 10) -> Figure:
    """One row per image: truth and prediction, with boxes, masks, class names and scores.

    Args:
        model (BaseDetector): Of mmdetection, in evaluation mode; one without masks is drawn with boxes alone.
        dataset (BaseDetDataset): With annotations. The truth is read from them, whatever the pipeline loads.
        number (int): Images, evenly spread over the data set. Defaults to 4.
        score_threshold (float): Detections below are left out. Defaults to 0.3.
        max_detections (int): At most so many per image, the most certain. Defaults to 10.

    Returns:
        Figure: For ``savefig``.
    """
    classes = dataset.metainfo['classes']
    colors = class_colors(classes, dataset.metainfo.get('palette'))
    load_truth = LoadInstances(with_mask=True)
    rows, instances = [], []
    for index in spread_indices(dataset, number):
        info = dataset.get_data_info(index)
        image = mmcv.imread(info['img_path'], channel_order='rgb')
        info = load_truth(dict(info, ori_shape=image.shape[:2]))
        truth = InstanceData(
            bboxes=info['gt_bboxes'].tensor,
            labels=torch.from_numpy(info['gt_bboxes_labels']),
            masks=torch.from_numpy(info['gt_masks'].to_ndarray().astype(bool)))
        found = _predict(model, dataset, index).pred_instances
        found = found[found.scores >= score_threshold]
        rows.append((image, image))
        instances.append((truth, found[found.scores.argsort(descending=True)[:max_detections]]))
    fig, axes = _grid(rows, ('Truth', f'Detections (score ≥ {score_threshold:g})'), cell=3.)
    for row, (image, _), pair in zip(axes, rows, instances, strict=True):
        for ax, found in zip(row, pair, strict=True):
            ax.imshow(_tint_masks(image, found, colors), interpolation='nearest')
            _draw_boxes(ax, found, classes, colors)
    return fig


def _tint(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay the colours of a label map (H, W) over an image's grey values, ``alpha`` (H, W) opaque."""
    if labels.shape != image.shape[:2]:
        raise UserError(f'a segmentation map of {labels.shape[1]}×{labels.shape[0]} px cannot be laid over an image of '
                        f'{image.shape[1]}×{image.shape[0]} px: they must be of one size')
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
        ax.text(.5, .5, 'none', transform=ax.transAxes, ha='center', bbox=dict(facecolor='white', edgecolor='none'))
    scores = instances.get('scores', [None] * len(instances))
    for (left, top, right, bottom), label, score in zip(instances.bboxes.tolist(), instances.labels, scores, strict=True):
        color = colors[label]
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.5))
        text = classes[label] if score is None else f'{classes[label]} {score:.2f}'
        ax.text(
            left, top, text, fontsize=8, color=text_color(color), ha='left', va='bottom' if top > 12 else 'top',
            clip_on=True, bbox=dict(facecolor=color, edgecolor='none', pad=1))


def _grid(rows: list[tuple[np.ndarray, ...]], titles: tuple[str, ...], cell: float = CELL, legend_rows: int = 0):
    """Empty axes for rows of equally large images, under column titles; rows may differ in height."""
    heights = [cell * row[0].shape[0] / row[0].shape[1] for row in rows]
    head, foot = .3, .22 * legend_rows + (.1 if legend_rows else 0)
    total = sum(heights) + head + foot
    with matplotlib.rc_context(RC):
        fig = Figure(figsize=(cell * len(titles), total))
        axes = fig.subplots(len(rows), len(titles), squeeze=False, height_ratios=heights)
        fig.subplots_adjust(0, foot / total, 1, 1 - head / total, wspace=.03, hspace=.03)
        for ax, title in zip(axes[0], titles, strict=True):
            ax.set_title(title, fontsize=10, pad=4)
    for ax in axes.flat:
        ax.set_axis_off()
    return fig, axes
