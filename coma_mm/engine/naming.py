"""What mmengine builds and reads is noted on the errors that pass through it, for `explain` to name."""
import functools
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

NO_ARGUMENTS = ('type', '_scope_', 'convert_to_iter_based', 'epoch_length')
"""Keys of a config that tell mmengine what to build and how; the last two are of schedules."""
BUILT_BEFORE = ('dataset', 'sampler', 'batch_sampler')
"""Keys of a data loader's config that mmengine builds before the loader."""


@dataclass(frozen=True)
class Building:
    """What was being built.

    Attributes:
        built (Callable, optional): The class or function; None if there is none of the name in the config.
        settings (Mapping): Its arguments.
        registry (Registry, optional): Where it was looked up.
    """
    built: Callable | None
    settings: Mapping[str, Any]
    registry: Registry | None = None


@dataclass(frozen=True)
class Reading:
    """Which data set was being prepared.

    Attributes:
        dataset (BaseDataset): The data set.
        listed (bool): Whether it had read its list of samples, so that it failed later.
    """
    dataset: BaseDataset
    listed: bool


def install() -> None:
    """Have errors noted in mmengine's and mmdetection's methods that build and read; once is as good as twice."""
    _wrap(Registry, 'build', _note_object)
    _wrap(Runner, 'build_dataloader', _note_loader)
    _wrap(BaseDataset, 'full_init', _note_data_set)
    _install_for_detection()


def _install_for_detection() -> None:
    """Wrap mmdetection's method, which does not call mmengine's, once somebody has imported it: that takes a second."""
    module = sys.modules.get('mmdet.datasets.base_det_dataset')
    if kind := getattr(module, 'BaseDetDataset', None):
        _wrap(kind, 'full_init', _note_data_set)


def buildings(error: BaseException) -> list[Building]:
    """What was being built when an error was raised, the innermost first."""
    return getattr(error, 'coma_mm_buildings', [])


def reading(error: BaseException) -> Reading | None:
    """Which data set was being prepared when an error was raised, the innermost one if it is part of another."""
    return getattr(error, 'coma_mm_reading', None)


def _wrap(owner: type, name: str, wrapper: Callable[[Callable], Callable]) -> None:
    method = getattr(owner, name)
    if not hasattr(method, 'notes_errors'):
        wrapped = functools.wraps(method)(wrapper(method))
        wrapped.notes_errors = True
        setattr(owner, name, staticmethod(wrapped) if isinstance(vars(owner)[name], staticmethod) else wrapped)


def _note_object(build: Callable) -> Callable:
    def noting(self: Registry, cfg: Mapping, *args: Any, **kwargs: Any) -> Any:
        if self.name == 'dataset':
            _install_for_detection()
        try:
            return build(self, cfg, *args, **kwargs)
        except Exception as error:
            with suppress(Exception):  # where the config is none, what is built around it is noted alone
                _note(error, _building(self, cfg, *args, **kwargs))
            raise

    return noting


def _building(registry: Registry, cfg: Mapping, default_args: Mapping | None = None, **_: Any) -> Building:
    settings = {**cfg, **(default_args or {}), **cfg}  # in mmengine's order
    with registry.switch_scope_and_registry(settings.get('_scope_')) as own:
        kind = settings['type']
        built = own.get(kind) if isinstance(kind, str) else kind if callable(kind) else None
    return Building(built, _without(settings, NO_ARGUMENTS), own)


def _note_loader(build: Callable) -> Callable:
    def noting(dataloader: DataLoader | Mapping, *args: Any, **kwargs: Any) -> DataLoader:
        try:
            return build(dataloader, *args, **kwargs)
        except Exception as error:
            if isinstance(dataloader, Mapping):
                _note(error, Building(DataLoader, _without(dataloader, BUILT_BEFORE)))
            raise

    return noting


def _note(error: BaseException, building: Building) -> None:
    error.coma_mm_buildings = [*buildings(error), building]


def _note_data_set(full_init: Callable) -> Callable:
    def noting(self: BaseDataset) -> None:
        unread = getattr(self, 'data_list', None)
        try:
            full_init(self)
        except Exception as error:
            if reading(error) is None:
                error.coma_mm_reading = Reading(self, getattr(self, 'data_list', None) is not unread)
            raise

    return noting


def _without(settings: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in keys}
