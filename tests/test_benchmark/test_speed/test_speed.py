"""The speed benchmark: what contestants do, ratios, memory counted by hand, what is kept when it is interrupted."""
import json
from argparse import ArgumentParser
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from coma_mm.benchmark.speed import contestants, gpu, profiling, speed, timing
from coma_mm.benchmark.speed.contestants import Contestant, InferenceStep, Setting
from coma_mm.benchmark.speed.figure import speed_figure
from coma_mm.benchmark.speed.profiling import profile_step
from coma_mm.commands.benchmark import speed as command
from coma_mm.datasets.mask_samplers import UniformMaskSampler
from coma_mm.errors import UserError
from coma_mm.models import CoMA

from ...helpers.small_models import FLASH, Recorder

CPU = torch.device('cpu')


def setting(**changes):
    return Setting(**dict(arch='tiny', device=CPU, size=64, batch=2) | changes)


def find(name):
    return next(one for one in contestants.contestants() if one.name == name)


def test_ratios_are_taken_within_a_repeat():
    now, calls = [0.], []
    slowness = iter((1, 100, 3))

    def step(name, seconds):
        def run():
            if len(calls) % 4 == 0:  # a new repeat
                now.append(next(slowness))
            calls.append(name)
            now[0] += seconds[len(calls) > 8] * now[-1]
        return run

    # In the third repeat 'fast' is as slow as its peer.
    steps = dict(fast=step('fast', (2, 6)), peer=step('peer', (6, 6)))
    repeats = list(timing.interleave(steps, 3, seed=1, steps_per_repeat=2, clock=lambda: now[0]))
    assert repeats == [dict(fast=2, peer=6), dict(fast=200, peer=600), dict(fast=18, peer=18)]
    assert all(sorted(calls[i:i + 4]) == ['fast', 'fast', 'peer', 'peer'] for i in (0, 4, 8))
    fast, peer = ([repeat[name] for repeat in repeats] for name in ('fast', 'peer'))
    assert timing.speed_ratio(fast, peer) == 3  # that of the medians is 1
    assert timing.quartiles(fast) == (10, 18, 109)
    assert timing.quartiles([5.]) == (5, 5, 5)


def test_order_is_shuffled_by_the_seed():
    def order(seed):
        calls = []
        list(timing.interleave({name: lambda name=name: calls.append(name) for name in 'abcde'}, 4, seed))
        return [tuple(calls[i:i + 5]) for i in range(0, 20, 5)]

    assert len(set(order(0))) > 1 and all(sorted(turn) == list('abcde') for turn in order(0))
    assert order(0) == order(0) != order(1)


def test_memory_agrees_with_counting_by_hand():
    layer, images = nn.Linear(1000, 300), torch.randn(200, 1000)

    def train():
        layer.zero_grad()
        hidden = layer(images)
        hidden.relu().sum().backward()

    def infer():
        with torch.no_grad():
            for _ in range(2):  # what the first makes is released
                layer(images)

    # The most when the layer's gradients come last: its output, which is still named, that output's gradient (the
    # activation is freed by then), the weights' gradient, the biases', and two scalars: the sum and its gradient.
    whole = 200 * 300 * 4
    train()
    layer.zero_grad()
    assert timing.peak_bytes(train, CPU) == 2 * whole + 1000 * 300 * 4 + 300 * 4 + 2 * 4
    layer.zero_grad()
    assert timing.peak_bytes(infer, CPU) == whole
    shared = torch.zeros(10)
    assert timing.storage_bytes([shared, shared[2:], torch.zeros(3, dtype=torch.float64)]) == 40 + 24


@pytest.fixture(scope='module')
def steps():
    """A step of each contestant of pre-training, fresh, in bf16 and so with our wrapper."""
    return {one.name.removeprefix('pretrain/'): one.build(setting(precision='bf16'))
            for one in contestants.contestants() if one.group == 'pretrain' and not one.needs_cuda}


def test_steps_train(steps):
    for name, step in steps.items():
        before = [value.detach().clone() for value in step.model.parameters() if value.requires_grad]
        lagging = getattr(step.model, 'evaluation', None) and not step.model.momentum  # else a moving average
        adaptive = step.model.backbone.state_dict()
        first = {key: value.clone() for key, value in adaptive.items()}
        losses = step()
        assert torch.isfinite(losses['loss']), name
        if lagging:  # the evaluation model has the weights of one update before
            evaluation = step.model.evaluation['backbone'].state_dict()
            assert all(torch.equal(evaluation[key], first[key]) for key in first), name
            second = {key: value.clone() for key, value in adaptive.items()}
            step()
            assert all(torch.equal(evaluation[key], second[key]) for key in second), name
        else:
            step()
        # After two updates: blocks that start as the identity pass little of the first one's gradient on.
        after = [value for value in step.model.parameters() if value.requires_grad]
        changed = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert changed > 0.9 * len(before), name
    assert [name for name, step in steps.items() if isinstance(step.model, CoMA) and step.model.evaluation] == [
        'coma-frozen', 'coma-decoder', 'coma-latent']


