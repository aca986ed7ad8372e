"""The tables of hyper-parameters and parameters in docs/recipes.md, from configs/ and docs/recipes.yaml."""
import re
from fnmatch import fnmatch

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from coma_mm.engine.models import build_model
from coma_mm.files import CHECKOUT as ROOT
from coma_mm.markdown import fill, markdown_table

PAGE = ROOT / 'docs/recipes.md'
DATA = ROOT / 'docs/recipes.yaml'
FOLDERS = ('coma', 'mae', 'ablations', 'classification', 'segmentation', 'detection')
PRECISIONS = dict(OptimWrapper='fp32', AutocastOptimWrapper='bf16', AmpOptimWrapper='fp16')


def page():
    """str: The whole of docs/recipes.md: the text that is there, with its generated tables renewed."""
    data = yaml.safe_load(DATA.read_text())
    settings = {name: read(name) for name in config_names()}
    tables = [markdown_table(['source', 'is'], [[key, text] for key, text in data['sources'].items()])]
    for family in data['hyper_parameters']:
        groups = columns(family, settings)
        rows = [[row, *(' / '.join(dict.fromkeys(cell(paths, settings[name]) for name in names))
                        for names in groups.values()), source] for row, (paths, source) in family['rows'].items()]
        tables.append(f'### {family["title"]}\n\n' + markdown_table(['', *groups, 'source'], rows))
    parameters = markdown_table(['config', 'trained', 'backbone'], [
        [f'[{name.split("/")[1]}](../configs/{name}.py)', f'{one["trained"]:.1f}', f'{one["encoder"]:.1f}']
        for name, one in settings.items()], numbers=2)
    return fill(PAGE.read_text(), 'recipes', {'hyper-parameters': '\n'.join(tables), 'parameters': parameters})


def config_names():
    """list[str]: The configs of the page, as folder/name; in one folder 300e comes before 1600e, and 768px before 1024px."""
    names = [f'{folder}/{path.stem}' for folder in FOLDERS for path in (ROOT / 'configs' / folder).glob('*.py')]
    return sorted(names, key=lambda name: (FOLDERS.index(name.split('/')[0]),
                                           [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]))


def read(name):
    """What the page may show of a config.

    Args:
        name (str): Folder and name below configs/.

    Returns:
        dict: The config's keys; 'train' and 'test', the built steps of the pipelines; 'built', the model without values;
        and what follows: 'lr_per_256', 'precision', 'trained' and 'encoder' (millions of parameters).
    """
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')  # `read_config` would fit it to the machine at hand
    with torch.device('meta'):
        model = build_model(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        pipelines = {split: [TRANSFORMS.build(step) for step in cfg[f'{split}_dataloader'].dataset.pipeline
                             if step.type != 'LoadPanopticAnnotations']  # the page is the same without panopticapi
                     for split in ('train', 'test') if cfg.get(f'{split}_dataloader')}
    return dict(
        cfg.items(),
        **pipelines,
        built=model,
        precision=PRECISIONS[cfg.optim_wrapper.get('type', 'OptimWrapper')],
        lr_per_256=cfg.optim_wrapper.optimizer.lr * 256 / cfg.auto_scale_lr.base_batch_size,
        trained=sum(value.numel() for value in model.parameters() if value.requires_grad) / 1e6,
        encoder=sum(value.numel() for value in model.backbone.parameters()) / 1e6)


def columns(family, names):
    """dict[str, list[str]]: The configs of each column of a table of hyper-parameters."""
    return {title: [name for name in names if fnmatch(name, pattern)] for title, pattern in family['columns'].items()}


def cell(paths, setting):
    """str: The value at the first of the paths, joined by ' or ', that leads somewhere in what `read` gives, or a dash."""
    found = (look_up(setting, path) for path in paths.split(' or '))
    return show(next((value for value in found if value is not None), '–'))


def look_up(place, path):
    """Follow a path through nested dicts, objects and lists.

    Args:
        place (Any): Where to start.
        path (str): Keys, attributes, and for what is in a list its `type` or number, joined by dots.

    Returns:
        Any: What is there, or None.
    """
    for name in path.split('.'):
        if isinstance(place, (list, tuple)):
            place = place[int(name)] if name.isdigit() else next((one for one in place if _type(one) == name), None)
        else:
            place = place.get(name) if isinstance(place, dict) else getattr(place, name, None)
    return place


def _type(one):
    return one.get('type') if isinstance(one, dict) else type(one).__name__


def show(value):
    """str: A value as a reader would write it."""
    if isinstance(value, (list, tuple)):
        return ', '.join(map(show, value))
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return re.sub('e-0?', 'e-', f'{value:g}') if isinstance(value, float) else str(value)
