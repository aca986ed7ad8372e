"""What is compared, as a table: each arm is a base, the last or all stages for the decoder, and what it changes."""
from dataclasses import dataclass, field, replace
from typing import Any

from coma_mm.benchmark.complement.arms import Arm, Scale

SEEDS = (0, 1, 2)
VIT_LAYERS = 8
VIT = dict(embed_dims=96, num_layers=VIT_LAYERS, num_heads=3, feedforward_channels=384)
"""As many parameters as the DyViT of the study has: 0.96 million."""


@dataclass(frozen=True)
class SmallScale(Scale):
    """Sizes and settings of an arm.

    Args:
        backbone (dict): Further settings of DyViT. Defaults to none.
        neck (dict): Further settings of MultiScaleFusion. Defaults to none.
        vit (bool): The encoder is mmpretrain's ViT, whose "stages" are the layers at each quarter. Defaults to False.
    """
    backbone: dict = field(default_factory=dict, hash=False)
    neck: dict = field(default_factory=dict, hash=False)
    vit: bool = False

    def encoder(self, stages: tuple[int, ...], out_type: str) -> dict[str, Any]:
        """dict: The config of the encoder with these outputs."""
        if not self.vit:
            return {**super().encoder(stages, out_type), **self.backbone}
        layers = tuple(VIT_LAYERS * (stage + 1) // 4 - 1 for stage in stages)
        return dict(type='MaskedVisionTransformer', arch=VIT, img_size=self.size, patch_size=self.patch_size,
                    out_indices=layers, out_type=out_type)

    def model(self, arm: Arm) -> dict[str, Any]:
        """dict: The config of an arm's model."""
        model = super().model(arm)
        return dict(model, neck={**model['neck'], **self.neck})


ALL, LAST = (0, 1, 2, 3), (3, )
FRACTIONS = (0., 0.125, 0.25, 0.5, 1.)
DECODER = dict(embed_dims=96, depth=1, num_heads=3)
SCALES = {
    'photographs': SmallScale((), dict(dims=(24, 48, 96, 192), depths=(1, 1, 4, 1), num_heads=(1, 2, 3, 6)), DECODER,
                              batch=64, updates=1560, lr=1e-3, fractions=FRACTIONS),
    'scenes': SmallScale((), dict(dims=(24, 48, 96, 192), depths=(1, 1, 4, 1), num_heads=(1, 2, 3, 6)), DECODER,
                         batch=32, updates=1250, lr=1e-3, fractions=FRACTIONS, patch_size=32, size=128),
}
"""By data: photographs of 64 px with patches of 16 px, and drawn scenes of 128 px with patches of 32 px."""

FINE_TUNING = {'photographs': dict(epochs=12, lr=5e-4, batch=32), 'scenes': dict(epochs=12, lr=5e-4, batch=8)}
"""By data: how an arm is fine-tuned, see `fine_tune`."""


@dataclass(frozen=True)
class SmallArm(Arm):
    """One way to pre-train.

    Args:
        group (str): The question that it belongs to, one of `GROUPS`.
        data (str): One of `SCALES`. Defaults to 'photographs'.
        changes (dict): What of the scale is different. Defaults to nothing.
        finetuned (tuple[float, ...]): Shares of the budget at which it is fine-tuned as well. Defaults to none.
    """
    group: str = 'leak'
    data: str = 'photographs'
    changes: dict = field(default_factory=dict, hash=False)
    finetuned: tuple[float, ...] = ()

    @property
    def scale(self) -> SmallScale:
        """SmallScale: The sizes and settings; a budget of more than 1 is one point more at which a run is measured."""
        scale = replace(SCALES[self.data], **self.changes)
        return replace(scale, fractions=(*scale.fractions, self.budget)) if self.budget > 1 else scale


GROUPS = {
    'leak': 'The leak in the stem and what the decoder sees, photographs of 64 px',
    'fusion': 'Remedies for the fusion of all stages',
    'patches': 'More patches: the photographs enlarged to 80 px',
    'methods': 'Ways to pre-train, at equal images',
    'leak-128': 'The leak in the stem and what the decoder sees, scenes of 128 px with patches of 32 px',
}
"""In the order in which they are run, with their titles."""

OPEN = dict(mask_before_stem=False)
XAVIER = dict(zero_init_residual=False)
END, START_AND_END = (1., ), (0., 1.)

ARMS = {
    'last': SmallArm('leak closed, last stage', changes=dict(stages=LAST), finetuned=START_AND_END),
    'all': SmallArm('leak closed, all stages', changes=dict(stages=ALL), finetuned=END),
    'open-last': SmallArm('leak open, last stage', changes=dict(stages=LAST, backbone=OPEN), finetuned=END),
    'open-all': SmallArm('leak open, all stages', changes=dict(stages=ALL, backbone=OPEN), finetuned=END),

    'detached': SmallArm('finer stages detached', group='fusion', changes=dict(stages=ALL, neck=dict(detach=True)),
                         finetuned=END),
    'weighted': SmallArm('learned weights of the stages', group='fusion',
                         changes=dict(stages=ALL, neck=dict(weighted=True)), finetuned=END),
    'zero': SmallArm('convolutions of the fusion start at 0', group='fusion',
                     changes=dict(stages=ALL, neck=dict(zero_init=True)), finetuned=END),
    **{name: SmallArm(title, budget=budget, group='fusion', changes={'stages': ALL, **changes}, finetuned=(budget, ))
       for name, title, budget, changes in (
           ('all-lr-half', 'half the learning rate', 1., dict(lr=5e-4)),
           ('last-lr-half', 'half the learning rate, last stage', 1., dict(stages=LAST, lr=5e-4)),
           ('all-lr-double', 'twice the learning rate', 1., dict(lr=2e-3)),
           ('all-xavier', 'blocks start from Xavier', 1., dict(backbone=XAVIER)),
           ('all-depth-4', 'decoder of 4 blocks', 1., dict(decoder=dict(DECODER, depth=4))),
           ('all-long', 'twice the length', 2., dict()))},

    'last-25': SmallArm('25 patches, last stage', group='patches', changes=dict(stages=LAST, size=80),
                        finetuned=START_AND_END),
    'all-25': SmallArm('25 patches, all stages', group='patches', changes=dict(stages=ALL, size=80), finetuned=END),

    **{name: SmallArm(title, complement, seen=seen, group='methods', finetuned=END,
                      changes=dict(stages=LAST, vit=name == 'vit'))
       for name, title, complement, seen in (
           ('vit', "MAE with mmpretrain's ViT", 'none', .5),
           ('latent', "CoMA, 'latent', last stage", 'latent', .5),
           ('full', "CoMA, 'full', 50 % and 50 %, last stage", 'full', .5),
           ('frozen', "CoMA, 'frozen', 60 % masked, last stage", 'frozen', .4))},
    'vit-lr-half': SmallArm("MAE with mmpretrain's ViT, half the learning rate", group='methods',
                            changes=dict(stages=LAST, vit=True, lr=5e-4), finetuned=START_AND_END),

    '128-last': SmallArm('leak closed, last stage', group='leak-128', data='scenes', changes=dict(stages=LAST),
                         finetuned=START_AND_END),
    '128-all': SmallArm('leak closed, all stages', group='leak-128', data='scenes', changes=dict(stages=ALL), finetuned=END),
    '128-open-last': SmallArm('leak open, last stage', group='leak-128', data='scenes',
                              changes=dict(stages=LAST, backbone=OPEN), finetuned=END),
    '128-open-all': SmallArm('leak open, all stages', group='leak-128', data='scenes',
                             changes=dict(stages=ALL, backbone=OPEN), finetuned=END),
}
"""All are MAE at 50 % with the leak closed, unless they say otherwise."""

BASES = dict(leak=(), fusion=('all', 'last'), patches=('last', 'all'), methods=('last', 'all'), **{'leak-128': ()})
"""The arms of other groups that belong into a group's table."""

AGAINST = {'all': 'last', 'open-last': 'last', 'open-all': 'all', 'all-25': 'last-25',
           '128-all': '128-last', '128-open-last': '128-last', '128-open-all': '128-all',
           **{name: 'all' if arm.changes['stages'] == ALL else 'last' for name, arm in ARMS.items()
              if arm.group in ('fusion', 'methods')}, 'vit-lr-half': 'last-lr-half'}
"""The arm that each is compared with, pair by pair: what its title names is the difference."""
