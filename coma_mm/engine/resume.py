"""A run that is resumed: which settings of its own it does not use, and how it goes on to another length."""
import warnings
from collections.abc import Iterator
from typing import Any

from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from coma_mm.errors import UserError
from coma_mm.weights.safe_pickle import plain

from .optim.accumulation import wrappers_of

NAMES = dict(initial_lr='lr')
"""Of the entries of an optimiser's groups, in a config."""
PASSED_OVER = {'params', 'param_names', 'foreach', 'fused', 'capturable', 'differentiable', 'base_wd'}
"""Entries of an optimiser's groups that change no result."""
MOVING = {'last_step', '_global_step', '_last_value', 'base_values', 'verbose', 'best', 'num_bad_epochs', 'cooldown_counter'}
"""Entries of a schedule's state that change while it runs."""


class OwnSettings:
    """What a run's config says of optimiser and schedules, before a checkpoint's state is loaded over it.

    Args:
        runner (Runner): With its optimiser and schedules as they are built.
    """

    def __init__(self, runner: Runner):
        self.runner = runner
        self.groups = [{key: value for key, value in group.items() if key != 'params'} for group in self._groups()]
        self.schedules = [plain(one.state_dict()) for one in self._schedulers()]

    def _groups(self) -> list[dict[str, Any]]:
        """The groups of parameters of all optimisers."""
        return [group for one in wrappers_of(self.runner) for group in one.optimizer.param_groups]

    def _schedulers(self) -> list[_ParamScheduler]:
        """The schedules of all optimisers."""
        found = self.runner.param_schedulers or []
        return [one for several in found.values() for one in several] if isinstance(found, dict) else list(found)

    @property
    def _by_epoch(self) -> bool:
        return isinstance(self.runner.train_loop, EpochBasedTrainLoop)

    def check_schedules(self, states: list | dict | None) -> None:
        """Raise a UserError if a checkpoint's schedules are of another number or kind: mmengine mixes the two.

        Args:
            states (list | dict | None): Of the schedules, as the checkpoint has them, if it does.
        """
        if states is None:
            return
        states = [one for several in states.values() for one in several] if isinstance(states, dict) else states
        if len(states) != len(self.schedules) or any(
                set(own) - MOVING - set(there) for own, there in zip(self.schedules, states, strict=True)):
            raise UserError(f'cannot resume with other schedules: the checkpoint has {len(states)}, this config has '
                            f'{len(self.schedules)}, or one is of another type; take the param_scheduler of the run, or '
                            'pass --extend-to N, with which those of this config count')

    def not_used(self) -> Iterator[str]:
        """A line for each setting in whose place the checkpoint's is used, once that is loaded."""
        schedules = self._schedulers()
        said = PASSED_OVER | {one.param_name for one in schedules}
        for own, loaded in zip(self.groups, self._groups(), strict=True):
            for key in sorted(own.keys() & loaded.keys() - said):
                if _plain(own[key]) != _plain(loaded[key]):
                    said.add(key)
                    yield (f'optim_wrapper.optimizer.{NAMES.get(key, key)}={own[key]} is not used: the run goes on with '
                           f'{loaded[key]}, as its checkpoint says')
        for number, (own, loaded) in enumerate(zip(self.schedules, schedules, strict=True)):
            state = loaded.state_dict()
            for key in sorted(own.keys() - MOVING):
                if _plain(state.get(key)) != _plain(own[key]):
                    yield (f'param_scheduler[{number}].{key}={own[key]} is not used: the run goes on with {state.get(key)}, '
                           'as its checkpoint says; to give it another length, pass --extend-to')
        unit, end = ('epoch', self.runner.max_epochs) if self._by_epoch else ('iteration', self.runner.max_iters)
        scale = {True: 1, False: len(self.runner.train_dataloader)} if self._by_epoch else {False: 1}
        ends = [one.end / scale[one.by_epoch] for one in schedules if one.by_epoch in scale]
        if ends and max(ends) < end:
            yield (f'no schedule changes the learning rate after {unit} {max(ends):g}, and the run goes on to {end}: '
                   f'--extend-to {end} gives it the schedules of a run of that length')

    def extend(self) -> None:
        """Put the schedules of this run's config in the place of the loaded ones, where the loaded ones stand.

        They are run from their beginning to that place, so that rates are, to the last bit, those of a run that had this
        length from the start.
        """
        schedules, groups = self._schedulers(), self._groups()
        if any(getattr(one, 'need_val_args', False) for one in schedules):
            raise UserError('--extend-to: a schedule that goes by the results of validations cannot be run again; set the '
                            'new length in the config (epochs=N) and resume without it')
        for one, state in zip(schedules, self.schedules, strict=True):
            one.load_state_dict(state)
        names = {one.param_name for one in schedules}
        for group, own in zip(groups, self.groups, strict=True):
            group.update((key, own[key]) for key in names | {f'initial_{name}' for name in names} if key in own)
        runner, length = self.runner, len(self.runner.train_dataloader)
        # A checkpoint of the last iteration of an epoch may be from before its end.
        ends = {number * length for number in range(1, runner.epoch + 1)} if self._by_epoch else set()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that schedules move without an update
            for done in range(1, runner.iter + 1):
                for one in schedules:
                    if not one.by_epoch or done in ends:
                        one.step()


def _plain(value: Any) -> Any:
    value = plain(value)
    return list(value) if isinstance(value, tuple) else value
