"""The lines that training logs: how many images it takes in a second, and whether it waits for them."""
import re
from typing import Any

from mmengine.registry import LOG_PROCESSORS
from mmengine.runner import LogProcessor, Runner


@LOG_PROCESSORS.register_module()
class ThroughputLogProcessor(LogProcessor):
    """mmengine's `LogProcessor`, with images per second and the share of the time that training waits for its data.

    Both are of the last `window_size` iterations and of all processes. They take the place of `time` and `data_time` in the
    line, and are `images_per_s` and `data_share`, of 0 to 1, beside these in `scalars.json` and the other visualisation
    backends. `ComaRunner` takes it wherever a config says `LogProcessor`, or no type.

    Args:
        **kwargs: Arguments of mmengine's `LogProcessor`.
    """

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        """Add the two to what mmengine logs of an iteration; arguments as mmengine's."""
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        line = re.sub(r'base_lr: (\S+) (?=lr: \1 )', '', line)
        times = [runner.message_hub.log_scalars.get(f'train/{name}') for name in ('time', 'data_time')]
        if mode != 'train' or None in times or not hasattr(runner, 'images_per_update'):
            return tag, line
        iterations = min(self.window_size, *(len(one.data[0]) for one in times))
        seconds, waited = (one.mean(iterations) for one in times)
        rate, share = images(runner, iterations) / (iterations * max(seconds, 1e-9)), waited / max(seconds, 1e-9)
        prefix = 'train/' if self.log_with_hierarchy else ''
        tag.update({f'{prefix}images_per_s': rate, f'{prefix}data_share': share})
        rate = f'{rate:.0f}' if rate >= 10 else f'{rate:.2g}'
        return tag, re.sub(r'(?<= )time: \S+  data_time: \S+', f'{rate} images/s  data {share:.0%}', line)

    def _collect_non_scalars(self, runner: Runner, mode: str) -> dict[str, Any]:
        """Without what has a name that merely begins like the mode, as 'validated'."""
        return {key: value for key, value in super()._collect_non_scalars(runner, mode).items()
                if key.startswith(f'{mode}/') or f'{mode}/{key}' in runner.message_hub.runtime_info}


def images(runner: Runner, iterations: int) -> int:
    """How many images all processes have trained on in the last iterations, the current one included.

    Args:
        runner (ComaRunner): Of the run.
        iterations (int): How many.

    Returns:
        int: Their images; the last iteration of an epoch may have fewer than the others.
    """
    loader = runner.train_dataloader
    whole = runner.images_per_update // runner.iterations_per_update
    try:
        length, samples = len(loader), len(loader.sampler) * runner.world_size
    except TypeError:  # a sampler that has no end
        return iterations * whole
    done = runner.iter + 1
    ends = done // length - (done - iterations) // length
    return iterations * whole - ends * max(0, length * whole - samples)
