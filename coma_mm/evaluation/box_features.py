"""Features of a frozen backbone for the objects in a detector's data: each by its annotated box, with the box's class."""
from collections.abc import Callable

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader
from torchvision.ops import roi_align

from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.read import need, say
from coma_mm.config_tree import data_sets, type_name
from coma_mm.datasets.annotations import check_annotations
from coma_mm.datasets.loading import use_load_image
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.progress import track
from coma_mm.weights.load import load_backbone

MOST = 20_000
"""Objects of a split, after which no further image is looked at."""


def box_features(cfg: Config, checkpoint: str, amp: bool = False,
                 check: Callable[[torch.Tensor, torch.Tensor], None] | None = None) -> tuple[dict, dict]:
    """Features of the annotated objects of a detector's train and test images, both through the test pipeline.

    They are the means of the backbone's maps within the box, all stages side by side. Neck and heads take no part: what is
    seen is how well the backbone alone tells the classes apart, where the objects are known. Crowds are left out.

    Args:
        cfg (Config): Of a detector of mmdetection, from `read_config`.
        checkpoint (str): Holds the backbone's weights, such as the detector's own; see `load_backbone`.
        amp (bool): Compute in bf16; the features are kept in float32. Defaults to False.
        check (Callable, optional): Gets the class ids of the train and of the test objects before anything is computed.

    Returns:
        tuple[dict, dict]: By split, 'train' and 'test', the features and the class ids, (n, C) and (n, ); and the facts on
        the weights' origin.

    Raises:
        UserError: The data have no annotated boxes, the weights are not the backbone's, or a feature is not finite.
    """
    need(cfg, ('train_dataloader', 'test_dataloader'), 'comparing frozen features')
    check_data_roots(cfg, ('train', 'test'))
    init_default_scope('mmdet')
    loaders, labels = {}, {}
    for split in ('train', 'test'):
        loaders[split], labels[split] = _loader(cfg, split)
    if check:
        check(**labels)
    model = build_model(cfg)
    facts = load_backbone(model.backbone, checkpoint)
    model.to(get_device()).eval()
    return {split: _extract(model, loader, split, amp) for split, loader in loaders.items()}, facts


def _loader(cfg: Config, split: str) -> tuple[DataLoader, torch.Tensor]:
    """The images that are looked at, with their boxes in the pixels of the input, and the class ids of the objects."""
    (inner, *others), test = data_sets(cfg[f'{split}_dataloader']), cfg.test_dataloader
    if others:
        say(f'{cfg.filename}: of the {1 + len(others)} data sets of {split}_dataloader the first alone is looked at')
    steps = [step for step in next(data_sets(test))['pipeline'] if type_name(step) != 'LoadAnnotations']
    # Right after loading, so that what resizes the image resizes its boxes.
    place = 1 + next((i for i, step in enumerate(steps) if type_name(step).startswith('LoadImage')), 0)
    steps.insert(place, dict(type='LoadAnnotations', with_bbox=True))
    dataset = DATASETS.build(use_load_image(dict(inner, pipeline=steps, test_mode=True)))
    check_annotations(dataset)
    labels, chosen = [], []
    for index in range(len(dataset)):
        own = [one['bbox_label'] for one in dataset.get_data_info(index).get('instances', ()) if not one.get('ignore_flag')]
        labels, chosen = labels + own, chosen + [index] * bool(own)
        if len(labels) >= MOST:
            break
    if not labels:
        raise UserError(f'{cfg.filename}: the images of {split}_dataloader.dataset ({type(dataset).__name__}) have no '
                        'annotated boxes, so there is no object to classify; where the test data are unlabelled, set '
                        'test_dataloader to val_dataloader')
    dataset.get_subset_(chosen)
    loader = Runner.build_dataloader(
        dict(test, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False), drop_last=False))
    return loader, torch.tensor(labels)


@torch.no_grad()  # not inference_mode, whose tensors cannot be trained on
def _extract(model: nn.Module, loader: DataLoader, name: str, amp: bool) -> tuple[torch.Tensor, torch.Tensor]:
    device = next(model.backbone.parameters()).device
    values, labels = [], []
    for batch in track(loader, f'Features, {name}'):
        batch = model.data_preprocessor(batch)
        objects = [sample.gt_instances for sample in batch['data_samples']]
        boxes = [getattr(one.bboxes, 'tensor', one.bboxes).to(device).float() for one in objects]
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            maps = model.backbone(batch['inputs'])
        scales = [one.shape[-1] / batch['inputs'].shape[-1] for one in maps]
        means = [roi_align(one.float(), boxes, 1, scale, aligned=True).flatten(1)
                 for one, scale in zip(maps, scales, strict=True)]
        values.append(torch.cat(means, 1))
        labels += [one.labels for one in objects]
        if not values[-1].isfinite().all():
            raise UserError('the features of an object are NaN or infinite; the weights are of a training that diverged, or '
                            'not of this model')
    return torch.cat(values), torch.cat(labels).to(device)