def test_all_have_the_same_optimiser(steps):
    def settings(step):
        optimizer = step.optim_wrapper.optimizer
        groups = {(group['lr'], group['weight_decay']) for group in optimizer.param_groups}
        values = {key: value for key, value in optimizer.defaults.items()}
        return type(step.optim_wrapper), type(optimizer), values, groups

    expected = settings(steps['mmpretrain-mae'])
    assert expected[2]['fused'] and expected[2]['betas'] == (0.9, 0.95)
    assert expected[3] == {(1.5e-4 * 2 / 256, 0.05), (1.5e-4 * 2 / 256, 0.)}
    for name, step in steps.items():
        assert settings(step) == expected, name


def test_both_sides_see_the_same_number_of_patches(steps):
    seen = {}
    for name in ('mae-vit', 'mmpretrain-mae'):
        handle = steps[name].model.backbone.layers[0].register_forward_pre_hook(
            lambda module, inputs, name=name: seen.update({name: inputs[0].shape[1] - 1}))  # without the class token
        steps[name]()
        handle.remove()
    assert seen == {'mae-vit': 6, 'mmpretrain-mae': 6}  # of 16
    # At 224 px, as the help text says.
    sampler = UniformMaskSampler(contestants.RATIO)
    ours = sampler.num_keep((14, 14))
    backbone = steps['mmpretrain-mae'].model.backbone
    assert backbone.random_masking(torch.zeros(1, 196, 1), backbone.mask_ratio)[0].shape[1] == ours == 78
    assert sampler.num_keep((7, 7)) == 20
    for name, step in steps.items():
        if 'ids_keep' in step.data:
            assert step.data['ids_keep'].shape == (2, 6 if name == 'mae-vit' else 2), name


def test_the_peer_compiles_to_one_graph_too(monkeypatch):
    compile_plain = torch.compile
    monkeypatch.setattr(torch, 'compile', lambda function, **_: compile_plain(function, backend='eager', fullgraph=True))
    small = dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=64)
    monkeypatch.setitem(contestants.VITS, 'tiny', small)
    step = find('pretrain/mmpretrain-mae').build(setting(compiled=True))
    assert torch.isfinite(step()['loss'])


def test_profile_divides_a_step_into_its_parts(steps):
    step = steps['coma-frozen']
    parts, operators = profile_step(step, CPU, repeats=1)
    assert {'stem', 'stage 1', 'stage 2', 'stage 3', 'stage 4', 'neck', 'decoder', 'evaluation branch', 'loss',
            'optimiser', 'weight copy', 'normalisation'} <= set(parts)
    for part in ('stem', 'stage 1', 'stage 4', 'neck', 'decoder', 'loss'):
        assert min(parts[part]) > 0, part
    for part in ('evaluation branch', 'optimiser', 'weight copy', 'normalisation'):
        assert parts[part][0] > 0 and parts[part][1] == 0, part
    calls = {name: number for name, number, _ in operators}
    assert calls['aten::_fused_adamw_'] >= 1
    assert not any(name.startswith('part: ') for name in calls)
    # The labels are taken away.
    assert not step.model.backbone.stem._forward_hooks and 'patch_errors' not in vars(step.model.head)


def test_spans_of_labels_on_a_gpu_are_no_kernels():
    """The profiler gives a label the span that it covers on the GPU, and calls it like the label."""
    kernels = [SimpleNamespace(name='Optimizer.step#AdamW.step', duration=9), SimpleNamespace(name='a_kernel', duration=2)]
    event = SimpleNamespace(name='Optimizer.step#AdamW.step', kernels=kernels)
    assert profiling._own_time(event, torch.device('cuda')) == 2


@pytest.mark.parametrize('name', ['inference/dyvit', 'inference/vit', 'inference/swin', 'inference/hivit'])
def test_inference_gives_feature_maps(name):
    maps = find(name).build(setting(batch=1))()
    assert all(feature.dim() == 4 and not feature.requires_grad for feature in maps)
    assert len(maps) == (4 if name in ('inference/dyvit', 'inference/swin') else 1)
    assert maps[-1].shape[-1] == (2 if len(maps) == 4 else 4)


