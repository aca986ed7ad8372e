from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from coma_mm.errors import UserError

from .hooks import unwrap


@HOOKS.register_module()
class EvaluationModelHook(Hook):
    """Ties CoMA's evaluation model to the optimiser, one update behind (Eq. 4); see ``CoMA.follow``."""

    def before_train(self, runner) -> None:
        """Start equal in a new run (also one that loaded other weights), and follow."""
        model = unwrap(runner.model)
        if not hasattr(model, 'follow'):
            raise UserError(f'EvaluationModelHook is for CoMA, the model is {type(model).__name__}: leave the hook out of '
                            "custom_hooks (or take CoMA with complement='none')")
        if runner.iter == 0:
            model.sync_evaluation()
        model.follow(runner.optim_wrapper.optimizer)
