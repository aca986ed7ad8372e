"""Features of a frozen backbone for what a config's data have labels of, and the places of labels by score."""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader, Dataset

from coma_mm.config.data_roots import check_data_roots
from coma_mm.config.read import need, read_config, say
from coma_mm.config_tree import type_name
from coma_mm.datasets.annotations import check_annotations
from coma_mm.datasets.loading import use_load_image
from coma_mm.engine.models import build_model
from coma_mm.engine.train import variables_named
from coma_mm.errors import UserError
from coma_mm.progress import track
from coma_mm.weights.load import load_backbone

from .box_features import box_features

Check = Callable[[torch.Tensor, torch.Tensor], None]
"""Takes `train` and `test`, the class ids of the images."""


@dataclass
class Features:
    """Of one split.

    Args:
        values (Tensor): float32, (n, C).
        labels (Tensor): Class ids, int64, (n, ).
    """
    values: torch.Tensor
    labels: torch.Tensor


@dataclass
class Probe:
    """What a checkpoint's backbone makes of the data of a classifier, or of the objects of a detector.

    Args:
        train (Features): On the GPU if there is one.
        test (Features): On the GPU if there is one.
        facts (dict): On the weights' origin, from `load_backbone`.
        what (str): What has a label: 'images' or 'objects'. Defaults to 'images'.
    """
    train: Features
    test: Features
    facts: dict
    what: str = 'images'

    @property
    def num_classes(self):
        """int: The highest class id plus 1."""
        return int(max(self.train.labels.max(), self.test.labels.max())) + 1

    def __str__(self):
        chance = self.summary()['chance']
        return (f'{len(self.test.labels)} test {self.what} by {len(self.train.labels)} train {self.what}, '
                f'{self.num_classes} classes; guessing: top-1 {chance["top1"]:.2f} %, top-5 {chance["top5"]:.2f} %; '
                f'always the largest class: top-1 {self.largest_class:.2f} %')

    @property
    def largest_class(self):
        """float: The share of test images, in per cent, that are of the train images' largest class.

        Whoever always answers that class is so often right, without an image.
        """
        largest = torch.bincount(self.train.labels, minlength=1).argmax()
        return 100 * (self.test.labels == largest).double().mean().item()

    def summary(self):
        """dict: The numbers of images and classes, the accuracies of guessing in per cent, and the weights' origin."""
        chance = {f'top{k}': 100 * min(1, k / self.num_classes) for k in (1, 5)}
        counts = {f'train_{self.what}': len(self.train.labels), f'test_{self.what}': len(self.test.labels)}
        return dict(counts, classes=self.num_classes, chance=chance, largest_class=self.largest_class,
                    backbone_from=self.facts)


def probe(config: str, checkpoint: str, cfg_options: dict[str, Any] | None = None, data_root: str | None = None,
          amp: bool = False, check: Check | None = None) -> Probe:
    """Compute the frozen features of a classifier's train and test images, or of the objects in those of a detector.

    Args:
        config (str): The config file of the classifier or the detector.
        checkpoint (str): Holds the backbone's weights; see `load_backbone`.
        cfg_options (dict, optional): Dotted keys and their values, which replace those of the config.
        data_root (str, optional): Folder of the data set, instead of the config's.
        amp (bool): Compute in bf16; the features are kept in float32. Defaults to False.
        check (Callable, optional): Gets the class ids of the train and of the test images before anything is computed.

    Returns:
        Probe: See `frozen_features` and `box_features`.

    Raises:
        UserError: If the config, the data or the checkpoint cannot be used.
    """
    cfg = read_config(config, cfg_options, data_root=data_root)
    with variables_named(cfg):
        if cfg.get('default_scope') != 'mmdet':
            return frozen_features(cfg, checkpoint, amp, check)

        def check_both(train: torch.Tensor, test: torch.Tensor) -> None:
            _check_classes(cfg, train, test, 'objects')
            if check:
                check(train, test)

        found, facts = box_features(cfg, checkpoint, amp, check_both)
        return Probe(Features(*found['train']), Features(*found['test']), facts, 'objects')


def frozen_features(cfg: Config, checkpoint: str, amp: bool = False, check: Check | None = None) -> Probe:
    """Features of a classifier's train and test images, both through the test pipeline, as its head would get them.

    They are what the backbone and the neck give, a feature map averaged over its positions. The config's own weights
    (`load_from`, `init_cfg`) are not read.

    Args:
        cfg (Config): Of an mmpretrain `ImageClassifier`, from `read_config`.
        checkpoint (str): Holds the backbone's weights; see `load_backbone`.
        amp (bool): Compute in bf16; the features are kept in float32. Defaults to False.
        check (Callable, optional): Gets the class ids of the train and of the test images before anything is computed.

    Returns:
        Probe: The features of both splits.

    Raises:
        UserError: If the config is not one of a classifier with labelled data of several classes, the weights are not the
            backbone's, or a feature is not finite.
    """
    need(cfg, ('train_dataloader', 'test_dataloader'), 'comparing frozen features')
    if type_name(cfg.model) != 'ImageClassifier':
        raise UserError(f'{cfg.filename} is a config of {type_name(cfg.model)}; expected one of an ImageClassifier with '
                        'labelled train and test data, as in configs/classification')
    check_data_roots(cfg, ('train', 'test'))
    init_default_scope('mmpretrain')
    loaders = {split: _loader(cfg, split) for split in ('train', 'test')}
    labels = {split: _labels(cfg, split, loader.dataset) for split, loader in loaders.items()}
    train, test = (loader.dataset.metainfo.get('classes') for loader in loaders.values())
    if train != test:
        raise UserError(f'{cfg.filename}: the classes of the train data and of the test data differ '
                        f'({_named(train)}; {_named(test)}), so class ids cannot be compared')
    _check_classes(cfg, **labels)
    if check:
        check(**labels)
    model = build_model(cfg)
    if any(True for _ in (model.neck or nn.Identity()).parameters()):
        raise UserError(f'{cfg.filename}: model.neck has weights of its own, which a backbone comes without; set '
                        'model.neck=None, feature maps are averaged')
    facts = load_backbone(model.backbone, checkpoint)
    model.to(get_device()).eval()
    return Probe(**{split: extract(model, loader, split, amp) for split, loader in loaders.items()}, facts=facts)


