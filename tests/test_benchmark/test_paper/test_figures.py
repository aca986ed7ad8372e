"""Fig. 1, Fig. 5 and the memory table from collected runs."""
import json

import pandas
import pytest
from mmengine.visualization import LocalVisBackend

from coma_mm.benchmark.paper.ablation import ablation, write
from coma_mm.benchmark.paper.collect import COLUMNS, _typed
from coma_mm.benchmark.paper.efficiency import efficiency, memory_tables, read_speed
from coma_mm.benchmark.paper.series import fine_tunings, series
from coma_mm.errors import UserError

FINE_TUNING = dict(
    task='classification', dataset='ImageNet-1K', split='val', metric='accuracy/top1', status='finished', method='CoMA',
    backbone='DyViT-B', pretrain_epochs=300, complement='frozen', mask_ratio=.6, mask_sampler='UniformMaskSampler',
    decoder='ViTDecoder', decoder_depth=8, epochs=100, image_size=224, frozen_stages=0, global_batch=1024)


def frame(*rows):
    """What `collect` would give."""
    rows = [dict(FINE_TUNING, run=f'run{i}') | row for i, row in enumerate(rows)]
    return _typed(pandas.DataFrame(rows, columns=COLUMNS))


def test_seeds_are_averaged_and_diverged_runs_are_not():
    rows = fine_tunings(frame(
        dict(value=80., seed=0), dict(value=82., seed=1), dict(value=float('nan'), seed=2, status='diverged'),
        dict(value=70., mask_ratio=.8), dict(value=1., status='running'),
        dict(value=99., frozen_stages=4), dict(value=98., method='scratch')))
    line, = series(rows, 'mask_ratio')
    assert [(p.x, p.mean, p.half_width and round(p.half_width, 3), len(p.runs)) for p in line.points] == [
        (.6, 81., 12.706, 2), (.8, 70., None, 1)]
    assert line.diverged == [.6] and line.label == 'CoMA, DyViT-B'


def test_a_diverged_run_without_an_accuracy_and_the_test_split():
    rows = fine_tunings(frame(
        dict(value=float('nan'), status='diverged', metric='loss', split='train'),
        dict(run='one', split='val', value=80.), dict(run='one', split='test', value=79.)))
    line, = series(rows, 'decoder_depth')
    assert [(p.x, p.mean) for p in line.points] == [(8, 79.)] and line.diverged == [8]


def test_tests_and_validations_are_not_mixed():
    one = [dict(run='one', split='val', value=80.), dict(run='one', split='test', value=79.)]
    two = dict(run='two', split='val', value=82., decoder_depth=2)
    assert sorted(fine_tunings(frame(*one, two))['value']) == [80., 82.]
    assert sorted(fine_tunings(frame(*one, two, two | dict(split='test', value=81.)))['value']) == [79., 81.]


def test_other_settings_are_other_lines():
    rows = fine_tunings(frame(*(dict(value=value, decoder=decoder, decoder_depth=depth) for value, decoder, depth in (
        (80., 'ViTDecoder', 2), (81., 'ViTDecoder', 8), (82., 'ConvNeXtDecoder', 2), (83., 'ConvNeXtDecoder', 8)))))
    assert {line.label: [p.mean for p in line.points] for line in series(rows, 'decoder_depth')} == {
        'ViT decoder': [80., 81.], 'ConvNeXt decoder': [82., 83.]}


def test_runs_of_other_settings_are_not_averaged_and_copies_count_once():
    rows = fine_tunings(frame(
        dict(value=80., seed=0, config_hash='a'), dict(value=82., seed=1, config_hash='a'),
        dict(value=82., seed=1, config_hash='a'), dict(value=60., seed=2, config_hash='b')))
    line, = series(rows, 'mask_ratio')
    assert [(p.x, p.mean, len(p.runs)) for p in line.points] == [(.6, 81., 2), (.6, 60., 1)]


def test_empty_panels_say_how_to_fill_them(tmp_path):
    picture = ablation(frame(), tmp_path)
    assert [ax.texts[0].get_text().splitlines()[0] for ax in picture.image.axes] == ['no run yet:'] * 3
    assert all('tools/train.py' in ax.texts[0].get_text() for ax in picture.image.axes)
    assert picture.alt.count('no run yet') == 3
    write(picture, tmp_path / 'out', 'ablation')
    assert picture.alt in (tmp_path / 'out/ablation.md').read_text()
    assert picture.alt.encode() in (tmp_path / 'out/ablation.png').read_bytes()


