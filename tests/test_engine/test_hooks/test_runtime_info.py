"""Losses are fetched from a GPU when somebody looks, and noted as mmengine notes them."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub

from coma_mm.engine.hooks import LateRuntimeInfoHook, LossSpikeHook


class OnGPU(torch.Tensor):
    """A number that says it is on a GPU, and counts how often it is fetched."""
    fetched = 0
    is_cpu = False

    def item(self):
        OnGPU.fetched += 1
        return super().item()

    def tolist(self):
        OnGPU.fetched += 1
        return super().tolist()


class Loader(list):
    """Batches, of no data set."""
    dataset = None


def noted(hook, kind, name, batches=10, epochs=2, stop_at=None, hooks=()):
    """What a hook notes of some iterations, whose losses are of a kind; and a checkpoint's copy before one of them."""
    hub, copied = MessageHub.get_instance(name), None
    runner = SimpleNamespace(
        message_hub=hub, hooks=[hook, *(hooks or [LoggerHook(interval=4)])],
        train_dataloader=Loader([None] * batches), epoch=0, iter=0, max_epochs=epochs, max_iters=batches * epochs,
        optim_wrapper=SimpleNamespace(get_lr=dict))
    hook.before_train(runner)
    for index in range(batches * epochs):
        runner.iter = index
        if index == stop_at and hasattr(hook, 'before_checkpoint'):
            hook.before_checkpoint(runner)
        if index == stop_at:
            copied = hub.state_dict()['log_scalars']['train/loss'].data[0].tolist()
        losses = dict(loss=torch.tensor(index / 7).as_subclass(kind), plain=index)
        hook.after_train_iter(runner, index % batches, None, losses)
    return {key: buffer.data[0].tolist() for key, buffer in hub.log_scalars.items()}, copied


@pytest.fixture(autouse=True)
def unfetched():
    OnGPU.fetched = 0
    before = dict(MessageHub._instance_dict)
    yield
    MessageHub._instance_dict.clear()
    MessageHub._instance_dict.update(before)


def test_what_is_noted_is_the_same():
    expected = noted(RuntimeInfoHook(), torch.Tensor, 'theirs', stop_at=6)
    assert noted(LateRuntimeInfoHook(), OnGPU, 'late', stop_at=6) == expected
    assert len(expected[0]['train/loss']) == 20 and len(expected[1]) == 6


def test_a_gpu_is_waited_for_when_somebody_looks():
    noted(LateRuntimeInfoHook(), OnGPU, 'few')
    assert OnGPU.fetched == 2 * 3 + 2  # after batches 4, 8 and 10, and after iterations 12 and 16
    OnGPU.fetched = 0
    noted(LateRuntimeInfoHook(), OnGPU, 'more', hooks=[LoggerHook(interval=10), LossSpikeHook(interval=2)])
    assert OnGPU.fetched == 10
    OnGPU.fetched = 0
    noted(RuntimeInfoHook(), OnGPU, 'theirs')
    assert OnGPU.fetched == 20


def test_losses_on_the_cpu_are_noted_at_once():
    hook = LateRuntimeInfoHook()
    noted(hook, torch.Tensor, 'cpu')
    assert hook.pending == []
