"""What must hold on a GPU, at tiny size: `make gpu` notes what each check finds, `pytest -m gpu` runs the same ones.

A check takes the device, which may be a CPU too, fails by an AssertionError, and returns what it has measured.
"""
import copy
import tempfile
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import torch
from mmpretrain.registry import MODELS
from torch.nn.utils import get_total_norm

from coma_mm.benchmark.speed import contestants
from coma_mm.benchmark.speed.profiling import profile_step
from coma_mm.benchmark.speed.timing import peak_bytes
from coma_mm.engine.hooks import EvaluationModelHook, FiniteHook
from coma_mm.engine.models import compile_training, to_cpu
from coma_mm.engine.optim.accumulation import update
from coma_mm.evaluation.features import Features
from coma_mm.evaluation.knn import knn_accuracy
from coma_mm.models import CoMA
from tests.helpers.small_models import Recorder

CPU = torch.device('cpu')
SMALL = dict(dims=(16, 32, 64, 128), depths=(1, 1, 1, 1), num_heads=(2, 2, 4, 4))
"""A DyViT that is compiled in seconds."""


def step_of(name, device, precision='fp32', **changes):
    """TrainingStep: Of one of the speed benchmark's contestants, tiny."""
    one = next(one for one in contestants.contestants() if one.name == name)
    torch.manual_seed(0)  # what is drawn before the weights are initialised, too
    return one.build(contestants.Setting(**dict(
        arch='tiny', device=device, size=64, batch=4, precision=precision) | changes))


@contextmanager
def no_tf32():
    """Within this block float32 is float32."""
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def loss_and_norm(step):
    """tuple[float, float]: Of one training step: its loss, and the norm of its gradient."""
    norms = []

    def note(optimizer, *_):
        norms.append(get_total_norm([p.grad for group in optimizer.param_groups for p in group['params']
                                     if p.grad is not None]))

    handle = step.optim_wrapper.optimizer.register_step_pre_hook(note)
    loss = step()['loss']
    handle.remove()
    return loss.item(), norms[0].item()


def relative(found, expected):
    """float: The difference, as a part of what is expected."""
    return abs(found - expected) / abs(expected)


def same_step_as_on_a_cpu(mode, device):
    """The loss and the gradient's norm of a first step from the same weights, in float32 and bf16."""
    with no_tf32():
        expected = loss_and_norm(step_of(f'pretrain/coma-{mode}', CPU))
        found = loss_and_norm(step_of(f'pretrain/coma-{mode}', device))
    rounded = loss_and_norm(step_of(f'pretrain/coma-{mode}', device, 'bf16'))
    values = {}
    for kind, pair in dict(fp32=found, bf16=rounded).items():
        for what, one, other in zip(('loss', 'gradient'), pair, expected, strict=True):
            values[f'{kind}_{what}'] = relative(one, other)
    for name, most in dict(fp32_loss=1e-5, fp32_gradient=1e-4, bf16_loss=2e-2, bf16_gradient=2e-2).items():
        assert values[name] <= most, f'{name} differs by {values[name]:.1e}, more than {most:.0e}'
    return values


class Hooked:
    """A training step with the hooks that are around it in each run."""

    def __init__(self, device, momentum=0.):
        self.step = step_of('pretrain/coma-frozen', device, 'bf16')
        self.model, self.wrapper = self.step.model, self.step.optim_wrapper
        self.model.momentum = momentum
        self.folder = tempfile.TemporaryDirectory()
        self.runner = SimpleNamespace(
            model=self.model, optim_wrapper=self.wrapper, hooks=[], iter=0, work_dir=self.folder.name, message_hub=None)
        self.finite = FiniteHook(interval=100)
        self.finite.before_train(self.runner)
        self.finite.replay = 'not wanted'
        EvaluationModelHook().before_train(self.runner)

    def __call__(self, data=None):
        """An iteration."""
        data = data or self.step.data
        self.finite.before_train_iter(self.runner, 0, data)
        losses = update(self.model.train_step, [data], self.wrapper)
        self.finite.after_train_iter(self.runner, 0)
        self.runner.iter += 1
        return losses

    def tensors(self):
        """dict: Copies of weights, the evaluation model and the optimiser's state."""
        moments = dict(enumerate(self.step.optimizer_tensors()))
        return {name: value.detach().clone() for name, value in [*self.model.state_dict().items(), *moments.items()]}


def different(found, expected):
    """list: The names of those tensors that are not the same to the last bit."""
    return [name for name in expected if not torch.equal(found[name], expected[name])]


