"""Parameter groups for any model around a backbone that knows its layers: learning rate by depth, no needless decay."""
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm, _InstanceNorm
from torch import nn

from coma_mm.errors import UserError, choice
from coma_mm.ranges import above, number

NORMS = (nn.LayerNorm, nn.GroupNorm, _BatchNorm, _InstanceNorm)

TOKENS = ('cls_token', 'dist_token', 'mask_token', 'pos_embed', 'rel_pos_h', 'rel_pos_w', 'relative_position_bias_table')
"""How the names of parameters end that are tokens or position embeddings, in our models and the libraries'."""

OPTIONS = ('layer_decay_rate', 'norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult', 'custom_keys')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Layer-wise learning-rate decay (Clark et al. 2020; Bao et al. 2022) for classifiers, segmentors and detectors.

    The three libraries' own constructors know the names of some backbones; this one asks the backbone, by its
    `get_layer_depth`. With a rate of 1 any model will do, for instance in pre-training.

    A parameter of depth d of n learns with lr × layer_decay_rate^(n - 1 - d); what is outside of the backbone has depth
    n - 1. Norms, biases, everything else of one dimension, position embeddings and class and mask tokens are not
    decayed. Parameters of equal settings share a group, which mmengine's schedulers do not mind and optimisers are
    fastest with. The groups are logged as a table.

    Args:
        optim_wrapper_cfg (dict): Of mmengine's `OptimWrapper`, with `optimizer.lr`.
        paramwise_cfg (dict, optional): All of it optional:

            - layer_decay_rate (float): Defaults to 1.
            - norm_decay_mult, bias_decay_mult, flat_decay_mult (float): Factors of the weight decay for norms, for
              biases, and for other parameters of one dimension. Default to 0.
            - custom_keys (dict[str, dict]): Settings for parameters whose name contains the key (the longest one that
              does): `lr_mult` and `decay_mult`, default 1, and other arguments of the optimiser. They take the place of
              the other rules for weight decay.

    Raises:
        UserError: If `paramwise_cfg` has another key, the optimiser's lr is not given, or the rate is not 1 and the
            backbone has no `get_layer_depth`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        for key in paramwise_cfg or ():
            choice('LayerDecayOptimWrapperConstructor: a key of paramwise_cfg', key, OPTIONS)
        for key, value in (paramwise_cfg or {}).items():
            if key != 'custom_keys':
                (above(0, 1) if key == 'layer_decay_rate' else number(0)).check(
                    f'LayerDecayOptimWrapperConstructor: paramwise_cfg.{key}', value)
        super().__init__(optim_wrapper_cfg, dict(layer_decay_rate=1.) | (paramwise_cfg or {}))
        if self.base_lr is None:
            raise UserError('LayerDecayOptimWrapperConstructor: the optimiser needs lr, which the groups are derived from')

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        """Add the groups of a whole model.

        Args:
            params (list[dict]): Receives the groups.
            module (nn.Module): The model.
            **kwargs: Ignored.
        """
        depth_of = self._depths(module)
        groups, depths = {}, defaultdict(set)
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            owner = module.get_submodule(name.rpartition('.')[0])
            settings = self._settings(name, parameter, isinstance(owner, NORMS))
            depth, number = depth_of(name)
            settings['lr'] *= self.paramwise_cfg['layer_decay_rate']**(number - 1 - depth)
            key = repr(sorted(settings.items()))
            groups.setdefault(key, dict(settings, params=[]))['params'].append(parameter)
            depths[key].add(depth)
        for key in sorted(groups, key=lambda key: (min(depths[key]), -groups[key].get('weight_decay', 0))):
            first, last = min(depths[key]), max(depths[key])
            params.append(dict(groups[key], depth=f'{first}-{last}' if first < last else f'{first}'))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimiser wrapper, and log its groups."""
        wrapper = super().__call__(model)
        _log(wrapper.optimizer.param_groups)
        return wrapper

    def _depths(self, model: nn.Module) -> Callable[[str], tuple[int, int]]:
        """From the name of a parameter to its depth and the number of depths."""
        backbone = getattr(model, 'backbone', None)
        if hasattr(backbone, 'get_layer_depth'):
            return lambda name: backbone.get_layer_depth(name, 'backbone.')
        if self.paramwise_cfg['layer_decay_rate'] != 1:
            raise UserError(f'layer-wise decay needs a backbone with get_layer_depth, which {type(backbone).__name__} '
                            'does not have; take another backbone, or layer_decay_rate=1')
        return lambda name: (0, 1)

    def _settings(self, name: str, parameter: nn.Parameter, is_norm: bool) -> dict[str, Any]:
        """The settings of a parameter's group, without the decay by depth."""
        options = self.paramwise_cfg
        custom = {key: value for key, value in options.get('custom_keys', {}).items() if key in name}
        if custom:
            settings = dict(custom[max(custom, key=len)])
            factor = settings.pop('decay_mult', 1.)
        else:
            settings = {}
            if name.endswith(TOKENS):
                factor = 0.
            elif is_norm:
                factor = options.get('norm_decay_mult', 0.)
            elif name.endswith('bias'):
                factor = options.get('bias_decay_mult', 0.)
            else:
                factor = options.get('flat_decay_mult', 0.) if parameter.ndim <= 1 else 1.
        settings['lr'] = self.base_lr * settings.pop('lr_mult', 1.)
        if self.base_wd is not None or not factor:  # the optimiser has a default of its own
            settings['weight_decay'] = (self.base_wd or 0) * factor
        return settings


def _log(groups: list[dict[str, Any]]) -> None:
    """Log a table of an optimiser's parameter groups."""
    rows = [('depth', 'learning rate', 'weight decay', 'tensors', 'parameters')]
    sizes = [[parameter.numel() for parameter in group['params']] for group in groups]
    for group, size in zip(groups, sizes, strict=True):
        rows.append((group['depth'], f'{group["lr"]:.4g}', f'{group.get("weight_decay", 0):.4g}', len(size),
                     f'{sum(size):,}'))
    rows.append(('total', '', '', sum(map(len, sizes)), f'{sum(map(sum, sizes)):,}'))
    table = '\n'.join('{:>7} {:>14} {:>13} {:>8} {:>13}'.format(*row) for row in rows)
    print_log(f'Parameter groups of the optimiser:\n{table}', logger='current')
