"""A validation that a run has not seen the end of is made when it is resumed."""
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Makes up for the validation between a checkpoint and the training that follows it.

    A checkpoint is written before the validation of its epoch, or iteration; a run that is stopped in between, or in it, has
    no result of it, and mmengine's resume goes on behind it: no entry in the curve, no best checkpoint.
    """
    priority = 'LOWEST'  # when everything is ready to train, and signals are heard

    def before_train(self, runner: Runner) -> None:
        """Validate, if it is due where the run is resumed, and the checkpoint does not say that it is done."""
        loop = runner.train_loop
        if not runner._resume or not runner.iter or runner.val_loop is None:
            return
        if runner.message_hub.runtime_info.get('validated') == runner.iter:
            return
        done, end = runner.iter, runner.max_iters
        if isinstance(loop, EpochBasedTrainLoop):
            done, end = runner.epoch, runner.max_epochs
            if runner.iter != done * len(runner.train_dataloader):  # amid an epoch, whose end is yet to come
                return
        loop._decide_current_val_interval()
        if done and done >= loop.val_begin and (done % loop.val_interval == 0 or done == end):
            runner.logger.info(f'The validation after {runner.iter} iterations comes first: the checkpoint was before it')
            runner.val_loop.run()
