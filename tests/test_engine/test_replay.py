"""A step whose numbers are not finite is left in a file, and comes out the same when it is run again."""
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from coma_mm.config.read import read_config
from coma_mm.engine.hooks import FiniteHook
from coma_mm.engine.replay import gradients_sha256, leave, replay
from coma_mm.engine.train import train
from coma_mm.errors import SharedError, UserError
from coma_mm.prepare.shapes import write_shapes

from ..helpers.faulty_runs import hook_of
from ..helpers.faulty_runs import run as run_fragile


@HOOKS.register_module()
class LeaveSecondUpdate(Hook):
    """Leaves the file of an update that is finite, as weights do not change in these runs."""
    priority = 'HIGHEST'  # before FiniteHook forgets it

    def before_train(self, runner):
        runner.optim_wrapper.optimizer.register_step_pre_hook(self.note)
        self.runner = runner

    def note(self, *_):
        self.gradients = gradients_sha256(self.runner.model)

    def after_train_iter(self, runner, *_, **__):
        finite = hook_of(runner, FiniteHook)
        if runner.iter == 3 and finite.losses:
            losses = torch.stack(finite.losses).flatten()
            leave(runner, finite.batches, losses, self.gradients, sum(finite.names, []))


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shapes')
    write_shapes(folder, dict(unlabelled=24, train=16, val=2, test=2), size=64, progress=False)
    return folder


def start(name, folder, options, **arguments):
    options = {'train_dataloader.batch_size': 2, 'train_dataloader.num_workers': 0, 'randomness.seed': 1, 'epochs': 1,
               'param_scheduler': [], **options}
    train(read_config(f'configs/shapes/{name}.py', options, str(folder), validate=False, **arguments))


@pytest.mark.parametrize('name, options', [
    ('coma_dyvit-tiny_shapes', {'optim_wrapper.accumulative_counts': 2}),
    ('coma_dyvit-tiny_shapes', {'optim_wrapper.accumulative_counts': 'auto', 'auto_scale_lr.base_batch_size': 4}),
    ('dyvit-tiny_scratch_shapes', {}),
    ('upernet_dyvit-tiny_scratch_shapes', {}),
    ('mask-rcnn_dyvit-tiny_scratch_shapes', {}),
], ids=['coma', 'auto', 'classifier', 'upernet', 'mask-rcnn'])
def test_a_step_of_every_task_comes_out_the_same(tmp_path, monkeypatch, shapes, name, options):
    """Loss and gradients to the last bit, with what is drawn at random in augmentation, masks, drop path and boxes."""
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    options = {**options, 'optim_wrapper.optimizer.lr': 0., 'custom_hooks': [dict(type='LeaveSecondUpdate')]}
    if 'coma' in name:
        options['custom_hooks'].append(dict(type='EvaluationModelHook'))
    start(name, tmp_path, options, amp=name.startswith('dyvit'))
    step = replay(tmp_path / 'replay_iter_4_rank_0.pt')
    assert step.same and step.gradients == step.facts['gradients'] and step.losses.isfinite().all()
    assert step.first is None and not step.spoilt and len(step.facts['images']) == 2 * len(step.losses)


def test_the_tool_runs_the_first_such_step_of_a_run_again(tmp_path, monkeypatch, shapes, run_tool):
    monkeypatch.setenv('SHAPES_ROOT', str(shapes))
    with pytest.raises(SharedError, match='not finite'):
        start('coma_dyvit-tiny_shapes', tmp_path, {
            'optim_wrapper.optimizer.lr': 1e25, 'custom_hooks': [
                dict(type='EvaluationModelHook'), dict(type='FiniteHook', max_skips=3, interval=3)]})
    file, = tmp_path.glob('replay_*')
    out = run_tool('replay.py', file)
    assert 'iteration 2 of coma_dyvit-tiny_shapes.py, process 1 of 1, seed 1; images: ' in out and out.count('[nan]') == 2
    assert 'first output that is not finite: backbone.stages.0' in out and 'the first is backbone.stem' in out
    assert out.strip().endswith('\nthe same to the last bit')
    content = torch.load(file, weights_only=True)
    content['losses'] += 1
    content['replay']['gradients'] = ''
    torch.save(content, tmp_path / 'other.pt')
    assert 'not the same to the last bit' in run_tool('replay.py', tmp_path / 'other.pt', code=1)
    torch.save(dict(a=torch.ones(1)), tmp_path / 'weights.pth')
    for name, expected in (('weights.pth', 'holds no step of a training'), ('missing.pt', 'no checkpoint at')):
        assert expected in run_tool('replay.py', tmp_path / name, code=2)


