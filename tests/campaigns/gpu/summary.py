#!/usr/bin/env python
"""What `make gpu` has found, as a page: a function of its results alone. A cell is empty where nothing was run.

    python tests/campaigns/gpu/summary.py OUT/results.json          # prints the page
    python tests/campaigns/gpu/summary.py OUT/results.json --write  # puts both into docs/results, by the name of the card
"""
import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))

from coma_mm.files import write_whole  # noqa: E402
from coma_mm.markdown import escaped, markdown_table  # noqa: E402

MAE = 'pretrain/mmpretrain-mae'
VIT = 'inference/vit'
PRETRAINING = {
    'coma-frozen': "CoMA DyViT, `'frozen'`", 'coma-none': "CoMA DyViT, `'none'`", 'mae-dyvit': 'MAE DyViT',
    'mae-vit': 'MAE ViT, ours', 'mmpretrain-mae': "MAE ViT, mmpretrain's", 'as-shipped': 'The same as shipped (fp16)'}


class Results:
    """Looks things up in what was found, of which any part may be missing."""

    def __init__(self, found: dict):
        self.found = found
        self.card = found.get('card', '')

    def of(self, part: str, file: str) -> dict:
        """What a part has written; empty if it has not."""
        return self.found.get('parts', {}).get(part, {}).get('results', {}).get(file) or {}

    def row(self, part: str, name: str, **setting: object) -> dict:
        """A row of the speed benchmark; empty if there is none."""
        for row in self.of(part, 'speed').get('rows', ()):
            if row['name'] == name and all(row[key] == value for key, value in setting.items()):
                return row
        return {}

    def step(self, name: str, batch: int, compiled: bool) -> dict:
        """The row of a pre-training step, whichever part has measured it."""
        kind, name = 'compiled' if compiled else 'speed', f'pretrain/{name}'
        return self.row(kind, name, batch=batch) or self.row(f'{kind}-smaller', name, batch=batch)

    @property
    def batches(self) -> list[int]:
        """Those of pre-training, the first one being that of the goals."""
        return self.found.get('batches') or [512]


def summary(found: dict) -> str:
    """The page.

    Args:
        found (dict): What is in results.json.

    Returns:
        str: Markdown.
    """
    results = Results(found)
    facts = results.of('environment', 'environment').get('facts', {})
    lines = [f'# Acceptance test: {escaped(results.card)}', '']
    lines += [f'`make gpu` of version {found.get("version")}, begun at {found.get("started")}, with {found.get("minutes")} '
              'minutes. [How to read it](../gpu.md).', '']
    lines += [f'- {name}: {escaped(str(value))}' for name, value in facts.items()]
    sections = [goals, parts, ceilings, checks, steps, end_to_end, data_path, inference, dense, attention, resumed, losses,
                determinism, tests]
    return '\n'.join(lines) + '\n' + ''.join(f'\n## {section.__doc__.splitlines()[0].rstrip(".")}\n\n{section(results)}'
                                             for section in sections)


def number(value: float | None, digits: int = 2) -> str:
    """A number for a cell; '' for none."""
    return '' if value is None else f'{value:.{digits}f}'


def small(value: float | None) -> str:
    """A difference for a cell: 0 is exactly that."""
    return '' if value is None else '0' if value == 0 else f'{value:.1e}'


def ratio(row: dict, peer: str) -> float | None:
    """How many times as fast as a peer."""
    return row.get('ratios', {}).get(peer)


def faster_than_mae(found: Results, mode: str, compiled: bool) -> float | None:
    """A step of CoMA beside mmpretrain's MAE, with the batch of the goals."""
    return ratio(found.step(f'coma-{mode}', found.batches[0], compiled), MAE)


def faster_than_vit(found: Results, size: int) -> float | None:
    """Dense inference beside ViT/16."""
    return ratio(found.row('inference', 'inference/dyvit', size=size), VIT)