def pretraining(tmp_path, name, losses, decoder, status='finished'):
    """A row of `collect`, and the run's log."""
    backend = LocalVisBackend(str(tmp_path / name / '20260101_000000/vis_data'))
    for step, loss in enumerate(losses, 1):
        backend.add_scalars(dict(lr=.1, loss=loss, iter=10 * step), step=10 * step)
        backend.add_scalars({'reconstruction/masked': loss}, step=step)
    return dict(task='pretraining', dataset='ImageNet-1K', run=name, split='train', metric='loss', value=losses[-1],
                status=status, method='CoMA', backbone='DyViT-B', mask_ratio=.6, complement='frozen', decoder=decoder,
                decoder_depth=8, epochs=300, global_batch=4096, hours=28.5)


def test_losses_by_decoder(tmp_path):
    picture = ablation(frame(
        pretraining(tmp_path, 'vit', [3., 2.], 'ViTDecoder'), pretraining(tmp_path, 'vit2', [3.5, 2.5], 'ViTDecoder'),
        pretraining(tmp_path, 'convnext', [1., .5, float('nan')], 'ConvNeXtDecoder', 'diverged')), tmp_path)
    middle = picture.image.axes[1]
    curves = [line.get_xydata().tolist() for line in middle.lines if line.get_linestyle() != 'None']
    assert curves == [[[10, 3.], [20, 2.]], [[10, 3.5], [20, 2.5]], [[10, 1.], [20, .5]]]
    assert [line.get_xydata().tolist() for line in middle.lines if line.get_marker() == 'x'] == [[[20, .5]]]
    assert 'ConvNeXt decoder ends at 0.500 at iteration 20 (diverged)' in picture.caption


def test_efficiency(tmp_path):
    picture = efficiency(frame())
    assert 'CoMA, DyViT-B (paper): 84.6 after 800 epochs, 76 h' in picture.alt
    assert 'MAE, ViT-B (paper): 83.6 after 1600 epochs;' in picture.alt  # of unknown time
    picture = efficiency(frame(
        pretraining(tmp_path, 'vit', [1.], 'ViTDecoder'), dict(value=84., pretrain_run='vit'),
        dict(value=float('nan'), status='diverged')))
    assert 'CoMA, DyViT-B: 84.0 after 300 epochs, 28.5 h' in picture.alt and 'diverged at 300 epochs' in picture.alt
    other = efficiency(frame(dict(value=50., dataset='CoMA-Shapes')))
    assert 'paper' not in other.alt and 'CoMA-Shapes' in other.alt


def test_memory(tmp_path):
    counted = [dict(name=name, evaluation_bytes=copy, state_bytes=2**31, saved_bytes=2**30, step_peak_bytes=2**32)
               for name, copy in (('CoMA', 2**30), ('MAE', 0))]
    text = memory_tables(counted, {})
    assert '| CoMA | 2.00 | 1.00 | 1.00 | 4.00 |' in text and '| MAE | 2.00 | none |' in text and 'none yet' in text
    row = dict(title='MAE ViT', arch='tiny', size=64, batch=2, precision='fp32', compiled=False, weight_bytes=2**20,
               optimizer_bytes=2**20, step_bytes=2**21, median_seconds=2., seconds=[2., 2.], ratios={})
    path = tmp_path / 'speed.json'
    path.write_text(json.dumps(dict(Processor='x', rows=[
        dict(row, name='pretrain/mae-vit'), dict(row, name='inference/vit'),
        dict(row, name='pretrain/coma-frozen', title='CoMA', step_bytes=2**22, median_seconds=1.)])))
    text = memory_tables(counted, read_speed(path))
    assert '| MAE ViT | 2 | 4 | 2.000 | 1.00 | 1.00 |' in text
    assert '| CoMA | 2 | 6 | 1.000 | 1.50 | 0.75 |' in text
    path.write_text('[]')
    with pytest.raises(UserError, match='expected a speed.json'):
        read_speed(path)
