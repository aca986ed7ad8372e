"""Keys of hooks that nothing reads are named, and checkpoints that would overwrite each other."""
import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook, Hook

from coma_mm.config.check_hooks import check_hooks
from coma_mm.errors import UserError


class TakesAll(Hook):
    """A user's hook whose keys are known to nobody else."""

    def __init__(self, interval=1, **kwargs):
        self.interval = interval


def check(hook, name='default_hooks'):
    hooks = dict(checkpoint=hook) if name == 'default_hooks' else [hook]
    return check_hooks(Config({'default_scope': 'mmpretrain', name: hooks}), 'my.py')


@pytest.mark.parametrize(('hook', 'expected'), [
    (dict(type='CheckpointHook', intervall=1), 'intervall; did you mean \'interval\'?'),
    (dict(type='CheckpointHook', max_keep_ckpt=1), 'max_keep_ckpt; did you mean \'max_keep_ckpts\'?'),
    (dict(type=CheckpointHook, save_optimiser=1), 'save_optimiser; did you mean \'save_optimizer\'?'),
    (dict(type='mmengine.LoggerHook', intervals=1), 'intervals; did you mean \'interval\'?'),
    (dict(type='EvaluationModelHook', every=2), 'every'), (dict(type='IterTimerHook', interval=2), 'interval')])
def test_a_key_that_a_hook_does_not_read_is_named(hook, expected):
    with pytest.raises(UserError) as caught:
        check(hook)
    assert str(caught.value) == f'my.py: nothing reads the key default_hooks.checkpoint.{expected}'
    if 'CheckpointHook' not in str(hook['type']):
        with pytest.raises(UserError, match='the key custom_hooks.0.'):
            check(hook, 'custom_hooks')


def test_what_a_hook_reads_or_may_hand_on_passes():
    assert check(dict(type='CheckpointHook', on_error='stop', background=True)) == []  # ours takes its place
    for hook in (dict(type='CheckpointHook', interval=1, filename_tmpl=None), dict(type='EMAHook', momentum=0.1),
                 dict(type=TakesAll, intervall=1), dict(type='Unknown', a=1),
                 dict(type='LoggerHook', priority='LOW', _scope_='mmengine'), None):
        assert check(hook) == [] == check(hook, 'custom_hooks')
    assert check_hooks(Config()) == []


def test_a_key_that_the_checkpoint_hook_takes_and_passes_over_is_warned_of():
    assert check(dict(type='CheckpointHook', foo=1)) == ['my.py: nothing reads the key default_hooks.checkpoint.foo']


@pytest.mark.parametrize('name', ['last.pth', 'epoch_{.pth', '{epoch}.pth', '{}_{}.pth', 5])
def test_checkpoints_that_would_overwrite_each_other_are_refused(name):
    with pytest.raises(UserError, match=r'checkpoint.filename_tmpl=.*: expected a name with {} for the number'):
        check(dict(type='CheckpointHook', filename_tmpl=name))


@pytest.mark.parametrize('name', ['epoch_{}.pth', 'ep{:03d}.pth', '{0}-{0}.pth'])
def test_names_with_a_number_pass(name):
    assert check(dict(type='CheckpointHook', filename_tmpl=name)) == []
