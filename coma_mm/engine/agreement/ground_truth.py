"""Whether the masks are there that are loaded, evaluated and predicted."""

from mmengine.evaluator import BaseMetric
from torch import nn

from coma_mm.datasets.annotations import pipeline_steps
from coma_mm.errors import UserError

from .parts import Parts, Split


def check_ground_truth(parts: Parts) -> None:
    """Compare what evaluators of detection and loaders ask for with the annotations and the model.

    Args:
        parts (Parts): Of the run.

    Raises:
        UserError: If masks are asked for that are not there.
    """
    for split in parts.evaluated:
        for metric in split.metrics_of('CocoMetric'):
            if 'segm' in metric.metrics and not metric.format_only:
                if not _predicts_masks(parts.model):
                    raise UserError(f"{split.evaluator}.metric has 'segm', and {type(parts.model).__name__} predicts no "
                                    f"masks; set {split.evaluator}.metric=bbox, or take a model with a mask_head")
                _check_evaluated(split, metric)
        _check_loaded(split)


def _predicts_masks(model: nn.Module) -> bool:
    return any('mask' in name.lower() or 'mask' in type(module).__name__.lower() for name, module in model.named_modules())


def _check_evaluated(split: Split, metric: BaseMetric) -> None:
    api = getattr(metric, '_coco_api', None)
    if api is None or split.classes is None:
        return
    counted = set(api.get_cat_ids(split.classes))
    objects = [one for one in api.anns.values() if one['category_id'] in counted and one.get('image_id') in api.imgs]
    without = [one for one in objects if not one.get('segmentation')]
    if without:
        _refuse(split, getattr(api, 'annotation_file', f'the file of {split.evaluator}'), len(without), len(objects),
                f"{split.evaluator}.metric has 'segm'")


def _check_loaded(split: Split) -> None:
    """Objects without a mask stop the loader that loads masks."""
    for one in split.coco():
        if any(getattr(step, 'with_mask', False) for step in pipeline_steps(one)):
            objects = [instance for index in range(len(one)) for instance in one.get_data_info(index)['instances']]
            if without := sum('mask' not in instance for instance in objects):
                _refuse(split, one.ann_file, without, len(objects), f'LoadAnnotations of {split.loader} has with_mask=True')


def _refuse(split: Split, path: str, without: int, number: int, reason: str) -> None:
    raise UserError(f"{path}: {without} of {number} objects have no segmentation, and {reason}; give all of them polygons "
                    f"or RLE, or set {split.evaluator}.metric=bbox and with_mask=False in the pipeline of {split.loader}")
