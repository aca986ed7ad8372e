"""tools/benchmark.py dataload on a few small images."""
import argparse
import json

import pytest
from PIL import Image

from coma_mm.benchmark.speed import dataload
from coma_mm.commands.benchmark import dataload as command
from coma_mm.errors import UserError

CONFIG = """
default_scope = 'mmpretrain'
model = dict(type='ImageClassifier')
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='ImageFolder', data_root='images', pipeline=[
        dict(type='LoadRandomResizedCrop', scale=64), dict(type='PatchMask'), dict(type='PackMaskedImage')]))
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Function that runs the subcommand in a folder with a config and images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'images').mkdir()
    for index in range(3):
        Image.new('RGB', (70, 50)).save(tmp_path / f'images/{index}.jpg')
    (tmp_path / 'config.py').write_text(CONFIG)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return lambda *args: dataload.run(parser.parse_args(['config.py', *args]))


def test_measurements_are_printed_and_written(run, tmp_path, capsys):
    run('--workers', '0', '1', '--batches', '3', '--repeats', '2', '--step', '1', '--out', 'a/b.json')
    found = json.loads((tmp_path / 'a/b.json').read_text())
    assert [one['workers'] for one in found['results']] == [0, 1] and found['batch_size'] == 2
    for one in found['results']:
        for name in ('ours', 'peer'):
            assert one[name]['images_per_s'] > 0 and one[name]['wait_ms'] > 0 and len(one[name]['repeats']) == 2
        assert one['ratio'] > 0 and (one['cpu_ratio'] is None) == (one['workers'] == 1)
    text = capsys.readouterr().out
    assert all(word in text for word in ('workers', 'ratio', 'peer waits'))


def test_the_peer_is_mmpretrains_pipeline_on_the_same_files(run):
    loader = dict(batch_size=2, dataset=dict(type='ImageFolder', data_root='images', part='train', pipeline=[]))
    peer = dataload.peer_dataloader(loader)['dataset']
    assert [step['type'] for step in peer['pipeline']] == [
        'LoadImageFromFile', 'RandomResizedCrop', 'RandomFlip', 'PackInputs']
    assert peer['part'] == 'train' and peer['data_root'] == 'images' and loader['dataset']['pipeline'] == []
    with pytest.raises(UserError, match='--files'):
        dataload.peer_dataloader(dict(dataset=dict(type='PackedImages', data_root='pack')))


@pytest.mark.parametrize('options, reason', [
    (['--data-root', 'none'], 'none does not exist')])
def test_bad_options(run, options, reason):
    with pytest.raises(UserError, match=reason):
        run(*options)
