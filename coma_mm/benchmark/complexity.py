"""Parameters, operations and memory of models, and on request their speed, in one table.

A model is a config of any of the three libraries, which gives two rows, its backbone alone on whole images and the whole
model in a training step, or one of the backbones by name (--list). Shapes alone pass through the models: a batch of 512
takes no longer than one of 1, and no more memory; --latency alone computes.
"""
import csv
import io
from pathlib import Path
from statistics import median

import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models.selfsup import BaseSelfSupervisor
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.benchmark import Timer

from coma_mm.engine import cli, config
from coma_mm.engine.config_check import nearest
from coma_mm.engine.hooks import find_key
from coma_mm.errors import UserError
from coma_mm.visualization.logs import environment

from .counting import RULES, measure, training_forward

PEERS = {
    'DyViT-S': dict(type='mmpretrain.DyViT', arch='small'),
    'DyViT-B': dict(type='mmpretrain.DyViT', arch='base'),
    'ViT-S': dict(type='mmpretrain.VisionTransformer', arch='deit-small', patch_size=16),
    'ViT-B': dict(type='mmpretrain.VisionTransformer', arch='base', patch_size=16),
    'Swin-S': dict(type='mmpretrain.SwinTransformer', arch='small'),
    'Swin-B': dict(type='mmpretrain.SwinTransformer', arch='base'),
    'HiViT-B': dict(type='mmpretrain.HiViT', arch='base'),
    'MViTv2-B': dict(type='mmpretrain.MViT', arch='base'),
    'ConvNeXt-B': dict(type='mmpretrain.ConvNeXt', arch='base'),
}
"""Backbones by the names that papers give them, as mmpretrain has them; it has no Hiera."""
OF_TABLE_2 = ('DyViT-S', 'DyViT-B', 'ViT-S', 'ViT-B', 'Swin-S', 'Swin-B')
ROUNDS = 10  # timed passes of each model

COLUMNS = {
    'model': ('Model', str),
    'part': ('Part', str),
    'size': ('px', str),
    'batch': ('Batch', str),
    'precision': ('Precision', str),
    'parameters': ('Parameters, M', lambda value: f'{value / 1e6:.1f}'),
    'macs_layers': ('GMACs, layers', lambda value: f'{value / 1e9:.3g}'),
    'macs_attention': ('GMACs, + attention', lambda value: f'{value / 1e9:.3g}'),
    'step_macs': ('GMACs, step', lambda value: f'{value / 1e9:.3g}'),
    'state_bytes': ('State, GiB', lambda value: f'{value / 2**30:.3g}'),
    'saved_bytes': ('Saved, GiB', lambda value: f'{value / 2**30:.3g}'),
    'step_peak_bytes': ('Peak of step, GiB', lambda value: f'{value / 2**30:.3g}'),
    'inference_peak_bytes': ('Peak of inference, GiB', lambda value: f'{value / 2**30:.3g}'),
    'latency': ('Latency, ms', lambda value: f'{1e3 * value:.3g}'),
    'images_per_second': ('Images/s', lambda value: f'{value:.3g}'),
}
"""Title and format of each column; files of data have the raw values."""
NOTES = (
    'Operations are of one image, in the forward pass; a MAC is one multiplication and addition, which papers call a FLOP. '
    f'Layers: {RULES["layers"]}. + attention: {RULES["attention"]}. Norms, activations, softmax and sums count as nothing. '
    'Step: forward and backward pass, with attention.',
    'Memory is of the whole batch. State: weights, gradients and AdamW\'s moments in float32, and the evaluation model. Saved: '
    'what the forward pass keeps for the backward pass. Peak of step: state, activations and passing gradients. Peak of '
    'inference: activations in a forward pass without autograd, weights apart. Not counted: what lives within one operation, '
    'memory lost between blocks, cuDNN\'s and NCCL\'s own, and, in bf16, the float32 inputs of layer norms, which autocast '
    'makes on GPUs alone.',
    'Whole models are those of training, at the config\'s masking ratio: pre-training with its evaluation branch, segmentors '
    'with their auxiliary heads, detectors with the heads\' outputs for 512 boxes and 128 masks of an image, without the '
    'losses. Backbones see all patches.',
)


def add_arguments(parser):
    """Add the subcommand's options.

    Args:
        parser (ArgumentParser): Of the subcommand.
    """
    parser.add_argument('models', nargs='*', metavar='CONFIG|NAME', help=f'default: {" ".join(OF_TABLE_2)}')
    parser.add_argument('--list', action='store_true', help='list the backbones that have names')
    parser.add_argument('--size', type=int, default=224, help='side of the images in px (default: %(default)s)')
    parser.add_argument('--batch-size', type=int, help="images (default: those of a process in the config; 1 for a name)")
    parser.add_argument('--latency', action='store_true', help='also time forward passes, which computes them')
    parser.add_argument('--out', metavar='FILE', help='write the table: .md, .csv or .json')
    parser.add_argument('--cfg-options', nargs='+', action=cli.ParseOptions, metavar='KEY=VALUE',
                        help='settings that replace those of the configs')


