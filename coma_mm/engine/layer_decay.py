"""Layer-wise learning-rate decay for any model around a backbone that knows its layers."""
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor

from coma_mm.errors import UserError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's constructor, for segmentors and detectors too.

    It asks the model for the depth of a parameter, which only mmpretrain's classifiers know; mmsegmentation's and
    mmdetection's own constructors know the names of a few backbones alone. This one asks the backbone, by its
    `get_layer_depth`. `paramwise_cfg` is as in mmpretrain: `layer_decay_rate` (a parameter of depth d of n learns with
    lr × rate^(n - 1 - d); heads with lr), `norm_decay_mult`, `bias_decay_mult`, `flat_decay_mult`, `custom_keys`.

    Raises:
        UserError: If the backbone has no `get_layer_depth`.
    """

    def add_params(self, params, module, prefix='', get_layer_depth=None, **kwargs):
        """Add the parameters of a module, each with its own learning rate."""
        if get_layer_depth is None:
            backbone = getattr(module, 'backbone', None)
            if not hasattr(backbone, 'get_layer_depth'):
                raise UserError(f'layer-wise decay needs a backbone with get_layer_depth, which '
                                f'{type(backbone).__name__} does not have; take one of mmpretrain, or no constructor')

            def get_layer_depth(name):
                return backbone.get_layer_depth(name, 'backbone.')

        super().add_params(params, module, prefix, get_layer_depth, **kwargs)
