"""Masked image modelling with CoMA and DyViT, and dense prediction with the result, on OpenMMLab.

Importing the package makes the OpenMMLab libraries importable without compiled operators (`coma_mm.compat`) and
registers everything in mmpretrain's, mmsegmentation's and mmdetection's registries.
"""
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from coma_mm import program
from coma_mm.version import __version__

VERBS = ('Run', 'features', 'finetune', 'list_models', 'load', 'load_backbone', 'pretrain', 'reconstruct', 'timm_backbone',
         'train')
"""What `coma_mm.api` offers, which is imported when one of them is asked for."""
__all__ = ['__version__', 'register', *VERBS]


def register() -> None:
    """Make the libraries importable and register everything in their registries; calling it again changes nothing."""
    with program.collect_no_garbage():
        from coma_mm.compat import install
        install()
        from coma_mm import datasets, engine, evaluation, models  # noqa: F401


def __getattr__(name: str) -> Any:
    if name not in VERBS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    register()
    from coma_mm import api
    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *VERBS]


def _is_command() -> bool:
    """Whether this program is `coma-mm` or one of tools/*.py.

    These answer `--help` at once, which they could not if importing the package took seconds; they register when they
    have read their command line.
    """
    program = Path((getattr(sys, 'argv', None) or [''])[0])
    ours = program.name in ('coma-mm', '-m') or program.resolve().parent == (Path(__file__).parent / '.mim/tools').resolve()
    return ours and multiprocessing.parent_process() is None  # a process that such a program spawned is none


if _is_command():
    program.start()
else:
    register()
