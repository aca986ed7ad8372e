"""Walking the tree of nested dicts and lists that a config is."""
from collections.abc import Iterator
from typing import Any


def type_name(cfg: Any) -> str:
    """The class name in a config's `type`, which may be a class or a name with a scope."""
    kind = cfg.get('type', '') if isinstance(cfg, dict) else type(cfg)
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


def find_types(cfg: Any, name: str) -> Iterator[dict]:
    """The configs of a class in nested dicts and lists, depth first."""
    if isinstance(cfg, dict):
        if type_name(cfg) == name:
            yield cfg
        cfg = cfg.values()
    elif not isinstance(cfg, (list, tuple)):
        return
    for value in cfg:
        yield from find_types(value, name)


def find_key(cfg: Any, key: str) -> Any:
    """The first value of a key in nested dicts and lists, depth first, or None."""
    if isinstance(cfg, dict):
        if key in cfg:
            return cfg[key]
        cfg = cfg.values()
    elif not isinstance(cfg, (list, tuple)):
        return None
    return next((found for value in cfg if (found := find_key(value, key)) is not None), None)


def data_sets(cfg: Any) -> Iterator[dict]:
    """The configs of the data sets inside a data loader's or a wrapper's."""
    if isinstance(cfg, dict):
        inner = cfg.get('dataset', cfg.get('datasets'))
        if inner is None:
            yield cfg
        cfg = [inner]
    for one in cfg if isinstance(cfg, (list, tuple)) else ():
        yield from data_sets(one)