def an_update_of_nan_is_left_out(device):
    """Weights, moments and evaluation model keep their bits; the next update is made, and the evaluation model follows."""
    run = Hooked(device)
    run()
    before = run.tensors()
    images = run.step.data['inputs'].float()
    images[0] = float('nan')
    run(dict(run.step.data, inputs=images))
    skipped = run.finite.pending[-1].skip.item()
    assert skipped, 'the update was not left out'
    changed = different(run.tensors(), before)
    assert not changed, f'{len(changed)} tensors have changed, {changed[0]} first'
    losses = run()
    assert torch.isfinite(losses['loss']), 'the next loss is not finite'
    after = run.tensors()
    weights = [name for name, value in run.model.named_parameters() if value.requires_grad]
    assert len(different({name: after[name] for name in weights}, {name: before[name] for name in weights})
               ) > 0.9 * len(weights), 'the next update was not made'
    lagging = {f'evaluation.{name}': before[name] for name in before if f'evaluation.{name}' in before}
    wrong = different(after, lagging)
    assert lagging and not wrong, f'the evaluation model is not one update behind: {wrong[:1]}'
    return dict(tensors=len(before))


def the_copy_is_made_or_left(device):
    """With 1 the evaluation model stays to the last bit, with 0 it is set, also as a moving average's."""
    for momentum in (0., 0.9):
        run = Hooked(device, momentum)
        run()
        model = run.model
        lagged, current = model._pairs()
        before = [value.clone() for value in lagged]
        model.sync_evaluation(momentum, torch.ones((), device=device))
        assert all(map(torch.equal, lagged, before)), f'momentum {momentum}: an update that is left out was copied'
        model.sync_evaluation(momentum, torch.zeros((), device=device))
        expected = [momentum * a + (1 - momentum) * b for a, b in zip(before, current, strict=True)]
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) if momentum else torch.equal(a, b)
                   for a, b in zip(lagged, expected, strict=True)), f'momentum {momentum}: not followed'
    return {}


def the_host_waits_for_nothing(device):
    """No operator of a second iteration waits for the GPU, the hooks' included."""
    run = Hooked(device)
    run()
    if device.type == 'cuda':
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')
    try:
        run()
    finally:
        if device.type == 'cuda':
            torch.cuda.set_sync_debug_mode('default')
    return {}


def attention_is_fused(device):
    """The kernels of attention, forth and back; none of them builds a matrix."""
    found = {}
    for precision in ('bf16', 'fp32'):
        recorder = Recorder()
        step = step_of('pretrain/coma-frozen', device, precision)
        with recorder:
            step()
        found[precision] = sorted(name.removeprefix('aten::') for name in recorder.attention())
        assert found[precision], 'no fused attention'
    return found


def dense_features_are_those_of_a_cpu(device):
    """DyViT on whole images, square and not."""
    worst = {}
    for windows in ('default', 'fine', 'eq8'):
        torch.manual_seed(0)
        backbone = MODELS.build(dict(type='DyViT', arch='tiny', windows=windows, out_indices=(0, 1, 2, 3)))
        backbone.init_weights()
        backbone.eval()
        other = copy.deepcopy(backbone).to(device)
        for size in ((224, 224), (200, 264)):
            images = torch.randn(1, 3, *size)
            with torch.no_grad(), no_tf32():
                pairs = list(zip(other(images.to(device)), backbone(images), strict=True))
                worst[f'{windows} {size[0]}x{size[1]}'] = max(
                    ((found.cpu() - expected).norm() / expected.norm()).item() for found, expected in pairs)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
                assert all(out.isfinite().all() for out in other(images.to(device))), f'{windows}: not finite in bf16'
    name = max(worst, key=worst.get)
    assert worst[name] <= 1e-4, f'{name}: differs by {worst[name]:.1e}'
    return dict(largest=worst[name])


def dense_models_train(name, device):
    """Two steps of a segmentor or a detector under autocast."""
    step = step_of(name, device, 'bf16', batch=2)
    weight = next(value for value in step.model.backbone.parameters() if value.requires_grad)
    before = weight.detach().clone()
    losses = [step()['loss'].item() for _ in range(2)]
    assert all(map(torch.isfinite, torch.tensor(losses))), f'losses {losses}'
    assert not torch.equal(weight, before), 'the weights have not changed'
    return dict(losses=losses)


