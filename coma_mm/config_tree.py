"""Walking the tree of nested dicts and lists that a config is."""
from collections.abc import Iterator
from typing import Any


def type_name(cfg: Any) -> str:
    """The class name in a config's `type`, which may be a class or a name with a scope."""
    kind = cfg.get('type', '') if isinstance(cfg, dict) else type(cfg)
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def walk(cfg: Any) -> Iterator[dict]:
    """All dicts in nested dicts and lists, depth first, each before those that are in it."""
    if isinstance(cfg, dict):
        yield cfg
        cfg = list(cfg.values())
    for value in cfg if isinstance(cfg, (list, tuple)) else ():
        yield from walk(value)


def find_types(cfg: Any, name: str) -> Iterator[dict]:
    """The configs of a class in nested dicts and lists, depth first."""
    return (one for one in walk(cfg) if type_name(one) == name)


def find_key(cfg: Any, key: str) -> Any:
    """The first value of a key in nested dicts and lists, depth first, or None."""
    return next((one[key] for one in walk(cfg) if one.get(key) is not None), None)


def data_sets(cfg: Any) -> Iterator[dict]:
    """The configs of the data sets inside a data loader's or a wrapper's."""
    if isinstance(cfg, dict):
        inner = cfg.get('dataset', cfg.get('datasets'))
        if inner is None:
            yield cfg
        cfg = [inner]
    for one in cfg if isinstance(cfg, (list, tuple)) else ():
        yield from data_sets(one)
