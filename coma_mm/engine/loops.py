"""A training loop that a stopped run re-enters where it was, and validation in the precision of training."""
import torch
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, ValLoop

from .optim.autocast import AutocastOptimWrapper


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's `EpochBasedTrainLoop`, where an epoch that was interrupted goes on with its next batch.

    The batches that were seen are not loaded again if the sampler can skip them, by the contract of mmengine's own
    `InfiniteSampler.skip`; else they are loaded and dropped. (`IterBasedTrainLoop` of mmengine does this itself.)
    """

    def run_epoch(self) -> None:
        """Run what is left of an epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        skippable = hasattr(self.dataloader.sampler, 'skip') and self.dataloader.batch_size
        if done and skippable:
            self.dataloader.sampler.skip(done * self.dataloader.batch_size)
        for idx, data_batch in enumerate(self.dataloader, start=done if skippable else 0):
            if idx >= done:
                self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@LOOPS.register_module()
class TrainingPrecisionValLoop(ValLoop):
    """mmengine's `ValLoop`, whose forward passes are under the autocast of training, if there is one, and in its dtype.

    `ComaRunner` takes it for pre-training wherever `val_cfg` names neither another loop nor `fp16`: what is measured is then
    what training computes, in its time. Metrics and hooks are outside of autocast, as in training.
    """

    def run(self) -> dict:
        """Validate; the parent's `fp16` is autocast in whatever is its dtype at the time."""
        wrapper = self.runner.optim_wrapper
        self.fp16 = isinstance(wrapper, (AutocastOptimWrapper, AmpOptimWrapper))
        device = next(self.runner.model.parameters()).device.type
        default = torch.get_autocast_dtype(device)
        torch.set_autocast_dtype(device, self.fp16 and wrapper.cast_dtype or default)
        try:
            return super().run()
        finally:
            torch.set_autocast_dtype(device, default)