def compiled_losses_are_those_of_eager_mode(mode, device):
    """Three updates of two batches each; on a CPU the graph is traced alone, since compiling takes minutes there."""

    def losses(compiled):
        torch.manual_seed(0)
        model = CoMA(
            backbone=dict(type='DyViT', arch=SMALL, out_indices=(0, 1, 2, 3), out_type='raw'),
            neck=dict(type='MultiScaleFusion', in_channels=SMALL['dims']),
            decoder=dict(type='ViTDecoder', in_channels=128, embed_dims=32, depth=1, num_heads=2),
            head=dict(type='PixelHead'))
        setting = contestants.Setting('tiny', device, 64, 4, 'bf16')
        step = contestants._training_step(model, setting, contestants._masked_data(setting, 32))
        if compiled:
            options = dict(backend='eager') if device.type == 'cpu' else dict(mode=mode)
            compile_training(model, fullgraph=True, **options)
        return [update(model.train_step, [step.data] * 2, step.optim_wrapper)['loss'].item() for _ in range(3)]

    torch._dynamo.reset()
    expected, found = losses(False), losses(True)
    worst = max(map(relative, found, expected))
    assert worst <= 2e-2, f'losses {found} instead of {expected}'
    return dict(largest=worst)


def a_loaded_optimiser_goes_on(device):
    """A second step from a checkpoint's weights and moments is the one without it."""
    step, other = (step_of('pretrain/coma-none', device) for _ in range(2))
    step()
    saved = to_cpu(dict(model=step.model.state_dict(), optimizer=step.optim_wrapper.state_dict()), copy=True)
    other.model.load_state_dict(saved['model'])
    other.optim_wrapper.load_state_dict(saved['optimizer'])
    step()
    other()
    found, expected = other.model.state_dict(), step.model.state_dict()
    largest = max((found[name].float() - expected[name].float()).abs().max().item() for name in expected)
    assert largest <= 1e-5, f'differs by {largest:.1e}'
    return dict(largest=largest, exact=not different(found, expected))


def peak_memory_is_that_counted_by_hand(device):
    """Of a step of a linear layer."""
    layer, images = torch.nn.Linear(256, 1024, device=device), torch.randn(16384, 256, device=device)

    def train():
        layer.zero_grad()
        hidden = layer(images)
        hidden.relu().sum().backward()

    train()
    layer.zero_grad()
    # Both activations and a gradient of the same size; what products take for themselves may come on top.
    found, expected = peak_bytes(train, device), 3 * 16384 * 1024 * 4
    assert expected <= found <= expected + 40 * 2**20, f'{found} bytes, and {expected} by hand'
    return dict(bytes=found, by_hand=expected)


def a_profile_has_the_parts_of_a_step(device):
    """Kernels are found, and belong to the parts of the model that made them."""
    step = step_of('pretrain/coma-frozen', device, 'bf16')
    step()
    parts, _ = profile_step(step, device, repeats=1)
    for part in ('stem', 'stage 1', 'decoder', 'loss'):
        assert min(parts[part]) > 0, f'no time in {part}'
    return {}


def nearest_neighbours_are_those_of_a_cpu(device):
    """k-NN accuracies of random features."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, 64, generator=generator)
    labels = torch.randint(10, (400, ), generator=generator)
    values[torch.arange(400), labels] += 3  # something to find

    def accuracy(on):
        train, test = (Features(values[part].clone().to(on), labels[part].to(on)) for part in (slice(300), slice(300, 400)))
        return knn_accuracy(train, test, 10, ks=(5, 20))

    with no_tf32():
        found, expected = accuracy(device), accuracy(CPU)
    worst = max(abs(found[k][key] - expected[k][key]) for k in expected for key in expected[k])
    assert worst < 1e-3 and 15 < found[5]['top1'] < 100, f'{found} instead of {expected}'
    return dict(top1=found[5]['top1'])


CHECKS = {
    **{f"step of complement='{mode}'": partial(same_step_as_on_a_cpu, mode) for mode in CoMA.COPIES},
    'update left out': an_update_of_nan_is_left_out,
    'copy of the weights': the_copy_is_made_or_left,
    'no wait in a step': the_host_waits_for_nothing,
    'kernels of attention': attention_is_fused,
    'dense features': dense_features_are_those_of_a_cpu,
    'UperNet step': partial(dense_models_train, 'upernet/dyvit'),
    'Mask R-CNN step': partial(dense_models_train, 'mask-rcnn/dyvit'),
    'optimiser after a resume': a_loaded_optimiser_goes_on,
    'peak memory': peak_memory_is_that_counted_by_hand,
    'profile': a_profile_has_the_parts_of_a_step,
    'k-NN': nearest_neighbours_are_those_of_a_cpu,
    'compiled': partial(compiled_losses_are_those_of_eager_mode, 'default'),
    'compiled, reduce-overhead': partial(compiled_losses_are_those_of_eager_mode, 'reduce-overhead'),
}
"""By names for a table."""
