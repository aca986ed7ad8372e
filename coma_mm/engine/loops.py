"""Training loops that a stopped run re-enters where it was."""
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop


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