def run(args):
    """Print the table.

    Args:
        args (Namespace): See `add_arguments`.
    """
    if args.list:
        print('\n'.join(f'{name:12}{cfg["type"]}, arch={cfg["arch"]}' for name, cfg in PEERS.items()))
        return
    if args.out and Path(args.out).suffix not in WRITERS:
        raise UserError(f'--out {args.out}: expected a name that ends with {", ".join(WRITERS)}')
    for option in ('size', 'batch_size'):
        if getattr(args, option) is not None and getattr(args, option) < 1:
            raise UserError(f'--{option.replace("_", "-")} {getattr(args, option)}: expected 1 or more')
    models = args.models or OF_TABLE_2
    for name in models:
        if name not in PEERS and not name.endswith('.py'):
            close = nearest(name, PEERS)
            raise UserError(f'{name}: neither a config (.py) nor a backbone with a name' + (
                f'; did you mean {close}?' if close else '; --list shows those there are'))
    rows, timers = [], []
    for name in track(models, 'Counting', console=Console(stderr=True), transient=True):
        for row, model, forward, ratio in parts(name, args.size, args.batch_size, args.cfg_options):
            bf16 = row['precision'] == 'bf16'
            rows.append(row | measure(model, row['batch'], args.size, ratio, bf16, forward))
            if args.latency:
                timers.append(timer(model, forward, row['batch'], args.size, ratio, bf16))
    if timers:
        for row, seconds in zip(rows, interleaved(timers), strict=True):
            row.update(latency=seconds, images_per_second=row['batch'] / seconds)
    show(rows)
    if args.out:
        WRITERS[Path(args.out).suffix](rows, args.out)


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
        DefaultScope.get_instance('complexity', scope_name='mmpretrain')
        from mmpretrain.utils import register_all_modules
        register_all_modules(init_default_scope=False)
        cfg = dict(PEERS[name])
        if not cfg['type'].endswith(('DyViT', 'ConvNeXt', 'MViT')):  # the others need it for their positions
            cfg['img_size'] = size
        row = dict(model=name, part='backbone', size=size, batch=batch or 1, precision='float32')
        return [(row, MODELS.build(cfg), _backbone_forward, None)]
    cfg = config.read_config(name, cfg_options)
    DefaultScope.get_instance(name, scope_name=cfg.get('default_scope', 'mmengine'))
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    ratio = find_key(cfg.train_dataloader.dataset, 'ratio')
    bf16 = config.is_type(cfg.optim_wrapper, 'AutocastOptimWrapper') or config.is_type(cfg.optim_wrapper, 'AmpOptimWrapper')
    row = dict(model=Path(name).stem, size=size, batch=batch or cfg.train_dataloader.batch_size,
               precision='bf16' if bf16 else 'float32')
    model = MODELS.build(cfg.model)
    masked = isinstance(model, BaseSelfSupervisor)
    ratio = 0.6 if ratio is None else ratio
    return [(row | dict(part='backbone'), model.backbone, _unmasked_forward if masked else _backbone_forward, ratio),
            (row | dict(part='whole model'), model, training_forward, ratio)]


def _backbone_forward(model, images, _):
    return model(images)


def _unmasked_forward(model, images, _):
    return model(images, None)  # no mask


def timer(model, forward, batch, size, ratio, bf16):
    """Timer: Of a forward pass without autograd, on the GPU if there is one."""
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model.to(device).eval()
    images = torch.zeros(batch, 3, size, size, device=device)

    def compute():
        with torch.device(device), torch.no_grad(), torch.autocast(device, torch.bfloat16, bf16):
            forward(model, images, ratio)

    return Timer('compute()', globals=dict(compute=compute), num_threads=torch.get_num_threads())


def interleaved(timers, rounds=ROUNDS):
    """Seconds of each timer's statement, the median of passes in turn, so that what else the machine does meets all.

    Args:
        timers (list[Timer]): A first pass of each is not counted.
        rounds (int): Passes of each. Defaults to `ROUNDS`.

    Returns:
        list[float]: One per timer.
    """
    for one in timers:
        one.timeit(1)
    passes = [[one.timeit(1).mean for one in timers]
              for _ in track(range(rounds), 'Timing', console=Console(stderr=True), transient=True)]
    return [median(seconds) for seconds in zip(*passes, strict=True)]


def cells(rows):
    """list[list[str]]: The titles of the columns that have values, and each row's cells, as they are read."""
    used = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    return [[COLUMNS[key][0] for key in used],
            *([COLUMNS[key][1](row[key]) if row.get(key) is not None else '' for key in used] for row in rows)]


def notes(rows):
    """list[str]: The sentences under a table."""
    found = list(NOTES)
    if any('latency' in row for row in rows):
        found.append(f'Latency: of a forward pass of the batch without autograd, the median of {ROUNDS} passes, the models in '
                     f'turn, {torch.get_num_threads()} threads. ' + '; '.join(map(': '.join, environment().items())) + '.')
    return found


def show(rows):
    """Print a table, and what its columns mean."""
    titles, *lines = cells(rows)
    table = Table()
    for index, title in enumerate(titles):
        table.add_column(title, justify='left' if index < 2 else 'right', overflow='fold')
    for line in lines:
        table.add_row(*line)
    console = Console()
    console.print(table)
    for note in notes(rows):
        console.print(note, highlight=False)


def write_markdown(rows, path):
    """Write the table and what its columns mean."""
    titles, *lines = cells(rows)
    rule = ['---' if index < 2 else '---:' for index in range(len(titles))]
    table = '\n'.join(f'| {" | ".join(line)} |' for line in [titles, rule, *lines])
    Path(path).write_text('\n\n'.join([table, *notes(rows)]) + '\n', encoding='utf-8')


def write_csv(rows, path):
    """Write the raw values: numbers, bytes, seconds."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [key for key in COLUMNS if any(key in row for row in rows)], extrasaction='ignore',
                            lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    Path(path).write_text(text.getvalue(), encoding='utf-8')


def write_json(rows, path):
    """Write the raw values, the notes, and what it was run on."""
    cli.write_metrics(dict(rows=rows, notes=notes(rows), environment=environment()), path)


WRITERS = {'.md': write_markdown, '.csv': write_csv, '.json': write_json}
