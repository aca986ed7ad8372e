"""Noting a run's losses without a wait for the GPU in every iteration."""
import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from .loss_spike import LossSpikeHook


@HOOKS.register_module()
class LateRuntimeInfoHook(RuntimeInfoHook):
    """mmengine's hook, which notes the losses of every iteration, but fetches them from a GPU only when somebody looks.

    The parent fetches each loss as it comes, and so waits for the end of the step: until the next one is launched the GPU
    has nothing to do. What is noted is the same, and so is the checkpoint's copy of it. Losses on the CPU are noted at once.
    """

    def __init__(self):
        self.pending = []  # outputs of iterations with values on a GPU
        self.intervals = []  # of those who look

    def before_train(self, runner: Runner) -> None:
        """Find out when losses are looked at."""
        super().before_train(runner)
        self.intervals = [hook.interval for hook in runner.hooks if isinstance(hook, (LoggerHook, LossSpikeHook))]

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                         outputs: dict | None = None) -> None:
        """Note the losses, or keep them for later."""
        on_gpu = any(isinstance(value, torch.Tensor) and not value.is_cpu for value in (outputs or {}).values())
        if not (on_gpu or self.pending):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)
            return
        self.pending.append({name: value.detach() if isinstance(value, torch.Tensor) else value
                             for name, value in (outputs or {}).items()})
        looks = (self.every_n_inner_iters(batch_idx, n) or self.every_n_train_iters(runner, n) for n in self.intervals)
        if any(looks) or self.end_of_epoch(runner.train_dataloader, batch_idx) or self.is_last_train_iter(runner):
            self.before_checkpoint(runner)

    def before_checkpoint(self, runner: Runner) -> None:
        """Fetch what is pending, in one go."""
        tensors = [value for outputs in self.pending for value in outputs.values() if isinstance(value, torch.Tensor)]
        if not tensors:
            return
        fetched = iter(torch.stack([tensor.double().reshape(()) for tensor in tensors]).tolist())
        for outputs in self.pending:
            for name, value in outputs.items():
                runner.message_hub.update_scalar(
                    f'train/{name}', next(fetched) if isinstance(value, torch.Tensor) else value)
        self.pending = []
