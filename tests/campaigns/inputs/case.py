"""What a case of the campaign is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PRETRAINING = 'coma_dyvit-tiny-p16_shapes-easy'
CLASSIFICATION = 'dyvit-tiny-p16_scratch_shapes-easy'
SEGMENTATION = 'upernet_dyvit-tiny-p16_scratch_shapes-easy'
DETECTION = 'mask-rcnn_dyvit-tiny-p16_scratch_shapes-easy'
TASKS = (PRETRAINING, CLASSIFICATION, SEGMENTATION, DETECTION)
SHORT = (
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_dataloader.batch_size=4',
    'val_dataloader.num_workers=0',
    'val_dataloader.persistent_workers=False',
    'val_dataloader.batch_size=4',
    'test_dataloader.num_workers=0',
    'test_dataloader.persistent_workers=False',
    'train_cfg.max_epochs=2',
    'train_cfg.val_interval=2',
    'default_hooks.logger.interval=1',
)
KINDS = ('clear line', 'right', 'misleading', 'traceback', 'silent', 'hang')
"""How a case can end: only the first two are right, each where it is expected."""


@dataclass(frozen=True)
class Case:
    """One wrong input, or one that only looks wrong.

    Args:
        family (str): What kind of input.
        name (str): What is wrong; unique.
        args (Sequence[str]): Of `coma-mm`. The name of a config stands for it, `CHECKPOINT:TASK` for a checkpoint, and
            `DATA` for the case's own copy of the data, which is also its `SHAPES_ROOT`.
        expected (str): 'refused': exit code 2 and one line; 'warned': a warning while the work is done; 'counted': the
            work is done, and a line says what is not used; 'right': the work is done; 'either': that, or a refusal.
        says (str): A regular expression that the line holds. Defaults to anything.
        change (Callable, optional): Makes the input wrong; takes the folder of the data.
        env (dict): Environment variables. Defaults to none.
    """

    family: str
    name: str
    args: Sequence[str]
    expected: str = 'refused'
    says: str = ''
    change: Callable[[Path], None] | None = None
    env: dict[str, str] = field(default_factory=dict)


def train(task: str, *options: str) -> list[str]:
    """The arguments of a short training, with some of the settings changed."""
    return ['train', task, '--work-dir', 'run', '--cfg-options', *SHORT, *options]


def test(task: str, *options: str) -> list[str]:
    """The arguments of a test of a trained model."""
    return ['test', task, f'CHECKPOINT:{task}', '--work-dir', 'run', '--cfg-options', *SHORT, *options]
