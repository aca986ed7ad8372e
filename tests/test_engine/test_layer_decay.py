"""Layer-wise learning-rate decay."""
import pytest
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from torch import nn

from coma_mm.errors import UserError

DEPTHS = 8  # of DyViT-tiny: the stem, six blocks, the heads


class Segmentor(nn.Module):
    """A model that knows nothing of depths, around a backbone that does."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.decode_head = nn.Linear(4, 2)


def learning_rates(model, **kwargs):
    """The learning rate of each parameter by name."""
    wrapper = build_optim_wrapper(model, dict(
        optimizer=dict(type='AdamW', lr=1., weight_decay=0.1), constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=0.5, **kwargs)))
    return {group['param_name']: group for group in wrapper.optimizer.param_groups}


def test_rate_falls_with_depth():
    groups = learning_rates(Segmentor(MODELS.build(dict(type='DyViT', arch='tiny'))), norm_decay_mult=0.)
    assert groups['decode_head.weight']['lr'] == 1
    assert groups['backbone.norm3.weight']['lr'] == 1
    assert groups['backbone.stem.weight']['lr'] == 0.5**(DEPTHS - 1)
    assert groups['backbone.stages.0.1.mlp.0.weight']['lr'] == 0.5**(DEPTHS - 2)
    assert groups['backbone.stages.3.0.expand.weight']['lr'] == 0.5
    assert groups['backbone.norm3.weight']['weight_decay'] == 0
    assert groups['decode_head.weight']['weight_decay'] == 0.1


def test_every_parameter_is_in_one_group():
    model = Segmentor(MODELS.build(dict(type='DyViT', arch='tiny', frozen_stages=0)))
    assert learning_rates(model).keys() == {name for name, value in model.named_parameters() if value.requires_grad}


def test_other_backbone_is_refused():
    with pytest.raises(UserError, match='get_layer_depth, which Linear does not have'):
        learning_rates(Segmentor(nn.Linear(2, 2)))
