"""Pre-trained weights of a backbone, named by its `init_cfg`."""
from mmengine.model import BaseModule


def load_pretrained(module: BaseModule) -> bool:
    """Load the weights that `init_cfg=dict(type='Pretrained', checkpoint=…, prefix='backbone.')` asks for.

    mmengine's own loading passes over missing tensors and other shapes with a warning; here every tensor must fit, see
    `load_backbone`, whose further arguments may be among the keys (`in_channels='adapt'`), and whose report is logged and
    kept as `module.provenance`.

    Args:
        module (BaseModule): A backbone; its `init_cfg` may be one dict or a list.

    Returns:
        bool: Whether it asks for any; if not, initialise it otherwise.
    """
    from .load import load_backbone  # the engine imports the data sets, they the mask samplers
    cfgs = module.init_cfg if isinstance(module.init_cfg, list) else [module.init_cfg or {}]
    pretrained = [cfg for cfg in cfgs if cfg.get('type') == 'Pretrained']
    if pretrained:
        load_backbone(module, **{k: v for k, v in pretrained[-1].items() if k != 'type'})
    return bool(pretrained)
