"""docs/recipes.md: every run as commands, every hyper-parameter with its source, from configs/ and docs/recipes.yaml."""
import re
from pathlib import Path

import torch
import yaml
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from coma_mm.engine.models import build_model
from coma_mm.files import CHECKOUT as ROOT
from coma_mm.markdown import markdown_table

PAGE = ROOT / 'docs/recipes.md'
DATA = ROOT / 'docs/recipes.yaml'
FOLDERS = ('coma', 'mae', 'ablations', 'classification', 'segmentation', 'detection')
BASELINE = 'coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k'
"""What the ablations change one thing of."""

PRECISIONS = dict(OptimWrapper='fp32', AutocastOptimWrapper='bf16', AmpOptimWrapper='fp16')

INTRODUCTION = """\
# Recipes

Every run behind the tables and ablations of the paper, as commands, and every hyper-parameter with its source: the paper
itself gives few. This page is made from `configs/` and `docs/recipes.yaml` by `python tools/make_recipes.py`; a test fails
when it is out of date.

None of these runs was made in full with this toolkit so far, so there is no result on this page.

## Before the first command

**Data.** [data.md](data.md) tells how to prepare and check the data sets; set `DATA_ROOT`, or append `--data-root`.

**GPUs.** The commands are for one machine with 8 GPUs and start from the root of the repository. For another number write
it in place of the 8, and for less memory append `--cfg-options train_dataloader.batch_size=…`: the batches that are
accumulated follow, so that the batch of the recipe and its learning rate stay. Several machines, Slurm, hours and GPU
memory: [scale.md](scale.md).

**Names.** A pre-training writes into a folder of its own, what is trained from its weights into folders below it. A config
for fine-tuning takes the weights that `PRETRAINED` names. `--resume` at the end of a command goes on with a run that was
interrupted.
"""

ABLATIONS = """\
Each is one change to Table 2's CoMA with DyViT-B for 300 epochs, if nothing else is said, and is compared with it by
fine-tuning on ImageNet-1K.
"""

HYPER_PARAMETERS = """\
The values are those of the configs. Where the runs of a column differ, a slash separates them, shorter schedules and smaller
images first; a dash means that there is no such thing. Norms, biases, position embeddings, mask and class tokens are not
decayed in any run.
"""


def page():
    """str: The whole of docs/recipes.md."""
    data = yaml.safe_load(DATA.read_text())
    settings = {name: read(name) for name in config_names()}
    started = set()
    parts = [INTRODUCTION]
    for title, text, key in (('The paper\'s tables', '', 'paper'), ('Ablations', ABLATIONS, 'ablations'),
                             ('Further runs', '', 'further')):
        parts += [f'## {title}\n', text]
        parts += [_section(section, data['tasks'], settings, started) for section in data[key]]
    parts += ['## Hyper-parameters\n', HYPER_PARAMETERS]
    parts.append(markdown_table(['source', 'is'], [[key, text] for key, text in data['sources'].items()]))
    parts += [_hyper_parameters(family, settings) for family in data['hyper_parameters']]
    parts += ['## Parameters\n', 'In millions: those that are trained, and all of the backbone.\n']
    parts.append(markdown_table(['config', 'trained', 'backbone'], [
        [f'[{name.split("/")[1]}](../configs/{name}.py)', f'{one["trained"]:.1f}', f'{one["encoder"]:.1f}']
        for name, one in settings.items()], numbers=2))
    return '\n'.join(filter(None, parts))


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
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        model = build_model(cfg)
        pipelines = {
            split: [TRANSFORMS.build(step) for step in cfg[f'{split}_dataloader'].dataset.pipeline]
            for split in ('train', 'test') if cfg.get(f'{split}_dataloader')
        }
    wrapper, batch = cfg.optim_wrapper, cfg.auto_scale_lr.base_batch_size
    return dict(
        cfg.items(),
        **pipelines,
        built=model,
        precision=PRECISIONS[wrapper.get('type', 'OptimWrapper')],
        lr_per_256=wrapper.optimizer.lr * 256 / batch,
        trained=sum(value.numel() for value in model.parameters() if value.requires_grad) / 1e6,
        encoder=sum(value.numel() for value in model.backbone.parameters()) / 1e6)


