"""A tiny study on noise, from its first run to its page, and the parts of its images."""
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from coma_mm.benchmark.complement import study as complement
from coma_mm.benchmark.complement.images import Pack
from coma_mm.benchmark.small_scale import images, page, study
from coma_mm.benchmark.small_scale.arms import ARMS
from coma_mm.errors import Stopped, UserError

TINY = dict(arch=dict(dims=(8, 16, 16, 16), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
            decoder=dict(embed_dims=16, depth=1, num_heads=1), batch=4, updates=2, fractions=(0., 1.))


def noise(count=24):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=generator)
    return Pack(pixels, torch.arange(count) % 2, torch.arange(20), torch.arange(6), torch.arange(20, count), 'noise')


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A function that makes a study of five arms and one seed."""
    monkeypatch.setattr(images, 'read_pack', lambda path, fit: noise())
    monkeypatch.setattr(complement.Trainer, 'save', lambda self, path: None)  # which waits for the disk
    monkeypatch.setattr(complement, 'environment', lambda: dict(Processor='one'))
    monkeypatch.setattr(complement, 'commit', lambda: 'c0ffee')
    monkeypatch.setattr(study, 'FINE_TUNING', dict(photographs=dict(epochs=1, batch=3)))
    arms = {name: replace(ARMS[name], changes={**TINY, **{key: value for key, value in ARMS[name].changes.items()
                                                          if key not in TINY}})
            for name in ('last', 'open-all', 'weighted', 'vit')}
    arms['last-long'] = replace(arms['last'], group='fusion', budget=2., finetuned=(2., ))

    def make(folder=tmp_path, **options):
        return study.SmallStudy('photographs', folder, tmp_path / 'facts.json', arms=arms, seeds=(0, ), **options)

    return make


def test_a_study_runs_to_its_end_and_its_facts_make_the_page(tiny, monkeypatch, tmp_path, capsys):
    with pytest.raises(Stopped):
        tiny().run(minutes=0.)
    assert tiny(only=['leak']).run()
    runs = json.loads((tmp_path / 'facts.json').read_text())['pretraining']['runs']
    assert set(runs) == {'last-0-x1', 'open-all-0-x1'}
    monkeypatch.setattr(complement, 'environment', lambda: dict(Processor='another', GPU='none'))
    elsewhere = tiny(tmp_path / 'elsewhere')  # with the file of facts, without its runs
    assert elsewhere.run()
    assert not (elsewhere.folder / 'last-0-x1/weights-1.pth').exists()
    assert (elsewhere.folder / 'weighted-0-x1/weights-1.pth').exists()
    assert json.loads((tmp_path / 'facts.json').read_text())['pretraining']['runs'].items() > runs.items()
    facts = json.loads((tmp_path / 'facts.json').read_text())['pretraining']
    assert len(facts['runs']) == 5 and facts['arms']['last']['updates'] == 2 and facts['arms']['last-long']['updates'] == 4
    for run in facts['runs'].values():
        arm = run['settings']['arm']
        assert list(run['points']) == ['0', '1', *(['2'] if arm == 'last-long' else [])]
        for point in run['points'].values():
            assert len(point['linear']) == 4 and point['seen'] > 0
            assert ('closed' in point, 'stage_weights' in point) == (arm == 'open-all', arm == 'weighted')
        tuned = [budget for budget, point in run['points'].items() if 'finetuned' in point]
        assert tuned == {'last': ['0', '1'], 'last-long': ['2']}.get(arm, ['1'])
    points = {name: run['points'] for name, run in facts['runs'].items()}
    assert points['last-0-x1'].keys() < points['last-long-0-x1'].keys()
    assert points['last-0-x1']['1']['linear'] == points['last-long-0-x1']['1']['linear']
    capsys.readouterr()
    assert tiny().run() and not capsys.readouterr().out  # nothing is left to do

    target = tmp_path / 'page.md'
    target.write_text('# Title\n\n<!-- small-study:results -->\nold\n<!-- /small-study -->\n\n## More\n')
    page.write_page(tmp_path / 'facts.json', target)
    text = target.read_text()
    assert text.startswith('# Title') and text.endswith('## More\n') and 'old' not in text
    assert '| `open-all` | leak open, all stages | 1 |' in text and 'leak closed, last stage, as above' in text
    assert 'error, trained on | held out, leak closed afterwards | fine-tuned |' in text
    assert re.search(r'the weights that `last` starts from have \d+\.\d %', text)
    assert re.search(r'`weighted` has learned, seed by seed \(1 at the start\): (\d\.\d\d(, |; |\.)){4}', text)
    assert text.count('Processor') == 2 and 'Processor: one; runs: 2. Processor: another; GPU: none; runs: 3.' in text
    assert (tmp_path / page.FIGURE).stat().st_size > 1000
    page.write_page(tmp_path / 'facts.json', target)
    assert target.read_text() == text


def test_only_takes_the_names_of_arms_and_groups(tiny):
    assert [job.name for job in next(tiny(only=['vit', 'leak']).phases({}))] == [
        'last-0-x1', 'open-all-0-x1', 'vit-0-x1']
    with pytest.raises(UserError, match='--only.*lost'):
        tiny(only=['lost'])


def test_probes_are_tested_on_images_that_they_are_not_fitted_on(tiny):
    data = tiny().images(ARMS['last'])
    assert data.counts() == dict(pretraining=20, fit=6, test=18, held_out=4, digest='noise')
    parts = [{bytes(one.numpy()) for one in data.probes.images[ids]} for ids in (data.probes.fit, data.probes.test)]
    assert not parts[0] & parts[1] and data.seen.held_out.numel() == 20


def test_photographs_are_enlarged_for_an_arm_of_more_patches(tiny):
    plain, large = (tiny().images(ARMS[name]) for name in ('all', 'all-25'))
    assert large.train.images.shape == (20, 3, 80, 80) and large.train.images.dtype == torch.uint8
    assert large.counts() == plain.counts()
    means = [one.probes.images.float().mean((2, 3)) for one in (plain, large)]
    assert (means[0] - means[1]).abs().max() < 3


def test_scenes_are_drawn_once_and_unlabelled_ones_are_trained_on(monkeypatch, tmp_path):
    monkeypatch.setattr(images, 'SCENES', dict(unlabelled=3, train=5, val=5, test=5))
    data = images.scenes(tmp_path / 'scenes', 32)
    assert data.counts() == dict(pretraining=3, fit=5, test=10, held_out=5, digest='easy scenes, 32 px, seed 0')
    assert data.probes.labels.tolist() == [0, 1, 2, 3, 4] * 3 and data.probes.images.shape[1:] == (3, 32, 32)
    assert torch.equal(images.scenes(tmp_path / 'scenes', 32).probes.images, data.probes.images)


def test_a_spread_is_told_where_there_is_one():
    assert page.spread(np.array([3.])) == '3.0' and page.spread(np.array([1., 2., 3.])) == '2.0 ± 1.0'


def test_an_arm_is_compared_with_its_base_over_the_seeds_that_both_have():
    def run(arm, seed, linear, knn, **end):
        start = dict(linear=[0.] * 4, knn=[0.] * 4)
        return dict(settings=dict(arm=arm, seed=seed),
                    points={'0': start, '1': dict(linear=[0., 0., 0., linear], knn=[0., 0., 0., knn], **end)})

    runs = [run('last', 2, 10., 5., finetuned=20.), run('last', 0, 10., 5., finetuned=20.), run('last', 1, 90., 5.),
            run('all', 0, 11., 4., finetuned=21.), run('all', 2, 13., 4., finetuned=22.), run('open-all', 0, 1., 1.)]
    results = page.Results(dict(arms=dict.fromkeys(('last', 'all', 'open-all')), runs=dict(enumerate(runs))))
    header, _, *rows = page.differences(results, ['last', 'all', 'open-all'])[0].strip().splitlines()
    assert header.endswith('| pairs | linear probe of stage 4 | k-NN of stage 4 | fine-tuned |')
    half = 12.706 * 2**.5 / 2**.5  # Student's t of one degree of freedom, a standard deviation of the root of 2, two pairs
    assert rows == [f'| `all` - `last` | 2 | 2.0 ({2 - half:.1f}, {2 + half:.1f}) | -1.0 (-1.0, -1.0) | '
                    f'1.5 ({1.5 - half / 2:.1f}, {1.5 + half / 2:.1f}) |']
    del runs[0]['points']['1']['finetuned']
    assert page.differences(results, ['all'])[0].strip().splitlines()[-1].endswith('| -1.0 (-1.0, -1.0) |  |')


def test_a_page_without_its_place_or_facts_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match='run the study first'):
        page.write_page(tmp_path / 'none.json', tmp_path / 'page.md')
    (tmp_path / 'facts.json').write_text('{}')
    (tmp_path / 'page.md').write_text('nothing')
    with pytest.raises(UserError, match='expected <!--'):
        page.write_page(tmp_path / 'facts.json', tmp_path / 'page.md')
