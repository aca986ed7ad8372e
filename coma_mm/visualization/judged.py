"""Which validation images a model does well on, and which badly: its prediction of each against the truth."""
from collections.abc import Sequence

import numpy as np
import torch
from mmdet.datasets.transforms import LoadAnnotations as LoadInstances
from mmdet.structures.bbox import bbox_overlaps
from mmengine.structures import InstanceData
from torch import nn
from torch.utils.data import Dataset

from coma_mm.datasets.loading import read_image
from coma_mm.evaluation.panels import spread_indices
from coma_mm.progress import track

from .loading import with_true_map
from .predictions import IGNORED, predict

SCORE = .3  # of detections that count


def judge(model: nn.Module, dataset: Dataset, number: int | Sequence[int]) -> list[tuple[float, int]]:
    """A score of the predictions of some images, and the images' indices, the best first.

    Args:
        model (nn.Module): A classifier, segmenter or detector, in evaluation mode.
        dataset (Dataset): With the truth.
        number (int | Sequence[int]): Images, evenly spread over the data set; or their indices.

    Returns:
        list[tuple[float, int]]: In 0 to 1. Of a segmenter the mean IoU of the classes that are in the image or its
        prediction; of a detector the F1 of boxes that overlap by half at least; of a classifier the truth's probability.
    """
    indices = spread_indices(dataset, number)
    scores = [(_score(model, dataset, index), index) for index in track(indices, 'Predicting', transient=True)]
    return sorted(scores, key=lambda pair: (-pair[0], pair[1]))


def _score(model: nn.Module, dataset: Dataset, index: int) -> float:
    found = predict(model, dataset, index)
    if 'pred_sem_seg' in found:
        return mean_iou(with_true_map(dataset, index)['gt_seg_map'], found.pred_sem_seg.data[0].numpy())
    if 'pred_instances' in found:
        info = dataset.get_data_info(index)
        info = LoadInstances()(dict(info, ori_shape=read_image(info['img_path']).shape[:2]))
        truth = InstanceData(bboxes=info['gt_bboxes'].tensor, labels=torch.from_numpy(info['gt_bboxes_labels']))
        return f1(truth, found.pred_instances)
    truth = torch.as_tensor(found.gt_label).reshape(-1)
    return float(found.pred_score[truth].mean())


def mean_iou(truth: np.ndarray, prediction: np.ndarray) -> float:
    """The mean IoU of two label maps over the classes that are in one of them; 1 where nothing is labelled."""
    scored = truth != IGNORED
    truth, prediction = truth[scored], prediction[scored]
    classes = np.union1d(truth, prediction)
    shares = [((truth == i) & (prediction == i)).sum() / ((truth == i) | (prediction == i)).sum() for i in classes]
    return float(np.mean(shares)) if shares else 1.


def f1(truth: InstanceData, found: InstanceData, overlap: float = .5) -> float:
    """F1 of boxes: those of a class that overlap are pairs, the most certain first; 1 where there are none."""
    found = found[found.scores >= SCORE]
    found = found[found.scores.argsort(descending=True)]
    if not len(truth) + len(found):
        return 1.
    free, pairs = torch.ones(len(truth), dtype=torch.bool), 0
    for box, label in zip(found.bboxes, found.labels, strict=True):
        overlaps = bbox_overlaps(box[None], truth.bboxes)[0] * (free & (truth.labels == label))
        if len(overlaps) and overlaps.max() >= overlap:
            free[overlaps.argmax()] = False
            pairs += 1
    return 2 * pairs / (len(truth) + len(found))
