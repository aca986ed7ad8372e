from types import SimpleNamespace

from coma_mm.config.read import read_config
from coma_mm.config_tree import find_key
from coma_mm.errors import UserError
from coma_mm.visualization.loading import load_model
from coma_mm.weights import load_weights_only


def load_described(checkpoint, config=None, device='cpu'):
    if config is None:
        raise UserError(f'{checkpoint} does not say how it is used; pass --config CONFIG')
    cfg = read_config(config) if isinstance(config, str) else config
    model = load_model(cfg, checkpoint)
    task = dict(mmpretrain='classification', mmseg='segmentation', mmdet='detection')[cfg.default_scope]
    meta = find_key(cfg.get('train_dataloader'), 'metainfo') or {}
    return SimpleNamespace(model=model, task=task, classes=list(meta.get('classes') or []), palette=None,
                           pipeline=cfg.test_dataloader.dataset.pipeline, scope=cfg.default_scope,
                           meta=load_weights_only(checkpoint)['meta'])
