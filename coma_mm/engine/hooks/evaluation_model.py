from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from coma_mm.engine.models import unwrap
from coma_mm.engine.optim.accumulation import batches_of
from coma_mm.errors import UserError


@HOOKS.register_module()
class EvaluationModelHook(Hook):
    """Ties CoMA's evaluation model to the optimiser, one update behind (Eq. 4); see `CoMA.follow`.

    A momentum that changes over the run is a function of the iteration alone, the same after a resume.

    Args:
        interval (int): The complementary branch is computed in iterations 0, interval, 2·interval, … of the run, and
            left out of the loss in the others. With `accumulative_counts='auto'` iterations are updates; with a
            number they are batches, of which several make an update. The logged loss is a mean over iterations of both
            kinds, so compare runs by 'mse_adaptive'; 'mse_evaluation' is logged from the iterations that have it.
            Defaults to 1: in all of them (the paper). More than that is meant for 'frozen', which learns the same to the
            last bit; a warning says so where the branch teaches.

    Raises:
        UserError: `interval` is no positive integer, or the model is not CoMA.
    """

    def __init__(self, interval: int = 1):
        if not isinstance(interval, int) or interval < 1:
            raise UserError(f'EvaluationModelHook: interval={interval!r}: expected a number of iterations, 1 or more')
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Start equal in a new run (also one that loaded other weights), and follow."""
        model = unwrap(runner.model)
        if not hasattr(model, 'follow'):
            raise UserError(f'EvaluationModelHook is for CoMA, the model is {type(model).__name__}: leave the hook out of '
                            "custom_hooks (or take CoMA with complement='none')")
        if self.interval > 1 and model.complement not in ('frozen', 'none'):
            runner.logger.warning(
                f'EvaluationModelHook: complement={model.complement!r} teaches in one of {self.interval} iterations only; '
                'to have it teach in all of them set the interval of this hook, in custom_hooks, to 1')
        if runner.iter == 0:
            model.sync_evaluation()
        model.follow(runner.optim_wrapper.optimizer, getattr(runner.optim_wrapper, 'cast_dtype', None))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | list | None = None) -> None:
        """Say how far the run is, and leave the complementary branch out of the iteration's loss or not, both by the
        iteration's number alone: the same after a resume."""
        model = unwrap(runner.model)
        if getattr(model, 'end_momentum', None) != getattr(model, 'momentum', None):
            model.progress = runner.iter / runner.max_iters
        if self.interval > 1:
            for batch in batches_of(data_batch):
                batch['both_branches'] = runner.iter % self.interval == 0