def end_to_end_share(found: Results) -> float | None:
    """Images per second of a run from JPEGs, as a share of those of its step alone."""
    whole = found.of('end-to-end', 'end_to_end')
    alone = found.step('coma-frozen', whole.get('batch', 0), False).get('images_per_second')
    return whole['images_per_second'] / alone if whole and alone else None


GOALS: list[tuple[str, float, Callable[[Results], float | None]]] = [
    ("CoMA `'none'` × mmpretrain's MAE ViT-B, eager", 1.5, partial(faster_than_mae, mode='none', compiled=False)),
    ("CoMA `'frozen'` × mmpretrain's MAE ViT-B, eager", 1.15, partial(faster_than_mae, mode='frozen', compiled=False)),
    ("CoMA `'none'` × mmpretrain's MAE ViT-B, both compiled", 1, partial(faster_than_mae, mode='none', compiled=True)),
    ("CoMA `'frozen'` × mmpretrain's MAE ViT-B, both compiled", 1, partial(faster_than_mae, mode='frozen', compiled=True)),
    ('Training from JPEGs × the step alone', 0.95, end_to_end_share),
    *((f'Dense inference at {size} px, DyViT-B × ViT-B/16', 1, partial(faster_than_vit, size=size))
      for size in (224, 512, 1024)),
]
"""What is wanted, at least how much, and where it is found."""


def goals(found: Results) -> str:
    """Goals."""
    rows, on_gpu = [], found.found.get('device') == 'cuda'
    for text, least, look in GOALS:
        value = look(found) if on_gpu else None
        rows.append([text, '' if value is None else 'met' if value >= least else 'missed', number(value), f'{least:g}'])
    met = sum(row[1] == 'met' for row in rows)
    missed = sum(row[1] == 'missed' for row in rows)
    text = f'{met} of {len(rows)} goals are met, {missed} are missed, {len(rows) - met - missed} were not measured.'
    if not on_gpu:
        text += ' **This was not a GPU, and the models were tiny: the numbers show that the parts run, and nothing else.**'
    return f'{text}\n\n' + markdown_table(['', 'result', 'found', 'at least'], rows, numbers=2)


def parts(found: Results) -> str:
    """Parts."""
    rows = [[name, part['title'], escaped(part['ended']), number(part.get('seconds'), 0)]
            for name, part in found.found.get('parts', {}).items()]
    return markdown_table(['part', 'what it finds out', 'how it ended', 's'], rows, numbers=1)


def ceilings(found: Results) -> str:
    """The card at its best."""
    measured = found.of('environment', 'environment')
    rows = [['copies, TB/s (read and written)', number(measured.get('copy_tb_per_s'))],
            ['products of bf16 matrices, TFLOP/s', number(measured.get('product_tflop_per_s'), 0)]]
    return markdown_table(['', 'measured'], rows, numbers=1)


def checks(found: Results) -> str:
    """What must hold."""
    measured = found.of('smoke', 'checks')
    rows = [[name, one['ended'], escaped(one.get('says') or _values(one.get('found', {}))), number(one.get('seconds'), 1)]
            for name, one in measured.items()]
    right = sum(one['ended'] == 'right' for one in measured.values())
    return f'{right} of {len(rows)} checks that were begun are right.\n\n' + markdown_table(
        ['check', 'result', 'measured', 's'], rows, numbers=1)


def _values(values: dict) -> str:
    """What a check has measured, in a cell."""
    texts = []
    for name, value in values.items():
        if isinstance(value, float):
            value = small(value) if abs(value) < 0.01 else number(value)
        elif isinstance(value, list):
            value = ', '.join(number(one) if isinstance(one, float) else str(one) for one in value)
        texts.append(f'{name} {value}')
    return '; '.join(texts)


