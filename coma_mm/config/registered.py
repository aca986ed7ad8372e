"""Configs that came with a foreign file: their types are looked up, never imported, and checked before anything is built."""
import inspect
import re
from collections.abc import Callable, Collection
from typing import Any

from mmengine.registry import MODELS, TASK_UTILS, Registry
from mmpretrain.registry import BATCH_AUGMENTS

from coma_mm.errors import UserError, printable

PATHS = re.compile(
    r'(.*_)?(paths?|files?|ckpt|checkpoint|pretrained|config|url|root|dir|folder|model_name|name_or_path|tokenizer|tokenizer_name|model_style)|'
    r'class_weights?|(im)?decode_backend|(backend|file_client)_args|custom_imports|_base_|_delete_')
"""Keys that stand for a file, an address, a way to read one, or code, unless they hold a number or nothing."""
WORDS = re.compile(r'[\w +-]*')
"""Text that can be none of them."""
OPERATORS = ('nms', 'soft_nms', 'RoIAlign', 'RoIPool')
"""What a type of mmdetection may name beside the registries: operators of mmcv, which looks them up by itself."""
FETCHING = ('mmpretrain.models.multimodal.', 'mmdet.models.language_models.')
"""Where classes are that fetch a language model by a name, whatever their argument is called."""


def registered(name: str, registry: Registry, scope: str | None = None) -> Any:
    """What a registry holds under a name.

    `Registry.get` would import a module of any name that it does not know, and the library of any scope.

    Args:
        name (str): Of a class, perhaps with a library before it: 'mmdet.MaskRCNN'.
        registry (Registry): Of any library.
        scope (str, optional): The library whose classes go before mmengine's. Defaults to the registry's own.

    Returns:
        type | Callable | None: What it is, or None; from mmengine's table and that of the library, no other's.
    """
    root = registry._get_root_registry()
    tables = {child: one.module_dict for child, one in root.children.items()} | {root.scope: root.module_dict}
    library, _, name = name.rpartition('.')
    if library:
        return tables.get(library, {}).get(name)
    return tables.get(scope or registry.scope, {}).get(name) or root.module_dict.get(name)


def parameters(built: Callable) -> set[str]:
    """The arguments of a class, its parents' included, as far as it passes others on."""
    names = set()
    for one in getattr(built, '__mro__', [built]):
        try:
            found = inspect.signature(one.__init__ if inspect.isclass(one) else one).parameters
        except (TypeError, ValueError):
            continue
        kinds = {key: value.kind for key, value in found.items()}
        rest = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names |= {key for key, kind in kinds.items() if kind not in rest}
        if inspect.Parameter.VAR_KEYWORD not in kinds.values():
            break
    return names - {'self'}


def check_registered(cfg: Any, where: str, scope: str,
                     registries: Collection[Registry] = (MODELS, TASK_UTILS, BATCH_AUGMENTS),
                     only: Collection[str] | None = None, paths: Collection[str] = ()) -> Any:
    """Check a config that came with a foreign file, a checkpoint say, so that building it runs the libraries' classes alone.

    The libraries import what a `type` names if they do not know it, load files that an argument names, and evaluate some
    texts as Python. So every `type`, at any depth, must be a class in the tables of the registries, whose library has been
    registered before; every other text must be a word, and a key that stands for a file, an address or code must have none.

    Args:
        cfg (dict): Dicts, lists, numbers and texts.
        where (str): What it is, for the message: 'model'.
        scope (str): The library that it is for: its `default_scope`.
        registries (Collection[Registry]): In which its types may be. Defaults to those of what is in models.
        only (Collection[str], optional): The names of types that there may be. Defaults to all in the registries.
        paths (Collection[str]): Keys that may hold paths on the local disk. Defaults to none.

    Returns:
        dict: A copy without `init_cfg`, whose weights come from a checkpoint.

    Raises:
        UserError: Naming the first type or value that there may not be, and its place.
    """
    libraries = {registry._get_root_registry().scope for registry in registries}.union(
        *(registry._get_root_registry().children for registry in registries))

    def refuse(place: str, what: str) -> UserError:
        return UserError(printable(f'{place}: {what[:200]}; a config that came with a file is not built from it'))

    def copy(value: Any, place: str, scope: str, key: str) -> Any:
        if PATHS.fullmatch(key) and key not in paths and (value is True or isinstance(value, (str, dict))):
            raise refuse(place, f'{value!r}, which may stand for a file, an address or code')
        if isinstance(value, dict):
            if not all(isinstance(name, str) for name in value):
                raise refuse(place, 'a key that is no text')
            scope = known_scope(value.get('_scope_', scope), place)
            return {name: copy(one, f'{place}.{name}', scope, name) for name, one in value.items()
                    if name not in ('init_cfg', 'type')} | typed(value, place, scope)
        if isinstance(value, (list, tuple)):
            return type(value)([copy(one, f'{place}.{number}', scope, key) for number, one in enumerate(value)])
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if not isinstance(value, str):
            raise refuse(place, f'{type(value).__name__}, which is no plain value')
        if not (WORDS.fullmatch(value) or key in paths and not re.match(r'\w\w+:', value)):
            raise refuse(place, f'{value!r}, which may stand for a file, an address or code')
        return value

    def known_scope(name: Any, place: str) -> str:
        if not isinstance(name, str) or name not in libraries:
            raise refuse(place, f'the library {name!r} is none of {", ".join(sorted(libraries))}')
        return name

    def is_harmless(found: Any) -> bool:
        return inspect.isclass(found) and not found.__module__.startswith(FETCHING)

    def typed(value: dict, place: str, scope: str) -> dict:
        if 'type' not in value:
            return {}
        name = value['type']
        found = isinstance(name, str) and any(is_harmless(registered(name, one, scope)) for one in registries)
        if not (found or name in OPERATORS) or only is not None and name.rpartition('.')[2] not in only:
            raise refuse(f'{place}.type', f'{name!r} is no class of the libraries that may be built here')
        return {'type': name}

    try:
        return copy(cfg, where, known_scope(scope, 'default_scope'), '')
    except RecursionError as error:
        raise refuse(where, 'nested too deeply') from error