def test_one_file_is_left_and_none_where_it_is_not_known_in_time(tmp_path):
    """On a GPU with a fused optimiser the host sees it too late, and looks at each update from then on."""
    runner = run_fragile(tmp_path / 'a', faults={2: 'inputs', 4: 'loss', 6: 'gradient'})
    assert [path.name for path in (tmp_path / 'a').glob('replay_*')] == ['replay_iter_2_rank_0.pt']
    content = torch.load(tmp_path / 'a/replay_iter_2_rank_0.pt', weights_only=True)
    before = runner.model.state_dict()
    assert content['losses'].isnan().all() and content['state_dict'].keys() == before.keys()

    class Late(Hook):
        priority = 'NORMAL'

        def before_train(self, runner):
            hook_of(runner, FiniteHook).waits = False

    HOOKS.register_module(module=Late, force=True)
    run_fragile(tmp_path / 'b', faults={2: 'inputs', 4: 'loss', 7: 'gradient'}, hooks=[dict(type='Late'), dict(
        type='FiniteHook', interval=3)])
    assert [path.name for path in (tmp_path / 'b').glob('replay_*')] == ['replay_iter_4_rank_0.pt']


def test_a_full_disk_is_no_reason_to_stop(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('coma_mm.engine.replay.write_whole', full)
    runner = run_fragile(tmp_path, faults={2: 'inputs'})
    assert runner.iter == 8 and 'No space left' in hook_of(runner, FiniteHook).replay


def test_a_file_that_somebody_has_changed_is_refused_in_one_line(tmp_path):
    run_fragile(tmp_path, faults={2: 'inputs'})
    content = torch.load(tmp_path / 'replay_iter_2_rank_0.pt', weights_only=True)
    deep = []
    for _ in range(300):
        deep = [deep]
    changes = [dict(batches=batches) for batches in (
        3, [], [{}], [dict(kind='os.system')], [dict(kind=[])], [dict(kind='dict', items=[])],
        [dict(kind='array', values=3)], [deep], [dict(kind='BitmapMasks', arguments=[1, 2, 3])], [dict(kind='DataSample')],
        [dict(kind='DetDataSample', metainfo={}, data=dict(kind='dict', items={'__class__': 1}))])]
    changes += [dict(replay={**content['replay'], **facts}) for facts in (
        dict(seed='x'), dict(rank=None), dict(iterations=()), dict(iterations=('a', )), dict(images=3), dict(images=[3]),
        dict(config=3), dict(config={}), dict(config=dict(model=3)), dict(config_file=None), dict(gradients=3),
        dict(config={**content['replay']['config'], 'optim_wrapper': 3}))]
    changes += [dict(losses=3), dict(losses=[]), dict(replay=[]), dict(state_dict=dict(a=torch.ones(1)))]
    for change in changes:
        torch.save({**content, **change}, tmp_path / 'a.pt')
        with pytest.raises(UserError) as caught:
            replay(tmp_path / 'a.pt')
        assert 'a.pt' in str(caught.value) and '\n' not in str(caught.value) and len(str(caught.value)) < 900, change


def test_nothing_that_its_config_names_is_imported_or_run(tmp_path):
    run_fragile(tmp_path, faults={2: 'inputs'})
    file = tmp_path / 'replay_iter_2_rank_0.pt'
    content = torch.load(file, weights_only=True)
    for config in (dict(model=dict(type='subprocess.Popen', args=['touch', 'created'])),
                   dict(model=dict(type='Fragile'), optim_wrapper=dict(type='subprocess.Popen')),
                   dict(model=dict(type='Fragile'), data_preprocessor=dict(type='torch.nn.Linear')),
                   dict(model=dict(type='Fragile'), default_scope='subprocess')):
        torch.save({**content, 'replay': {**content['replay'], 'config': config}}, tmp_path / 'a.pt')
        with pytest.raises(UserError, match='a.pt|default_scope'):
            replay(tmp_path / 'a.pt')
    torch.save({**content, 'replay': {**content['replay'], 'config': dict(model=dict(type='Fragile'))}}, tmp_path / 'a.pt')
    assert replay(tmp_path / 'a.pt').losses.isnan().all()
