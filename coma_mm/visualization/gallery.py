"""Looking inside a model on images of one's own: a PNG per image, and gallery.html with all of them."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config

from coma_mm.config.bands import bands_of
from coma_mm.config.read import read_config
from coma_mm.config_tree import find_types
from coma_mm.datasets.bands import picture as seen
from coma_mm.datasets.masking import draw_masks
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError
from coma_mm.models import MaskedAutoencoder
from coma_mm.progress import track
from coma_mm.weights import load_backbone

from .attention import (
    FEATURES_CAPTION,
    attention_caption,
    attention_figure,
    attention_maps,
    feature_maps,
    features_figure,
    patch_size,
)
from .loading import find_images, image_size, load_model, prepare, read_fitted
from .reconstruction import ratios_figure, reconstruction_caption
from .report import Picture, Section, write_report


def draw_reconstructions(config: str, checkpoint: str, images: Sequence[str], out: str | None = None,
                         size: int | None = None, ratios: Sequence[float] = (.4, .6, .75, .9),
                         own_statistics: bool = True, seed: int = 0, cfg_options: dict[str, Any] | None = None,
                         rgb: Sequence[int | str] | None = None) -> str:
    """Draw what a pre-trained model reconstructs of images, at several masking ratios.

    Args:
        config (str): The pre-training's config file.
        checkpoint (str): Its checkpoint.
        images (Sequence[str]): Files, or folders of them.
        out (str, optional): Folder of the pictures. Defaults to work_dirs/<name of the config>/reconstruct.
        size (int, optional): Short side in px. Defaults to that of the config's validation.
        ratios (Sequence[float]): Shares of patches masked, in (0, 1). Defaults to (0.4, 0.6, 0.75, 0.9).
        own_statistics (bool): See `reconstruction_panels`. Defaults to True.
        seed (int): Of the masks. Defaults to 0.
        cfg_options (dict, optional): Dotted keys and their values, which replace those of the config.
        rgb (Sequence[int | str], optional): Of a model of other bands the three to look at, see `Bands.rgb`.

    Returns:
        str: What was written, in words.

    Raises:
        UserError: If the config is none of masked pre-training, or the checkpoint or an image cannot be read.
    """
    if seed < 0:
        raise UserError(f'--seed {seed}: expected 0 or more')
    cfg = read_config(config, cfg_options)
    if view := _view(cfg, rgb):
        cfg.model.data_preprocessor.view = view
    step = next(find_types(cfg.get('val_dataloader') or cfg.get('train_dataloader'), 'PatchMask'), None)
    if step is None:
        raise UserError(f'{config} is no config of masked pre-training: there is no PatchMask in its pipelines; '
                        'windows and attention work with it')
    model = load_model(cfg, checkpoint)
    if not isinstance(model, MaskedAutoencoder):
        raise UserError(f'{config}: the model is a {type(model).__name__}; expected CoMA or MaskedAutoencoder')
    sampler = step.get('sampler') or dict(type='UniformMaskSampler')
    patch = step.get('patch_size', 32)
    unit = step.get('unit') or patch
    figures = []
    for index, (path, image) in enumerate(track(_read(images, cfg, size, unit), 'Drawing')):
        masks = {}
        for share in sorted(set(ratios)):  # the sample, and so the random numbers, are the same for all of them
            drawn = draw_masks(image.shape[:2], [(seed, 0, index)], dict(sampler, ratio=share), patch, unit)
            masks[share] = tuple(ids[0] for ids in drawn)
        inputs = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        figure = ratios_figure(model, inputs, masks, own_statistics)
        figures.append((path, [('', figure, 'Rows of pictures, one per masking ratio: what each branch saw and '
                                'reconstructed, and where it erred', '')]))
    caption = (reconstruction_caption(model, own_statistics) + ' The error is the difference to the input in grey levels of '
               '0 to 255, mean of the channels; one colour scale per image.')
    return _write(_folder(out, config, 'reconstruct'), 'Reconstructions', caption, figures, config, checkpoint)


def draw_attention(config: str, checkpoint: str, images: Sequence[str], out: str | None = None, size: int | None = None,
                   at: Sequence[tuple[float, float]] = ((.3, .3), (.5, .5), (.7, .7)), per_head: bool = False,
                   windows: bool = False, cfg_options: dict[str, Any] | None = None,
                   rgb: Sequence[int | str] | None = None) -> str:
    """Draw what a backbone attends to in images; without `windows` also the features of all stages.

    Args:
        config (str): A config file with that backbone.
        checkpoint (str): Holds the backbone's weights; see `load_backbone`.
        images (Sequence[str]): Files, or folders of them.
        out (str, optional): Folder of the pictures. Defaults to work_dirs/<name of the config>/windows or …/attention.
        size (int, optional): Short side in px. Defaults to that of the config's validation.
        at (Sequence[tuple[float, float]]): Queries, x and y as fractions of width and height.
        per_head (bool): Draw a picture per query, with a row per head. Defaults to False.
        windows (bool): Draw DM-MSA's windows, instead of the plain attention of the later stages. Defaults to False.
        cfg_options, rgb: See `draw_reconstructions`.

    Returns:
        str: What was written, in words.

    Raises:
        UserError: If the config, the checkpoint or an image cannot be read.
    """
    cfg = read_config(config, cfg_options)
    view = _view(cfg, rgb)
    model = build_model(cfg)
    facts = load_backbone(model.backbone, checkpoint)
    figures = []
    for path, image in track(_read(images, cfg, size, patch_size(model.backbone)), 'Drawing'):
        inputs = prepare(model, image)
        picture = seen(image, **view) if view else image[..., ::-1]
        maps = attention_maps(model.backbone, inputs, at, windows)
        drawn = []
        for number, figure in enumerate(attention_figure(picture, maps, per_head), 1):
            name = f'query{number}' if per_head else ''
            drawn.append((name, figure, 'Maps of attention over the image, by ' + (
                'head' if per_head else 'query') + ' and stage', ''))
        if not windows:
            figure = features_figure(picture, feature_maps(model.backbone, inputs))
            drawn.append(('features', figure, 'The image, and its features of every stage as colours', FEATURES_CAPTION))
        figures.append((path, drawn))
    name, title = ('windows', 'What DM-MSA attends to') if windows else ('attention', 'Attention and features')
    caption = attention_caption(windows, per_head)
    return _write(_folder(out, config, name), title, caption, figures, config, checkpoint, facts)


def _view(cfg: Config, rgb: Sequence[int | str] | None) -> dict[str, list] | None:
    """What is looked at of images of other bands, see `coma_mm.datasets.bands`; None for 8-bit colour."""
    bands = bands_of(cfg)
    if rgb and not bands:
        raise UserError('--rgb is for images of other bands: the config has no setting bands, and --bands is not given')
    return bands and bands.view(rgb)


def _read(paths: Sequence[str], cfg: Config, size: int | None, multiple: int) -> list[tuple[str, np.ndarray]]:
    """Path and image, uint8 BGR or other bands; all are read before any is drawn, so that a bad one stops it early."""
    short, bands = size or image_size(cfg), bands_of(cfg)
    chosen = bands and bands.chosen
    return [(path, read_fitted(path, short, multiple, chosen)) for path in track(find_images(paths), 'Reading')]


def _folder(out: str | None, config: str, name: str) -> Path:
    return Path(out or f'work_dirs/{Path(config).stem}/{name}')


def _write(out: Path, title: str, caption: str, figures: list[tuple[str, list[tuple[str, Figure, str, str]]]], config: str,
           checkpoint: str, facts: dict | None = None) -> str:
    """Write the pictures and the gallery.

    Args:
        out (Path): Their folder.
        title (str): The gallery's heading.
        caption (str): What a reader must know.
        figures (list[tuple]): Path of an image, and a list of (part of the file name, figure, alt text, caption).
        config (str): What was drawn.
        checkpoint (str): With which weights.
        facts (dict, optional): On the weights.

    Returns:
        str: What was written, in words.
    """
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for number, (path, drawn) in enumerate(figures, 1):
        pictures = []
        for name, figure, alt, own in drawn:
            file = out / '_'.join(filter(None, [f'{number:03d}', Path(path).stem, name]))
            file = file.with_name(file.name + '.png')
            figure.savefig(file, dpi=130, facecolor='white')
            text = f'{Path(path).name}{", " + name if name else ""}. {own or caption}'
            pictures.append(Picture(file, text, f'{Path(path).name}: {alt}', 700))
        sections.append(Section(Path(path).name, pictures=pictures))
    weights = dict(Config=config, Checkpoint=checkpoint)
    weights.update({name: str(value) for name, value in (facts or {}).items() if isinstance(value, (str, int, float))})
    sections.append(Section('Weights', facts=weights))
    write_report(out / 'gallery.html', title, '', sections)
    return f'{sum(len(drawn) for _, drawn in figures)} pictures and gallery.html in {out}'
