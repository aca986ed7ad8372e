"""The table of parameters, operations and memory."""
import csv
from pathlib import Path

import pandas
import pytest
import torch
from mmpretrain.registry import MODELS

from coma_mm.benchmark.counting.complexity import COLUMNS, NOTES, PEERS, count
from coma_mm.benchmark.counting.counting import Operations
from coma_mm.benchmark.paper.efficiency import CONFIGS, count_memory, memory_tables
from coma_mm.benchmark.paper.numbers import paper

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize('name', ['DyViT-S', 'DyViT-B', 'ViT-B'])
def test_the_papers_numbers(name):
    with torch.device('meta'):
        model, x = MODELS.build(PEERS[name]), torch.empty(1, 3, 224, 224)
    with Operations([*model.parameters()]) as operations, torch.no_grad():
        model.eval()
        model(x)
    row = next(row for row in paper()['tables']['table2']['rows'] if row['backbone'] == name)
    classifier = 1000 * 769 if name == 'ViT-B' else 0  # the paper's 87 M have one
    assert round((sum(p.numel() for p in model.parameters()) + classifier) / 1e6) == row['params']
    assert round(operations.macs()['attention'] / 1e9) == row['flops']


@pytest.mark.parametrize('config', [
    'shapes/coma_dyvit-tiny_shapes.py', 'shapes/dyvit-tiny_scratch_shapes.py',
    'shapes/upernet_dyvit-tiny_scratch_shapes.py', 'shapes/mask-rcnn_dyvit-tiny_scratch_shapes.py'])
def test_kinds_of_models(config, tmp_path, run_tool):
    out = tmp_path / 'table.csv'
    run_tool('benchmark.py', 'complexity', ROOT / 'configs' / config, '--size', 64, '--batch-size', 2, '--out', out)
    backbone, whole = pandas.read_csv(out).to_dict('records')
    assert backbone['parameters'] < whole['parameters'] and 1e6 < whole['parameters'] < 1e7
    assert backbone['macs_layers'] < backbone['macs_attention'] < backbone['step_macs']
    assert whole['state_bytes'] + whole['saved_bytes'] < whole['step_peak_bytes'] * 1.1
    assert whole['precision'] == 'float32' and whole['batch'] == 2
    assert 'latency' not in whole


@pytest.mark.parametrize('suffix', ['md', 'csv'])
def test_files(suffix, tmp_path, run_tool):
    out = tmp_path / f'table.{suffix}'
    printed = run_tool('benchmark.py', 'complexity', ROOT / 'configs/shapes/dyvit-tiny_scratch_shapes.py', '--size', 32,
                       '--batch-size', 1, '--latency', '--out', out)
    text = out.read_text()
    if suffix == 'csv':
        row = next(csv.DictReader(text.splitlines()))
        assert row['part'] == 'backbone' and float(row['images_per_second']) == pytest.approx(1 / float(row['latency']))
    else:
        assert text.splitlines()[0].count('|') == text.splitlines()[2].count('|') == text.splitlines()[1].count('|')
        assert all(note in text for note in NOTES) and 'Processor' in text
    assert all(note in ' '.join(printed.split()) for note in NOTES)


def test_the_docs_page_has_what_is_counted():
    page = (ROOT / 'docs/benchmark.md').read_text(encoding='utf-8')
    (row, *_), = count('DyViT-S')
    shown = [COLUMNS[key][1](row[key]) for key in ('parameters', 'macs_layers', 'macs_attention', 'paper_parameters',
                                                   'paper_flops', 'step_macs')]
    assert f'| DyViT-S | {" | ".join(shown)} | {row["saved_bytes"] / 2**20:.0f} |' in page
    assert memory_tables(count_memory(CONFIGS[:1]), {}).splitlines()[4] in page


@pytest.mark.parametrize('arguments, message', [
    (['VitB'], "did you mean 'ViT-B'?"),
    (['ResNet-9000'], 'expected one of DyViT-S'),
    (['no/such.py'], 'no config file no/such.py'),
    (['ViT-B', '--out', 'table.xlsx'], 'expected a name that ends with .md, .csv'),
    (['ViT-B', '--batch-size', '0'], '--batch-size=0: expected a whole number, 1 or more'),
    (['DyViT-S', '--size', '0'], '--size=0: expected a whole number, 1 or more'),
])
def test_bad_input(arguments, message, run_tool):
    assert message in run_tool('benchmark.py', 'complexity', *arguments, code=2)