def steps(found: Results) -> str:
    """Steps of pre-training, bf16."""
    rows = []
    for batch in found.batches:
        for name, title in PRETRAINING.items():
            cells = []
            for compiled in (False, True):
                row = found.step(name, batch, compiled)
                cells += [row.get('note') or number(row.get('images_per_second'), 0), number(ratio(row, MAE)),
                          _gib(row.get('step_bytes'))]
            rows.append([title, str(batch), *map(escaped, cells), number(row.get('compile_seconds'), 0)])
    head = [f'{title}{unit}' for title in ('eager: ', 'compiled: ') for unit in ('images/s', '× MAE', 'step, GiB')]
    return ("Ratios are to mmpretrain's MAE within the same comparison. Hiera is left out: none of the three libraries has "
            'it.\n\n' + markdown_table(['', 'images', *head, 'compiling, s'], rows, numbers=8))


def _gib(value: int | None) -> str:
    return number(None if value is None else value / 2**30, 1)


def end_to_end(found: Results) -> str:
    """Training from JPEGs."""
    whole = found.of('end-to-end', 'end_to_end')
    share = whole.get('waiting')
    rows = [[str(whole.get('batch', '')), str(whole.get('workers', '')), whole.get('images', ''),
             number(whole.get('images_per_second'), 0), number(end_to_end_share(found)),
             '' if share is None else f'{100 * share:.0f}']]
    return ("`tools/train.py` with CoMA `'frozen'`, hooks and logs; drawn pictures decode faster than photographs.\n\n"
            + markdown_table(['images of a step', 'workers', 'JPEGs', 'images/s', '× the step alone',
                              'waiting for data, %'], rows, numbers=3))


def data_path(found: Results) -> str:
    """Loading alone."""
    measured = found.of('data', 'dataload')
    rows = [[str(one['workers']), number(one['ours']['images_per_s'], 0), number(one['peer']['images_per_s'], 0),
             number(one['ratio'])] for one in measured.get('results', [])]
    return markdown_table(['workers', 'images/s', "mmpretrain's, images/s", '×'], rows or [[''] * 4], numbers=4)


def inference(found: Results) -> str:
    """Dense inference, bf16."""
    rows = []
    for size in found.found.get('inference') or (224, 512, 1024):
        own, vit, swin = (found.row('inference', f'inference/{name}', size=size) for name in ('dyvit', 'vit', 'swin'))
        rows.append([f'{size} px', str(own.get('batch', '')), number(own.get('images_per_second'), 0),
                     number(ratio(own, VIT)), number(vit.get('images_per_second'), 0), number(ratio(swin, VIT)),
                     *(_gib(row.get('step_bytes')) for row in (own, vit, swin))])
    return markdown_table(['', 'images', 'DyViT, images/s', '× ViT/16', 'ViT/16, images/s', 'Swin × ViT/16', 'DyViT, GiB',
                           'ViT/16, GiB', 'Swin, GiB'], rows, numbers=8)


def dense(found: Results) -> str:
    """Steps of UperNet and Mask R-CNN, bf16."""
    rows = []
    for title, part, group in (('UperNet', 'upernet', 'upernet'), ('UperNet, compiled', 'upernet-compiled', 'upernet'),
                               ('Mask R-CNN', 'mask-rcnn', 'mask-rcnn')):
        own, swin = (found.row(part, f'{group}/{name}') for name in ('dyvit', 'swin'))
        rows.append([title, str(own.get('batch', '')), escaped(own.get('note') or number(own.get('images_per_second'), 1)),
                     number(ratio(own, f'{group}/swin')), number(swin.get('images_per_second'), 1),
                     *(_gib(row.get('step_bytes')) for row in (own, swin))])
    return markdown_table(['', 'images', 'DyViT, images/s', '× Swin', 'Swin, images/s', 'DyViT, GiB', 'Swin, GiB'], rows,
                          numbers=6)