def _named(classes: Sequence[str] | None) -> str:
    return f'{len(classes)}: {", ".join(classes[:3])}, …' if classes else 'unnamed'


def _loader(cfg: Config, split: str) -> DataLoader:
    """DataLoader: Of a split's images in their order, prepared as for testing."""
    for name in (split, 'test'):
        if 'pipeline' not in (dataset := cfg[f'{name}_dataloader'].dataset):
            raise UserError(f'{cfg.filename}: {name}_dataloader.dataset is a {type_name(dataset)} around other data sets; '
                            'expected a data set with a pipeline of its own')
    test = cfg.test_dataloader
    dataset = use_load_image(dict(cfg[f'{split}_dataloader'].dataset, pipeline=test.dataset.pipeline))
    loader = Runner.build_dataloader(
        dict(test, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=False), drop_last=False))
    check_annotations(loader.dataset)
    return loader


def _labels(cfg: Config, split: str, dataset: Dataset) -> torch.Tensor:
    """Tensor: The class ids of a split's images, int64."""
    labels = [dataset.get_data_info(index).get('gt_label') for index in range(len(dataset))]
    if not all(isinstance(label, (int, np.integer)) for label in labels):
        raise UserError(f'{cfg.filename}: the images of {split}_dataloader.dataset ({type(dataset).__name__}) have no class '
                        'id each; expected one label per image')
    return torch.tensor(labels)


def _check_classes(cfg: Config, train: torch.Tensor, test: torch.Tensor, what: str = 'images') -> None:
    known, asked = train.unique(), test.unique()
    if len(known) < 2:
        raise UserError(f'{cfg.filename}: all {len(train)} train {what} are of one class, id {known[0]}, so nothing can '
                        f'be told apart; expected {what} of two classes or more')
    missing = ~torch.isin(test, known)
    if missing.any():
        unknown, share = int((~torch.isin(asked, known)).sum()), 100 * missing.double().mean().item()
        say(f'{unknown} of the {len(asked)} classes of the test {what} have no train {what[:-1]}, so {share:.2f} % of the '
            f'test {what} cannot be classified')


@torch.no_grad()  # not inference_mode, whose tensors cannot be trained on
def extract(model: nn.Module, loader: DataLoader, name: str, amp: bool = False) -> Features:
    """Compute the features of all images, with progress and an estimate of the time left.

    Args:
        model (ImageClassifier): In evaluation mode, on the device to compute on, where the features stay.
        loader (DataLoader): Of images and their labels.
        name (str): Of the split, for the progress.
        amp (bool): Compute in bf16. Defaults to False.

    Returns:
        Features: In the loader's order.

    Raises:
        UserError: If a feature is NaN or infinite, or the features are not one vector per image.
    """
    device = next(model.backbone.parameters()).device
    values, labels, done = None, [], 0
    for batch in track(loader, f'Features, {name}'):
        batch = model.data_preprocessor(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            found = model.extract_feat(batch['inputs'])
        found = found[-1] if isinstance(found, (tuple, list)) else found
        if found.ndim == 4:
            found = found.mean((2, 3))
        if found.ndim != 2:
            raise UserError(f'{type(model.backbone).__name__} gives features of shape {tuple(found.shape)}; expected one '
                            "vector per image: set model.backbone.out_type='avg_featmap' (or 'cls_token')")
        samples = batch['data_samples']
        if len(bad := (~found.isfinite().all(1)).nonzero()):
            raise UserError(f'the features of {samples[bad[0]].get("img_path")} are NaN or infinite; the weights are of a '
                            'training that diverged, or not of this model')
        if values is None:  # the whole at once, because parts to be joined would need twice the memory
            values = torch.empty(len(loader.dataset), found.shape[1], device=device)
        values[done:done + len(found)] = found
        labels += [sample.gt_label for sample in samples]
        done += len(found)
    return Features(values, torch.cat(labels).to(device))


def ranks(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Places of the labels among the classes by score.

    Args:
        scores (Tensor): (B, classes).
        labels (Tensor): int64, (B, ).

    Returns:
        Tensor: int64, (B, ), from 0. Of classes with equal scores the one of the lower id is first;
        one with a score of NaN is behind all, and not among the first five of fewer classes.
    """
    own = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    places = ((scores > own) | (scores == own) & before).sum(1)
    # No score is larger than NaN, which would be the first.
    return places.masked_fill(own.isnan().squeeze(1), scores.shape[1] + 5)


def accuracies(places: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Shares of labels that are the first class, and among the first five.

    Args:
        places (Tensor): From `ranks`.
        labels (Tensor): The labels, int64.

    Returns:
        dict[str, float]: 'top1', 'top5' and 'per_class', the mean over classes of their 'top1', in per cent.
    """
    found = {f'top{k}': 100 * (places < k).double().mean().item() for k in (1, 5)}
    counts, right = torch.bincount(labels), torch.bincount(labels[places < 1], minlength=int(labels.max()) + 1)
    there = counts > 0
    return dict(found, per_class=100 * (right[there] / counts[there].double()).mean().item())