def commands(run, section, tasks, settings, started):
    """The command lines of a run.

    Args:
        run (dict): 'name', and maybe 'config', 'options', 'arch', 'finetune_options'; see docs/recipes.yaml.
        section (dict): Where it stands; its 'tasks' are what is trained from the run's weights, its 'tools' look at the
            weights as they are. Without tasks it is an ablation, fine-tuned on ImageNet-1K and not tested apart from that.
        tasks (dict): Config and tests of each task.
        settings (dict): What `read` gives, of all configs.
        started (set): Folders of the pre-trainings so far, which get no command again; this one is added.

    Returns:
        list[str]: One line for each step.
    """
    name = run.get('config', BASELINE)
    ablation = 'tasks' not in section
    folder = f'work_dirs/ablations/{run["name"]}' if ablation else f'work_dirs/{name.split("/")[1]}'
    lines = []
    if folder not in started:
        lines.append(_train(name, folder if ablation else None, run.get('options')))
        started.add(folder)
    weights = f'{folder}/{last_checkpoint(settings[name])}'
    arch = run.get('arch', name.split('_')[1])
    for task in ['imagenet'] if ablation else section['tasks']:
        config = tasks[task]['config'].format(arch=arch)
        work_dir = f'{folder}/{task}'
        lines.append(f'PRETRAINED={weights} ' + _train(config, work_dir, run.get('finetune_options')))
        for test, options in ({} if ablation else tasks[task]['tests']).items():
            checkpoint = f'{work_dir}/{last_checkpoint(settings[config])}'
            lines.append(' '.join(filter(None, [
                f'tools/dist_test.sh configs/{config}.py {checkpoint} 8 --work-dir {work_dir}/{test}', options])))
    classifier = tasks['imagenet']['config'].format(arch=arch)
    for tool in section.get('tools', ()):
        lines.append(f'python tools/{tool}.py configs/{classifier}.py {weights} --out {folder}/{tool}.json')
    return lines


def _train(config, work_dir, options):
    return (f'tools/dist_train.sh configs/{config}.py 8' + (f' --work-dir {work_dir}' if work_dir else '')
            + (f' --cfg-options {options}' if options else ''))


def last_checkpoint(cfg):
    """str: The name of the last file that training with a config writes."""
    loop = cfg['train_cfg']
    return f'epoch_{loop["max_epochs"]}.pth' if 'max_epochs' in loop else f'iter_{loop["max_iters"]}.pth'


def _section(section, tasks, settings, started):
    blocks = []
    for run in section['runs']:
        blocks.append('\n'.join([f'# {run["name"]}', *commands(run, section, tasks, settings, started)]))
    text = f'{section["text"].strip()}\n\n' if 'text' in section else ''
    return f'### {section["title"]}\n\n{text}```\n' + '\n\n'.join(blocks) + '\n```\n'


def columns(family, names):
    """dict[str, list[str]]: The configs of each column of a table of hyper-parameters."""
    return {title: [name for name in names if Path(name).match(pattern)] for title, pattern in family['columns'].items()}


def _hyper_parameters(family, settings):
    groups = columns(family, settings)
    rows = []
    for row, (templates, source) in family['rows'].items():
        cells = [' / '.join(dict.fromkeys(cell(templates, settings[name]) for name in names)) for names in groups.values()]
        rows.append([row, *cells, source])
    return f'### {family["title"]}\n\n' + markdown_table(['', *groups, 'source'], rows)


def cell(templates, setting):
    """The text of a cell.

    Args:
        templates (str | list[str]): Texts with paths of values in braces, see `look_up`.
        setting (dict): What `read` gives.

    Returns:
        str: The first template whose values all exist, filled; a dash if there is none.
    """
    for template in [templates] if isinstance(templates, str) else templates:
        values = {path: look_up(setting, path) for path in re.findall(r'{(.+?)}', template)}
        if None not in values.values():
            return re.sub(r'{(.+?)}', lambda match, values=values: show(values[match[1]]), template)
    return '–'


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
