"""Batch normalisation of a single value, which torch refuses: a batch of one image, pooled to one pixel."""
import logging
import re

from mmengine import dist
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import BatchSampler

from .models import unwrap

_REMEDY = ('take train_dataloader.drop_last=True or another batch_size, or a norm that sees one image at a time '
           "(norm_cfg=dict(type='GN', num_groups=32))")


def explain_single_value(error: BaseException) -> str | None:
    """One line for torch's error about one value per channel; None for any other error."""
    said = re.search(r'Expected more than 1 value per channel when training, got input size torch.Size\((.*)\)', str(error))
    if not isinstance(error, ValueError) or not said:
        return None
    return (f'BatchNorm cannot train on one value per channel, and a batch of a single image gave it an input of shape '
            f'({said[1].strip("[]")}): take train_dataloader.batch_size=2 or more for each process; for the last batch of '
            f'an epoch {_REMEDY}')


def warn_of_a_last_single_image(runner: Runner) -> None:
    """Warn at the start of a training that is to fail at the end of its first epoch.

    Args:
        runner (Runner): About to train; its data loader has a last batch in each epoch unless it is endless or dropped.
    """
    loader = runner.train_dataloader
    batches = loader.batch_sampler
    if type(batches) is not BatchSampler or isinstance(loader.sampler, InfiniteSampler) or batches.drop_last:
        return  # of other batch samplers the last batch is not known
    size = batches.batch_size
    if size < 2 or not hasattr(loader.sampler, '__len__') or len(loader.sampler) % size != 1:
        return
    model = unwrap(runner.model)
    model.train()  # which parts of it override
    if name := next((name for name, module in model.named_modules() if _normalises_one_pixel(module)), None):
        print_log(f'{len(loader.sampler)} samples in batches of {size} leave one image for the last batch of an epoch, on '
                  f'which BatchNorm fails in {name}, where an image is pooled to one pixel: {_REMEDY}', logger='current',
                  level=logging.WARNING)


def _normalises_one_pixel(module: nn.Module) -> bool:
    """Whether a module pools images to one pixel and then has batch normalisation over the batch alone."""
    if not isinstance(module, nn.Sequential):
        return False
    pooled = False
    for part in module:
        pooled = pooled or isinstance(part, nn.AdaptiveAvgPool2d) and part.output_size in (1, (1, 1), [1, 1])
        if pooled and any(map(_is_alone, part.modules())):
            return True
    return False


def _is_alone(module: nn.Module) -> bool:
    """Whether a module trains batch normalisation on this process's batch."""
    shared = isinstance(module, nn.SyncBatchNorm) and dist.get_world_size() > 1
    return isinstance(module, _BatchNorm) and module.training and not shared