@pytest.mark.parametrize('name', ['upernet/dyvit', 'mask-rcnn/dyvit'])
def test_dense_steps_train(name):
    step = find(name).build(setting())
    weight = next(value for value in step.model.backbone.parameters() if value.requires_grad)
    before, recorder = weight.detach().clone(), Recorder()
    with recorder:
        assert torch.isfinite(step()['loss']) and not torch.equal(weight, before)
    assert recorder.attention() == FLASH


def parse(*options):
    parser = ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(options)


def test_patterns_and_peers():
    found = contestants.contestants(['default', 'eq8'])
    assert len({one.name for one in found}) == len(found)
    names = [one.name for one in speed.pick(found, ['inference/dyvit*'], CPU)]
    assert names == ['inference/dyvit', 'inference/dyvit-eq8', 'inference/vit']
    on_gpu = [one.name for one in speed.pick(found, ['pretrain/coma-none'], torch.device('cuda'))]
    assert on_gpu == ['pretrain/coma-none', 'pretrain/mmpretrain-mae', 'pretrain/as-shipped']
    with pytest.raises(UserError, match='--only pretrain/as-shipped.* on cpu; there are pretrain/coma-frozen, '):
        speed.pick(found, ['*', 'pretrain/as-shipped'], CPU)


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
@pytest.mark.parametrize('options', [(), ('--device', 'cuda')])
def test_the_cpu_must_be_asked_for(options):
    with pytest.raises(UserError, match='no GPU .* take --device cpu'):
        speed.run(parse(*options))


@pytest.mark.parametrize('options, message', [
    (('--sizes', '100'), '--sizes 100: expected multiples of 32 px'),
    (('--precision', 'bf16', 'tf32'), '--precision tf32 is a precision of GPUs'),
    (('--trace', 'x'), 'add --profile'),
    (('--profile', 'vit'), "--profile='vit': expected one of coma-frozen, "),
])
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        speed.run(parse('--device', 'cpu', *options))


@pytest.mark.parametrize('options', [('--out', 'file/a'), ('--profile', '--trace', 'file/a'),
                                     ('--profile', '--out', 'a', '--trace', '.')])
def test_what_cannot_be_written_is_said_before_measuring(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(speed, 'measure', lambda *_: pytest.fail('measured'))
    monkeypatch.setattr(speed, 'profile_step', lambda *_: pytest.fail('measured'))
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='cannot write .*: (.* is no folder|it is a folder, and .*); choose another'):
        speed.run(parse('--device', 'cpu', '--arch', 'tiny', '--sizes', '64', *options))


def fake_contestants(after=None, by=KeyboardInterrupt):
    """Two linear layers, of which the first is interrupted at a call."""
    calls = count(1)

    def build(setting, interrupted=False):
        layer = nn.Linear(4, 4)

        def forward(images):
            if interrupted and next(calls) == after:
                raise by
            return layer(images)

        return InferenceStep(layer, torch.zeros(setting.batch, 4), setting.precision, forward)

    return lambda windows: [
        Contestant('inference/a', 'A', lambda setting: build(setting, True), ('inference/b', )),
        Contestant('inference/b', 'B', build)]


def test_tables_and_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, 'contestants', fake_contestants())
    speed.run(parse('--device', 'cpu', '--sizes', '64', '96', '--repeats', '3', '--out', str(tmp_path)))
    facts = json.loads((tmp_path / 'speed.json').read_text())
    assert [(row['name'], row['size'], row['batch']) for row in facts['rows']] == [
        (f'inference/{name}', size, batch) for size, batch in ((64, 98), (96, 44)) for name in 'ab']
    first, second = facts['rows'][:2]
    assert len(first['seconds']) == 3
    assert first['ratios'] == {'inference/b': timing.speed_ratio(first['seconds'], second['seconds'])}
    assert first['images_per_second'] == pytest.approx(98 / sorted(first['seconds'])[1])
    assert first['weight_bytes'] == 80 and first['optimizer_bytes'] == 0 and first['step_bytes'] == 98 * 4 * 4
    assert {'Seed', 'Threads', 'Versions', 'Commit', 'Processor'} <= set(facts)
    markdown = (tmp_path / 'speed.md').read_text()
    assert markdown.count('| contestant | images/s | ms | IQR ms |') == 2 and '- Seed: 0' in markdown
    assert (tmp_path / 'speed.png').stat().st_size > 10_000
    assert 'inference, base, 96 px, fp32, batch 44, 3 repeats' in capsys.readouterr().out


def test_interruption_keeps_whole_repeats(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, 'contestants', fake_contestants(after=speed.WARM_UP + 1 + 3))  # in the third repeat
    with pytest.raises(KeyboardInterrupt):
        speed.run(parse('--device', 'cpu', '--sizes', '64', '--repeats', '9', '--out', str(tmp_path)))
    rows = json.loads((tmp_path / 'speed.json').read_text())['rows']
    assert [len(row['seconds']) for row in rows] == [2, 2]
    assert '2 repeats' in capsys.readouterr().out and (tmp_path / 'speed.md').exists()


