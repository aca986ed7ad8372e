"""Numbers and times of runs in words, for terminals and pages."""
from typing import Any

from coma_mm.errors import printable
from coma_mm.progress import duration

from .overview import Overview

NOTHING = '–'
SHORT = {'reconstruction/masked': 'error, masked', 'accuracy/top1': 'top-1', 'coco/segm_mAP': 'mask AP',
         'coco/bbox_mAP': 'box AP'}
"""What people call a metric that the libraries name otherwise."""


def metric_name(name: str | None) -> str:
    """What people call a metric."""
    return SHORT.get(name, printable(name or NOTHING))


def number(value: float | None) -> str:
    """Four digits of it."""
    return NOTHING if value is None else f'{value:.4g}'


def point(value: tuple[float, float] | None) -> str:
    """A value of a metric, and after how many epochs or iterations."""
    return NOTHING if value is None else f'{value[1]:.4g} @ {value[0]:.6g}'


def time(seconds: float | None) -> str:
    """A length of time in words."""
    return NOTHING if seconds is None else duration(seconds)


def hours(run: Overview) -> str:
    """How long a run has taken."""
    return time(run.hours and run.hours * 3600)


def progress(run: Overview) -> str:
    """'3.5 of 20 epochs'."""
    if run.done is None:
        return NOTHING
    done = f'{run.done:.1f}'.removesuffix('.0')
    unit = 'ep.' if run.unit == 'epoch' else 'it.'
    return f'{done} of {run.total} {unit}' if run.total else f'{done} {unit}'


def ended(run: Overview) -> str:
    """Which run ended before its time, and why."""
    return f'{run.name}{"" if run.why.startswith(run.state) else f" {run.state}"}: {run.why}'


def setting(value: Any, limit: int = 60) -> str:
    """The value of a setting in a line; what is longer keeps its ends, and a path its last part."""
    text = NOTHING if value is None else printable(value if isinstance(value, str) else repr(value))
    if len(text) > limit and isinstance(value, str) and '/' in value:
        return f'…{text[1 - limit:]}'
    return text if len(text) <= limit else f'{text[:limit // 2 - 1]} … {text[-limit // 2 + 2:]}'
