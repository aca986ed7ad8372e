"""What it takes to use a model once it is trained, as plain data."""
import json
from collections.abc import Mapping
from typing import Any

import mmdet.models.detectors.base
import mmpretrain.models
import mmseg.models.segmentors.base
import numpy as np
from mmengine.config import Config
from mmengine.registry import MODELS, TASK_UTILS, TRANSFORMS
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import nn

from coma_mm.config.bands import bands_of
from coma_mm.config.registered import PATHS
from coma_mm.config_tree import data_sets, find_key, type_name
from coma_mm.weights.description import VERSION, encode

MODEL_TASKS = ((BaseSelfSupervisor, 'pretraining'), (mmpretrain.models.BaseClassifier, 'classification'),
               (mmseg.models.segmentors.base.BaseSegmentor, 'segmentation'),
               (mmdet.models.detectors.base.BaseDetector, 'detection'))


def task_of(model: nn.Module) -> str | None:
    """What a model of the libraries is for: 'classification', 'segmentation', 'detection' or 'pretraining'; or None."""
    return next((task for kind, task in MODEL_TASKS if isinstance(model, kind)), None)


def describe(cfg: Config, model: nn.Module, metainfo: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """Describe how a model is used, see `coma_mm.weights.description`.

    Args:
        cfg (Config): Of its run.
        model (nn.Module): The model that was built from it.
        metainfo (Mapping, optional): Of the data that it is trained on: 'classes' and 'palette'. Defaults to what the
            config says of its data sets.

    Returns:
        dict | None: JSON data: 'version', 'task', 'scope', 'model', 'pipeline' (that of the test, or else of the validation,
        without steps that load annotations), 'classes', 'palette', and 'tta' ('model' and 'pipeline') where the config has
        it, and 'bands' ('chosen', 'names' and 'moments') where the config has the setting. There are no weights to start
        from, no paths and no back ends in it. None for a model of no known task.

    Raises:
        TypeError: If something in the config is no plain value.
    """
    task, scope = task_of(model), cfg.get('default_scope', 'mmengine')
    if task is None:
        return None
    model_cfg = dict(cfg.model)
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    if metainfo is None:
        metainfo = find_key([cfg.get(f'{split}_dataloader') for split in ('train', 'val', 'test')], 'metainfo') or {}
    classes = metainfo.get('classes') if task != 'pretraining' else None
    classes = [str(name) for name in classes] if isinstance(classes, (list, tuple)) else None
    tta, bands = None, bands_of(cfg)
    if isinstance(cfg.get('tta_model'), dict) and cfg.get('tta_pipeline'):
        tta = dict(model=_plain(cfg.tta_model, scope), pipeline=_plain(_without_annotations(cfg.tta_pipeline), scope))
    return dict(
        version=VERSION, task=task, scope=scope, model=encode(_plain(model_cfg, scope)),
        pipeline=encode(_plain(_without_annotations(pipeline_of(cfg)), scope)), classes=classes,
        palette=_palette(metainfo.get('palette'), classes), tta=encode(tta), **(dict(bands=bands.plain()) if bands else {}))


def as_text(description: dict[str, Any]) -> str:
    """A description as a checkpoint holds it."""
    return json.dumps(description, separators=(',', ':'))


def pipeline_of(cfg: Config) -> list[dict] | None:
    """The pipeline that a trained model is used with: of the test, or else of the validation; None if there is neither."""
    for split in ('test', 'val'):
        for dataset in data_sets((cfg.get(f'{split}_dataloader') or {}).get('dataset')):
            if dataset.get('pipeline'):
                return dataset['pipeline']
    return None


def _without_annotations(steps: Any) -> Any:
    """Steps at any depth without those that load annotations, change them, or select by them."""
    if isinstance(steps, dict):
        return {key: _without_annotations(value) for key, value in steps.items()}
    if isinstance(steps, (list, tuple)):
        kept = [_without_annotations(one) for one in steps
                if 'Annotations' not in type_name(one) and type_name(one) != 'MapClassIds']
        return type(steps)(one for one in kept if one != [] or one in steps)
    return steps


def _plain(value: Any, scope: str) -> Any:
    """A config without what it loads, and with the names of classes in place of these."""
    if isinstance(value, dict):
        return {key: _plain(one, scope) for key, one in value.items() if key != 'init_cfg' and not (
            isinstance(key, str) and PATHS.fullmatch(key) and (one is True or isinstance(one, (str, dict))))}
    if isinstance(value, (list, tuple)):
        return (tuple if isinstance(value, tuple) else list)(_plain(one, scope) for one in value)
    return _registered_name(value, scope) if isinstance(value, type) else value


def _registered_name(kind: type, scope: str) -> Any:
    """The name under which a class is registered, with its library."""
    for registry in (MODELS, TASK_UTILS, TRANSFORMS):
        for library, tables in {**registry.children, registry.scope: registry}.items():
            if tables.module_dict.get(kind.__name__) is kind:
                return kind.__name__ if library in (scope, 'mmengine') else f'{library}.{kind.__name__}'
    return kind


def _palette(palette: Any, classes: list[str] | None) -> list[list[int]] | None:
    if classes is None or not isinstance(palette, (list, tuple)) or len(palette) != len(classes):
        return None
    palette = [[int(value) for value in color] for color in palette]
    made_up = np.random.RandomState(42).randint(0, 255, (len(classes), 3)).tolist()  # mmsegmentation's, where there is none
    return None if palette == made_up else palette
