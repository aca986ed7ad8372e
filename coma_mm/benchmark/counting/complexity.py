"""Parameters, operations and memory of models, and on request their speed, in one table."""
from pathlib import Path
from statistics import median

import pandas
import torch
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from mmpretrain.models.selfsup import BaseSelfSupervisor
from rich import box
from rich.console import Console
from rich.table import Table

from coma_mm.benchmark.paper.numbers import paper
from coma_mm.benchmark.speed.timing import interleave
from coma_mm.config.read import parse_options, read_config
from coma_mm.config_tree import find_types, type_name
from coma_mm.engine.models import build_model
from coma_mm.errors import UserError, choice
from coma_mm.markdown import markdown_table
from coma_mm.progress import track
from coma_mm.visualization.logs import environment

from .counting import RULES, measure, training_forward
from .peers import OF_TABLE_2, PEERS

ROUNDS = 10  # timed passes of each model, after one that is not


def _giga(value):
    return f'{value / 1e9:.2f}' if value < 1e10 else f'{value / 1e9:.1f}'


def _gib(value):
    return f'{value / 2**30:.3f}' if value < 2**30 else f'{value / 2**30:.2f}'


COLUMNS = {
    'model': ('Model', str),
    'part': ('Part', str),
    'size': ('px', str),
    'batch': ('Batch', str),
    'precision': ('Precision', str),
    'parameters': ('Params, M', lambda value: f'{value / 1e6:.1f}'),
    'macs_layers': ('GMACs, layers', _giga),
    'macs_attention': ('GMACs, + attention', _giga),
    'paper_parameters': ('Paper, M', str),
    'paper_flops': ('Paper, G', str),
    'step_macs': ('GMACs, step', _giga),
    'state_bytes': ('State, GiB', _gib),
    'saved_bytes': ('Saved, GiB', _gib),
    'step_peak_bytes': ('Peak of step, GiB', _gib),
    'inference_peak_bytes': ('Peak of inference, GiB', _gib),
    'latency': ('Latency, ms', lambda value: f'{1e3 * value:,.1f}'),
    'images_per_second': ('Images/s', lambda value: f'{value:,.2f}'),
}
"""Title and format of each column; files of data have the raw values."""
NOTES = (
    'Parameters: all, the evaluation model apart. Operations are of one image, in the forward pass; a MAC is one '
    f'multiplication and addition, which papers call a FLOP. Layers: {RULES["layers"]}. + attention: {RULES["attention"]}. '
    'Norms, activations, softmax and sums count as nothing. Step: forward and backward pass, with attention.',
    'Memory is of the whole batch. State: weights, gradients and AdamW\'s moments in float32, and the evaluation model. '
    'Saved: what the forward pass keeps for the backward pass. Peak of step: state, activations and passing gradients. Peak '
    'of inference: activations in a forward pass without autograd, weights apart. Not counted: what lives within one '
    'operation, memory lost between blocks, cuDNN\'s and NCCL\'s own, and, in bf16, the float32 inputs of layer norms, '
    'which autocast makes on GPUs alone (not of DyViT, whose norms stay in bf16).',
)
OF_WHOLE_MODELS = (
    'Whole models are those of training, at the config\'s masking ratio: pre-training with its evaluation branch, '
    'segmentors with their auxiliary heads, detectors with the heads\' outputs for 512 boxes and 128 masks of an image, '
    'without the losses. Backbones see all patches.')
OF_PAPER = 'Paper: Table 2 of the CoMA paper, whose 87 M of ViT-B include a classifier.'


def run(args):
    """Print the table."""
    if args.out and Path(args.out).suffix not in WRITERS:
        raise UserError(f'--out {args.out}: expected a name that ends with {", ".join(WRITERS)}')
    models = args.models or OF_TABLE_2
    for name in models:
        if not name.endswith('.py'):
            choice('a backbone (no config, NAME.py)', name, PEERS)
    rows, passes = [], {}
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    for name in track(models, 'Counting', transient=True):
        for row, model, forward, ratio in count(name, args.size, args.batch_size, parse_options(args.cfg_options)):
            rows.append(row)
            if args.latency:
                passes[len(rows) - 1] = forward_pass(model, forward, row['batch'], args.size, ratio,
                                                     row['precision'] == 'bf16', device)
    if passes:
        synchronise = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
        rounds = list(track(interleave(passes, ROUNDS, synchronise=synchronise), 'Timing', ROUNDS, transient=True))
        for index, row in enumerate(rows):
            seconds = median(one[index] for one in rounds)
            row.update(latency=seconds, images_per_second=row['batch'] / seconds)
    show(rows)
    if args.out:
        WRITERS[Path(args.out).suffix](rows, args.out)


def count(name, size=224, batch=None, cfg_options=None):
    """list[tuple]: What `parts` gives, each row with what `measure` counts."""
    return [(row | measure(model, row['batch'], size, ratio, row['precision'] == 'bf16', forward), model, forward, ratio)
            for row, model, forward, ratio in parts(name, size, batch, cfg_options)]


