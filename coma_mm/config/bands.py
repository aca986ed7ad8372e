"""The settings `bands` and `moments`: what sees an image, from the loading step to the last layer, follows them."""
import inspect
from collections.abc import Container, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

from coma_mm.config_tree import find_types, type_name, walk
from coma_mm.datasets.bands import Bands, read_moments
from coma_mm.errors import UserError

from .check_keys import variables

LOADERS = ('LoadImageFromFile', 'LoadImage')
"""Steps that read an image; `LoadImage` takes their place."""
PREPROCESSORS = dict(SegDataPreProcessor='BandsSegPreprocessor', DetDataPreprocessor='BandsDetPreprocessor')
"""Of the libraries, which know three channels or one alone, and ours that take their places."""
FLIPS = ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr')


def bands_of(cfg: Config) -> Bands | None:
    """What a config says of its images' bands; None for ordinary images, read as 8-bit colour.

    Without moments a key `bands` that the config's files use as a variable is theirs, and no setting; so is a variable
    `moments` that is none of ours.
    """
    bands, moments = cfg.get('bands'), cfg.get('moments')
    if bands is None and isinstance(moments, dict) and 'bands' not in moments and 'moments' in variables(cfg):
        return None
    if moments is None and (bands is None or 'bands' in variables(cfg)):
        return None
    return Bands.of(bands, moments)


def use_bands(cfg: Config, options: Container[str] = ()) -> None:
    """Have everything follow the settings `bands` and `moments` of a config, in place; without them nothing is done.

    These are: the loading steps, and resizing by Pillow, which knows 8 bits alone; mean, standard deviation and order of
    channels of the data preprocessor; `in_channels` of the backbone, and what a pre-training's decoder predicts. The content
    of the moments' file takes the place of its name, so that a dumped config is whole.

    Args:
        cfg (Config): The config, with all options merged.
        options (Container[str]): The dotted keys that were merged. Defaults to ().

    Raises:
        UserError: If the settings do not fit each other, or the model cannot see such images.
    """
    bands = bands_of(cfg)
    if bands is None:
        if 'bands' in options:
            raise UserError(f'{cfg.filename} uses bands as a variable of its own; give the moments as well, by '
                            '--moments FILE.json')
        return
    if isinstance(cfg.get('moments'), str):
        cfg.moments = read_moments(cfg.moments)
    _follow_steps(cfg, bands)
    model = cfg.get('model') or {}
    _follow_preprocessors(cfg, model, bands)
    _follow_backbone(model, bands)


def _follow_steps(cfg: Config, bands: Bands) -> None:
    known = dict(depth=bands.depth, nodata=bands.nodata)
    reading = dict(bands=bands.chosen, **{key: value for key, value in known.items() if value is not None})
    for key, value in cfg.items():
        for step in walk(value) if key not in ('model', 'bands', 'moments') else ():
            if type_name(step) in LOADERS:
                kept = {key: step[key] for key in ('nodata', 'pages', 'max_nodata') if key in step}
                step.clear()
                step.update(dict(type='LoadImage', **reading) | kept)
            elif type_name(step) == 'LoadRandomResizedCrop':
                step.update(reading | ({'nodata': step['nodata']} if 'nodata' in step else {}))
            elif step.get('backend') == 'pillow':
                step['backend'] = 'cv2'


def _follow_preprocessors(cfg: Config, model: dict[str, Any], bands: Bands) -> None:
    found = list(_preprocessors(cfg, model))
    for one in found:
        name = type_name(one)
        if name in PREPROCESSORS:
            one['type'] = PREPROCESSORS[name]
        for key in FLIPS:
            if one.get(key):
                one[key] = False
        if bands.moments:
            one['mean'], one['std'] = bands.moments['mean'], bands.moments['std']
        elif len(one.get('mean') or ()) != bands.number:
            raise UserError(f'bands={bands.chosen} without moments: the model normalises by the moments of '
                            f'{len(one.get("mean") or ()) or "no"} channels, and these are {bands.number}; measure the '
                            'images, coma-mm check_data folder PATH --moments FILE.json, and set moments=FILE.json')
        if name == 'MaskedImagePreprocessor':
            view = bands.view()
            spread = [(one['mean'][band], 2 * one['std'][band]) for band in view['rgb']]
            one.update(to_rgb=False, view=dict(low=[mean - width for mean, width in spread],
                                               high=[mean + width for mean, width in spread]) | view)


def _preprocessors(cfg: Config, model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configs of data preprocessors, which are made where there is none."""
    found = [one for one in (cfg.get('data_preprocessor'), model.get('data_preprocessor')) if isinstance(one, dict)]
    if not found and model:
        model['data_preprocessor'] = {}
        found = [model['data_preprocessor']]
    masked = type_name(model) in ('MaskedAutoencoder', 'CoMA')
    for one in found:
        if masked and 'type' not in one:
            one['type'] = 'MaskedImagePreprocessor'
        yield one


def _follow_backbone(model: dict[str, Any], bands: Bands) -> None:
    backbone = model.get('backbone')
    if not isinstance(backbone, dict):
        return
    if 'in_channels' in backbone or bands.number != 3:
        kind = backbone.get('type')
        kind = MODELS.get(kind) if isinstance(kind, str) else kind
        if inspect.isclass(kind) and not any('in_channels' in inspect.signature(one.__init__).parameters
                                             for one in kind.__mro__):
            raise UserError(f'bands={bands.chosen}: the backbone {type_name(backbone)} takes no in_channels, so it cannot '
                            f'see {bands.number} bands; take DyViT, or another that does')
        backbone['in_channels'] = bands.number
    for one in find_types(backbone.get('init_cfg'), 'Pretrained'):
        if one.get('in_channels') == 'adapt':
            one['bands'] = bands.names
    decoder = model.get('decoder')
    if isinstance(decoder, dict) and type_name(model) in ('MaskedAutoencoder', 'CoMA') and 'out_channels' in decoder:
        decoder['out_channels'] = bands.number
