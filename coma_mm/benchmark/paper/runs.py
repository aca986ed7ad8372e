"""What the paper's tables must know of a run: its task, and which settings may change its result."""
import hashlib
import json

from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS

from coma_mm.config.registered import registered
from coma_mm.config_tree import find_key, type_name
from coma_mm.engine.hooks import RUN_HOOKS
from coma_mm.runs.reading import Unreadable, flatten


def task_of(config: dict) -> str:
    """'pretraining', 'classification', 'segmentation' or 'detection'.

    Raises:
        Unreadable: If it is none of them.
    """
    scope, model = config.get('default_scope'), config['model']
    if scope in ('mmseg', 'mmdet'):
        return dict(mmseg='segmentation', mmdet='detection')[scope]
    if type_name(model) == 'ImageClassifier':
        return 'classification'
    kind = registered(type_name(model), MODELS)  # a foreign config's: the registry itself would import what it names
    if isinstance(kind, type) and issubclass(kind, BaseSelfSupervisor):
        return 'pretraining'
    raise Unreadable(f'a {type_name(model) or "model without a type"} of {scope or "no known library"}: expected masked '
                     'pre-training, a classifier, or a model of mmsegmentation or mmdetection')


def settings_of(config: dict, global_batch: int | None) -> dict:
    """What of a config may change a result, as a flat dict: no paths, seeds, workers, or how often it is logged."""
    kept = {key: config.get(key) for key in ('model', 'param_scheduler', 'train_cfg')}
    wrapper = config.get('optim_wrapper') or {}
    kept['optim_wrapper'] = {key: value for key, value in wrapper.items() if key != 'accumulative_counts'}
    for split in ('train', 'test'):
        dataset = (config.get(f'{split}_dataloader') or {}).get('dataset')
        kept[f'{split}_pipeline'] = find_key(dataset, 'pipeline')
    usual = {hook['type'] for hook in RUN_HOOKS} | {'StopHook'}
    kept['custom_hooks'] = [hook for hook in config.get('custom_hooks') or [] if type_name(hook) not in usual]
    flat = {'global_batch': global_batch}
    flatten(kept, '', flat)
    return flat


def hash_of(settings: dict) -> str:
    """Twelve digits that two runs share if nothing but their seeds, paths and machines differs."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