@pytest.mark.parametrize('after', [1, speed.WARM_UP + 1 + 2])
def test_a_contestant_that_fails_has_a_note_and_the_others_go_on(after, tmp_path, monkeypatch):
    monkeypatch.setattr(speed, 'contestants', fake_contestants(after, RuntimeError('CUDNN_STATUS\nmore of it')))
    speed.run(parse('--device', 'cpu', '--sizes', '64', '--repeats', '3', '--out', str(tmp_path)))
    rows = json.loads((tmp_path / 'speed.json').read_text())['rows']
    assert [len(row['seconds']) for row in rows] == [0, 3]
    assert [row.get('note') for row in rows] == ['RuntimeError: CUDNN_STATUS', None]
    assert 'ratios' not in rows[0]
    assert 'a: RuntimeError: CUDNN_STATUS' in (tmp_path / 'speed.md').read_text()


def test_all_failures_are_put_into_words():
    assert speed.failure(torch.OutOfMemoryError('CUDA out of memory. Tried …')) == 'out of memory'
    assert speed.failure(ValueError()) == 'ValueError'
    assert len(speed.failure(RuntimeError('x' * 1000))) < 130


def test_comparisons_of_several_batches_precisions_and_kinds_of_compilation():
    members = [Contestant('pretrain/a', 'A', None)]

    def planned(*options):
        return [(one.batch, one.precision, one.compiled) for one, _ in speed.plan(members, parse(*options), CPU)]

    assert planned() == [(8, 'fp32', False)]
    assert planned('--compile') == [(8, 'fp32', False), (8, 'fp32', True)]
    assert planned('--compile', 'only', '--batch-size', '4', '2') == [(4, 'fp32', True), (2, 'fp32', True)]
    assert planned('--batch-size', '4', '2', '4', '--precision', 'tf32', 'bf16') == [
        (4, 'tf32', False), (4, 'bf16', False), (2, 'tf32', False), (2, 'bf16', False)]


def test_what_there_is_no_time_for_is_left_out_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, 'contestants', fake_contestants())
    speed.run(parse('--device', 'cpu', '--sizes', '64', '96', '--batch-size', '2', '--repeats', '1', '--max-time', '1e-9',
                    '--out', str(tmp_path)))
    facts = json.loads((tmp_path / 'speed.json').read_text())
    assert [row['size'] for row in facts['rows']] == [64, 64]  # the first is always measured
    assert facts['Left out for lack of time'] == 'inference 96 px fp32 batch 2'


def test_what_compiling_takes_is_noted(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, 'contestants', fake_contestants())
    speed.run(parse('--device', 'cpu', '--sizes', '64', '--repeats', '1', '--compile', 'only', '--out', str(tmp_path)))
    rows = json.loads((tmp_path / 'speed.json').read_text())['rows']
    assert all(row['compiled'] and row['compile_seconds'] > 0 for row in rows)
    assert '| compile s |' in (tmp_path / 'speed.md').read_text()


def test_products_are_tf32_where_asked_for():
    with speed._products('tf32'):
        assert torch.backends.cuda.matmul.allow_tf32
    with speed._products('fp32'):
        assert not torch.backends.cuda.matmul.allow_tf32


def test_facts_of_a_card():
    answer = 'NVIDIA H100, 570.1, 81559 MiB, 1980 MHz, 1980 MHz, 2619 MHz, [N/A], 31\n'
    facts = gpu.read_answer(answer)
    assert facts['GPU memory'] == '81559 MiB' and facts['Clock of the memory'] == '2619 MHz'
    assert 'Power limit' not in facts and gpu.read_answer('') == {}
    assert gpu.gpu_facts() == {}


def test_figure_has_the_ratios_of_what_was_timed():
    def row(name, seconds, **ratios):
        return dict(name=f'inference/{name}', title=name, arch='base', device='cuda', size=64, batch=2, precision='bf16',
                    compiled=False, seconds=seconds, ratios={f'inference/{key}': value for key, value in ratios.items()})

    figure = speed_figure([
        [row('fast', [1., 2.], vit=3.), row('vit', [4., 4.]), dict(row('huge', []), note='out of memory')],
        [row('alone', [1.])]])
    ax, = figure.axes
    assert [bar.get_width() for bar in ax.patches] == [3., 1.]
    assert list(ax.lines[0].get_xdata()) == [4., 2.]
    assert [label.get_text() for label in ax.get_yticklabels()] == ['fast', 'vit']
