"""What is done around every iteration: its seeds, and the mean of its losses over the processes."""
import mmengine.dist as dist
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from coma_mm.datasets.seeding import seed_generators


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Makes what a training step draws (drop path, dropout, mixup, noise) a function of (seed, process, iteration).

    So no generator's state needs saving, and neither validation nor a data loader's start can shift what follows. What a
    validation draws (the noise of mask tokens) is one, too: the same if it is made again.
    """
    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Seed Python's, NumPy's and torch's generators, on all devices."""
        torch.manual_seed(seed_generators(runner.seed, dist.get_rank(), runner.iter))

    def before_val_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Seed them for each batch, since a loader that starts draws a number, too."""
        torch.manual_seed(seed_generators(runner.seed, dist.get_rank(), runner.iter, batch_idx))


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Makes the logged losses those of the whole batch: their mean over the processes, not the first one's own."""
    priority = 'HIGHEST'  # before RuntimeInfoHook notes them

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None,
                         outputs: dict | None = None) -> None:
        """Replace the values in `outputs`, in one exchange."""
        if runner.world_size == 1 or not outputs:
            return
        names = [name for name, value in outputs.items() if isinstance(value, torch.Tensor) and value.numel() == 1]
        values = torch.stack([outputs[name].detach().float().reshape(()) for name in names])
        dist.all_reduce(values, op='mean')
        outputs.update(zip(names, values, strict=True))