def attention(found: Results) -> str:
    """Attention's kernel."""
    first = found.batches[0]
    default = found.step('coma-frozen', first, False)
    flash = found.row('attention', 'pretrain/coma-frozen', batch=first)
    kernels = found.of('smoke', 'checks').get('kernels of attention', {}).get('found', {})
    rows = [['as PyTorch chooses', ', '.join(f'`{name}`' for name in kernels.get('bf16', ())), *_speed_cells(default)],
            ['with `TORCH_CUDNN_SDPA_DEPRIORITIZED=1`', '', *_speed_cells(flash)]]
    return markdown_table(["a step of CoMA `'frozen'`", 'kernels in bf16', 'images/s', '× MAE'], rows, numbers=2)


def _speed_cells(row: dict) -> list[str]:
    return [number(row.get('images_per_second'), 0), number(ratio(row, MAE))]


def resumed(found: Results) -> str:
    """Exact resume."""
    rows = []
    for title, part in (('as it is', 'resume'), ('`randomness.deterministic=True`', 'resume-deterministic')):
        measured = found.of(part, 'resume')
        rows.append([title, *(small(measured.get(name, {}).get('largest')) for name in ('again', 'resumed'))])
    return ('The largest difference of any tensor of weights and optimiser from those of a run that was left alone.\n\n'
            + markdown_table(['', 'the same run again', 'resumed in mid-epoch'], rows, numbers=2))


def losses(found: Results) -> str:
    """Losses at the same updates."""
    rows = [[name, escaped(one['ended']), str(one.get('updates', '')), number(one.get('last'), 4),
             small(one.get('difference'))]
            for name, one in found.of('losses', 'losses').get('runs', {}).items()]
    return ('Of tiny runs on CoMA-Shapes: the mean loss of the last fifth, and the mean relative difference from float32 at '
            'the same update. What is no farther away than another seed makes no difference that counts.\n\n'
            + markdown_table(['', 'how it ended', 'updates', 'loss at the end', 'difference'], rows or [[''] * 5],
                             numbers=3))


def determinism(found: Results) -> str:
    """Operators without deterministic kernels."""
    rows = [[name, ', '.join(f'`{one}`' for one in measured['operators']) or 'none', small(measured['largest'])]
            for name, measured in found.of('determinism', 'determinism').items()]
    return ('The last column is the largest difference of the weights after the same two steps, without deterministic '
            'mode.\n\n' + markdown_table(['step', 'operators', 'difference'], rows or [[''] * 3], numbers=1))


def tests(found: Results) -> str:
    """pytest -m gpu."""
    measured = found.of('tests', 'tests')
    row = [str(measured.get(key, '')) for key in ('tests', 'failures', 'errors', 'skipped')]
    failed = ''.join(f'- failed: {escaped(name)}\n' for name in measured.get('failed', ()))
    return markdown_table(['tests', 'failures', 'errors', 'skipped'], [row], numbers=4) + (f'\n{failed}' if failed else '')


def page_name(found: dict) -> str:
    """The page's name in docs/results, without suffix: gpu_h100 for 'NVIDIA H100 80GB HBM3'."""
    words = [word for word in re.findall(r'[a-z0-9]+', found.get('card', '').lower()) if word not in ('nvidia', 'geforce')]
    numbered = next((index for index, word in enumerate(words) if re.search(r'\d', word)), len(words))
    return '_'.join(['gpu', *words[:numbered + 1]])


def main() -> None:
    """Print the page, or put it into docs/results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('results', type=Path, metavar='results.json')
    parser.add_argument('--write', action='store_true', help='write docs/results/gpu_CARD.json and .md')
    args = parser.parse_args()
    text = args.results.read_text()
    page = summary(json.loads(text))
    if not args.write:
        print(page)
        return
    target = ROOT / 'docs/results' / page_name(json.loads(text))
    for suffix, content in (('.json', text), ('.md', page)):
        write_whole(target.with_suffix(suffix), content)
        print(f'Written: {target.with_suffix(suffix)}')


if __name__ == '__main__':
    main()
