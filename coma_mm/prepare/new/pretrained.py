"""What the weights to start from are of, by the config that a run leaves beside its checkpoints."""
import ast
import os
from pathlib import Path
from typing import Any

from coma_mm.errors import UserError

from .draft import literal

OF_THE_RUN = {'_scope_', 'drop_path_rate', 'frozen_stages', 'init_cfg', 'mask_before_stem', 'out_indices', 'out_type',
              'type'}
"""Settings of a backbone that its weights are not for."""


def backbone_of(checkpoint: str) -> dict[str, Any]:
    """The settings of a checkpoint's backbone, from the config beside it, which is read and not run.

    Args:
        checkpoint (str): The file.

    Returns:
        dict: Its arch, patch_size and so on; empty where there is no such config, or it is of another backbone.
    """
    folder = Path(os.path.expanduser(checkpoint)).absolute().parent
    for path in sorted(folder.glob('*.py')):
        try:
            tree = ast.parse(path.read_text())
            model = next(one.value for one in tree.body if isinstance(one, ast.Assign) and one.targets[0].id == 'model')
            backbone = _keywords(_keywords(model)['backbone'])
            found = {key: ast.literal_eval(value) for key, value in backbone.items() if key != 'init_cfg'}
        except (OSError, ValueError, SyntaxError, StopIteration, KeyError, AttributeError, RecursionError):
            continue
        if str(found.get('type')).endswith('DyViT'):
            return of_the_weights(found)
    return {}


def of_the_weights(backbone: dict[str, Any]) -> dict[str, Any]:
    """Those settings of a backbone's config that its weights are for."""
    return {key: value for key, value in backbone.items() if key not in OF_THE_RUN}


def _keywords(call: ast.expr) -> dict[str, ast.expr]:
    """The arguments of `dict(...)`."""
    return {one.arg: one.value for one in call.keywords}


def check_arch(arch: str | None, own: dict[str, Any], checkpoint: str | None) -> str:
    """The arch of a backbone that may start from a checkpoint.

    Args:
        arch (str, optional): As it was asked for.
        own (dict): What `backbone_of` found.
        checkpoint (str, optional): The file.

    Returns:
        str: The one that was asked for, or that of the checkpoint, or 'small'.

    Raises:
        UserError: If the checkpoint is of another.
    """
    theirs = own.get('arch')
    if not isinstance(theirs, str):
        return arch or 'small'
    if arch not in (None, theirs):
        raise UserError(f'--arch {arch}: the weights in {checkpoint} are of DyViT-{theirs}; give --arch {theirs}, or other '
                        'weights')
    return theirs


def backbone_settings(own: dict[str, Any], patch: int, pretrained: str | None, has_init: bool = True) -> list[str]:
    """The arguments of the backbone in a config for fine-tuning.

    Args:
        own (dict): What `backbone_of` found.
        patch (int): Its patch in px.
        pretrained (str, optional): The checkpoint; the config has a variable of this name.
        has_init (bool): Whether the config's base starts from a checkpoint. Defaults to True.

    Returns:
        list[str]: Each 'key=value'.
    """
    settings = {'patch_size': patch, **{key: value for key, value in own.items() if key != 'arch'}}
    if settings['patch_size'] == 32:
        del settings['patch_size']
    found = [f'{key}={literal(value)}' for key, value in settings.items()]
    if pretrained:
        return [*found, "init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')"]
    scratch = "init_cfg=dict(_delete_=True, type='Xavier', layer='Linear', distribution='uniform')"
    return [*found, scratch] if has_init else found


def loading(arch: str, batch: int) -> str:
    """Arguments of the loader of training: for the machine at hand, not for the eight GPUs that the base is for."""
    return f'batch_size={batch}, ' + ('' if arch == 'tiny' else "num_workers='auto', ")


def layer_decay(arch: str, pretrained: str | None) -> str:
    """An argument of the optimiser's wrapper for a backbone that starts from scratch: all of its layers learn alike."""
    return '' if pretrained or arch == 'tiny' else 'paramwise_cfg=dict(layer_decay_rate=1.),\n    '