def parts(name, size, batch, cfg_options=None):
    """What a config or a name stands for.

    Args:
        name (str): A config's path, or one of `PEERS`.
        size (int): Side of the images in px.
        batch (int, optional): Images.
        cfg_options (dict, optional): Dotted keys and their values.

    Returns:
        list[tuple]: Of each part the first cells of its row, the model, its forward pass and the share of masked
        patches, as `measure` takes them.
    """
    if name in PEERS:
        from mmpretrain.utils import register_all_modules
        register_all_modules(init_default_scope=False)
        cfg = dict(PEERS[name])
        if not cfg['type'].endswith(('DyViT', 'ConvNeXt', 'MViT')):  # the others need it for their positions
            cfg['img_size'] = size
        row = dict(model=name, part='backbone', size=size, batch=batch or 1, precision='float32')
        if size == 224:
            of_paper = next((one for one in paper()['tables']['table2']['rows'] if one['backbone'] == name), {})
            row.update(paper_parameters=of_paper.get('params'), paper_flops=of_paper.get('flops'))
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return [(row, MODELS.build(cfg), _backbone_forward, None)]
    cfg = read_config(name, cfg_options)
    bf16 = type_name(cfg.optim_wrapper) in ('AutocastOptimWrapper', 'AmpOptimWrapper')
    row = dict(model=Path(name).stem, size=size, batch=batch or cfg.train_dataloader.batch_size,
               precision='bf16' if bf16 else 'float32')
    model = build_model(cfg)
    mask = next(find_types(cfg.train_dataloader, 'PatchMask'), dict(type='PatchMask'))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        ratio = TRANSFORMS.build(mask).sampler.ratio
    masked = isinstance(model, BaseSelfSupervisor)
    return [(row | dict(part='backbone'), model.backbone, _unmasked_forward if masked else _backbone_forward, ratio),
            (row | dict(part='whole model'), model, training_forward, ratio)]


def _backbone_forward(model, images, _):
    return model(images)


def _unmasked_forward(model, images, _):
    return model(images, None)  # no mask


def forward_pass(model, forward, batch, size, ratio, bf16, device):
    """Callable: A forward pass without autograd, once warmed up."""
    model.to(device).eval()
    images = torch.zeros(batch, 3, size, size, device=device)

    def compute():
        with torch.device(device), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, bf16):
            forward(model, images, ratio)

    compute()
    return compute


def cells(rows, columns=tuple(COLUMNS)):
    """list[list[str]]: The titles of those columns that have values, and each row's cells, as they are read."""
    used = [key for key in columns if any(row.get(key) is not None for row in rows)]
    return [[COLUMNS[key][0] for key in used],
            *([COLUMNS[key][1](row[key]) if row.get(key) is not None else '' for key in used] for row in rows)]


def notes(rows):
    """list[str]: The sentences under a table."""
    found = list(NOTES)
    if any(row['part'] == 'whole model' for row in rows):
        found.append(OF_WHOLE_MODELS)
    if any(row.get('paper_flops') for row in rows):
        found.append(OF_PAPER)
    if any('latency' in row for row in rows):
        machine = '; '.join(map(': '.join, environment().items()))
        found.append(f'Latency: of a forward pass of the batch without autograd, the median of {ROUNDS} passes, the models '
                     f'in turn, {torch.get_num_threads()} threads. {machine}.')
    return found


GROUPS = (('parameters', 'macs_layers', 'macs_attention', 'paper_parameters', 'paper_flops', 'step_macs'),
          ('state_bytes', 'saved_bytes', 'step_peak_bytes', 'inference_peak_bytes'), ('latency', 'images_per_second'))
"""Columns of the tables on a terminal."""


def show(rows):
    """Print the table in parts that fit a terminal, and what their columns mean."""
    console = Console()
    settings = [f'{row["batch"]} × {row["size"]} px, {row["precision"]}' for row in rows]
    alike = len(set(settings)) == 1
    for group in GROUPS:
        titles, *lines = cells(rows, group)
        if not titles:
            continue
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column(f'Model, {settings[0]}' if alike else 'Model', overflow='fold', min_width=20)
        for title in titles:
            table.add_column(title.replace(', ', ',\n'), justify='right')
        for row, setting, line in zip(rows, settings, lines, strict=True):
            table.add_row(f'{row["model"]}, {row["part"]}' + ('' if alike else f', {setting}'), *line)
        console.print(table)
        console.print()
    for note in notes(rows):
        console.print(note, highlight=False)


def write_markdown(rows, path):
    """Write the table and what its columns mean."""
    titles, *lines = cells(rows)
    text = '\n\n'.join([markdown_table(titles, lines, len(titles) - 2).rstrip(), *notes(rows)])
    Path(path).write_text(f'{text}\n', encoding='utf-8')


def write_csv(rows, path):
    """Write the raw values: numbers, bytes, seconds."""
    pandas.DataFrame(rows).reindex(columns=COLUMNS).dropna(axis='columns', how='all').to_csv(path, index=False)


WRITERS = {'.md': write_markdown, '.csv': write_csv}
