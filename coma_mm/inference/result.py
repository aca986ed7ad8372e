"""What a model says of an image, as people use it in Python."""
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.structures import BaseDataElement

from coma_mm.errors import UserError
from coma_mm.visualization.predictions import draw_prediction
from coma_mm.visualization.style import RC, NotebookFigure

from .drawing import colors_of
from .results import objects


@dataclass(frozen=True)
class Result:
    """What a model says of one image, in the image's scale.

    Attributes:
        task (str): 'classification', 'segmentation' or 'detection'.
        classes (list[str]): Names, by label.
        image (ndarray): uint8 (H, W, 3), RGB.
        sample (BaseDataElement): The library's own: `DataSample`, `SegDataSample` or `DetDataSample`.
        palette (list | None): A colour for each class, RGB, 0 to 255, if the data has some.
    """
    task: str
    classes: list[str]
    image: np.ndarray = field(repr=False)
    sample: BaseDataElement = field(repr=False)
    palette: list[list[int]] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        if self.task == 'classification':
            label = int(self.scores.argmax())
            return f'Result({self.classes[label]} {self.scores[label]:.2f})'
        if self.task == 'segmentation':
            return f'Result({", ".join(self.names)})'
        return f'Result({len(self.boxes)} detections: {", ".join(dict.fromkeys(self.names))})'

    def _of(self, task: str, what: str) -> None:
        if self.task != task:
            raise UserError(f'{what} is of {task}, and this result is of {self.task}')

    @cached_property
    def scores(self) -> np.ndarray:
        """Of classification the classes' scores, (classes, ); of detection those of the boxes, (N, ), descending."""
        if self.task == 'classification':
            return self.sample.pred_score.numpy()
        self._of('detection', 'scores')
        return self.sample.pred_instances.scores.numpy()

    @cached_property
    def labels(self) -> np.ndarray:
        """Of classification all labels, the best first; of segmentation those in the map; of detection the boxes'."""
        if self.task == 'classification':
            return (-self.scores).argsort(kind='stable')
        return np.unique(self.map) if self.task == 'segmentation' else self.sample.pred_instances.labels.numpy()

    @property
    def names(self) -> list[str]:
        """The classes of `labels`."""
        return [self.classes[label] for label in self.labels if label < len(self.classes)]

    @property
    def map(self) -> np.ndarray:
        """Of segmentation: the class of each pixel, (H, W)."""
        self._of('segmentation', 'map')
        return self.sample.pred_sem_seg.data[0].numpy()

    @property
    def boxes(self) -> np.ndarray:
        """Of detection: left, top, right, bottom in px, (N, 4)."""
        self._of('detection', 'boxes')
        return self.sample.pred_instances.bboxes.numpy()

    @property
    def masks(self) -> np.ndarray | None:
        """Of detection: bool (N, H, W), or None for a model without masks."""
        self._of('detection', 'masks')
        masks = self.sample.pred_instances.get('masks')
        return None if masks is None else np.asarray(masks, bool)

    def to_coco(self, image_id: int | str = 0, category_ids: list[int] | None = None) -> list[dict[str, Any]]:
        """Of detection: COCO's results, a dict for each box, masks run-length coded.

        Args:
            image_id (int | str): Defaults to 0.
            category_ids (list[int], optional): By label. Defaults to the labels themselves.

        Returns:
            list[dict]: With 'image_id', 'category_id', 'bbox' (left, top, width, height), 'score', and 'segmentation' where
            there are masks.
        """
        self._of('detection', 'to_coco')
        return [dict(image_id=image_id, category_id=category_ids[label] if category_ids else label, **found)
                for label, found in ((one.pop('label'), one) for one in objects(self.sample.pred_instances, 0, None))]

    def show(self, score_threshold: float = 0.3, top_k: int = 5) -> Figure:
        """Draw it; notebooks show what this returns.

        Args:
            score_threshold (float): Detections below are left out. Defaults to 0.3.
            top_k (int): Classes that are named of a classification. Defaults to 5.

        Returns:
            Figure: Of matplotlib.
        """
        height, width = self.image.shape[:2]
        with matplotlib.rc_context(RC):
            figure = NotebookFigure(figsize=(4.5, 4.5 * height / width + .3), layout='constrained')
            axes = figure.subplots()
            axes.set_axis_off()
            colors = [tuple(value / 255 for value in color) for color in colors_of(self.classes, self.palette)]
            draw_prediction(axes, self, colors, score_threshold, top_k)
        return figure

    def save(self, path: str | os.PathLike, **how: Any) -> None:
        """Draw it into a file of any kind that matplotlib writes; `how` is for `show`."""
        self.show(**how).savefig(path, dpi=150)


def to_result(sample: BaseDataElement, image: np.ndarray, task: str, classes: list[str] | None,
              palette: list[list[int]] | None) -> Result:
    """Make a result of a library's sample.

    Args:
        sample (BaseDataElement): From `Usable.predict`.
        image (ndarray): uint8 (H, W, 3), BGR.
        task (str): See `Result`.
        classes (list[str] | None): None stands for numbers.
        palette (list | None): See `Result`.
    """
    if classes is None:
        number = len(sample.pred_score) if task == 'classification' else 1 + max(
            (int(value) for value in torch.unique(sample.pred_sem_seg.data if task == 'segmentation' else
                                                 sample.pred_instances.labels)), default=-1)
        classes = [str(label) for label in range(number)]
    return Result(task, classes, np.ascontiguousarray(image[..., ::-1]), sample, palette)
