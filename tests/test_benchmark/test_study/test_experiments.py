"""Sequences of runs go on where they were; the demo as a user starts, kills and restarts it."""
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from pandas import DataFrame
from rich.console import Console

from coma_mm.benchmark.paper import collect as collect_module
from coma_mm.benchmark.paper.collect import collect
from coma_mm.benchmark.study import experiments
from coma_mm.benchmark.study.demo import _check_results
from coma_mm.benchmark.study.experiments import ARMS, RECIPES, TASKS, Experiment, Run, pretrainings_of
from coma_mm.benchmark.study.study import run_study
from coma_mm.config.read import parse_options, read_config
from coma_mm.errors import UserError
from coma_mm.progress import Progress

ROOT = Path(__file__).parents[3]


# ---------------------------------------------------------------------------------------------------------------------
# Without training
# ---------------------------------------------------------------------------------------------------------------------
def test_a_run_is_a_command_that_resumes():
    run = Run('name', 'Title', 'some_config', epochs=8, seed=3, options={'a.b': 1, 'train_cfg.val_interval': 7})
    assert run.command(Path('/out')) == [
        'train', 'coma_mm::shapes/some_config.py', '--work-dir', '/out/name', '--resume', 'auto', '--cfg-options',
        'epochs=8', 'train_cfg.val_interval=7', 'randomness.seed=3', 'a.b=1'
    ]
    assert run.checkpoint(Path('/out')) == Path('/out/name/epoch_8.pth')


@pytest.mark.parametrize('level', RECIPES)
def test_both_arms_have_the_same_budget_and_seed(level):
    recipe = RECIPES[level]
    bases = recipe.pretrain(2, {'y': 2})
    runs = recipe.fine_tunings(bases, seed=4, options={'x': 1})
    assert set(runs) == {(task, arm) for task, _ in TASKS for arm in ARMS}
    assert list(runs)[:2] == [('Mask R-CNN', 'scratch'), ('UperNet', 'scratch')]  # the longest of those that need not wait
    for (task, arm), run in runs.items():
        assert (run.epochs, run.seed, run.options) == (recipe.epochs[task], 4, {'x': 1})
        assert run.base is (bases[task] if arm == 'coma' else None)
        assert (ROOT / f'configs/shapes/{run.config}.py').exists() and run.config.endswith('-easy') == (level == 'easy')
    pretrainings = pretrainings_of(runs.values())
    assert {run.config for run in pretrainings} == {recipe.pretraining, *recipe.own_pretraining.values()}
    assert len({run.name for run in (*pretrainings, *runs.values())}) == len(runs) + len(pretrainings)
    for run in pretrainings:
        assert (run.seed, run.epochs, run.options) == (2, recipe.epochs['Pre-training'], {'y': 2})
        assert (ROOT / f'configs/shapes/{run.config}.py').exists()


@pytest.mark.parametrize(('complement', 'interval'), [('frozen', 10), ('latent', 1), ('full', 1)])
def test_a_complement_that_teaches_does_so_in_every_update_of_a_study(monkeypatch, tmp_path, complement, interval):
    runs = []
    monkeypatch.setattr(experiments, 'make_shapes', lambda *args, **kwargs: None)
    monkeypatch.setattr(Experiment, 'all', lambda self, all_of_them, do: runs.extend(all_of_them) or {})
    with pytest.raises(KeyError):  # there is no result to report
        run_study(str(tmp_path), seeds=1, complement=complement)
    for run in runs:
        if run.base is None and run.name.startswith('pretrain'):
            config = read_config(str(ROOT / f'configs/shapes/{run.config}.py'),
                                 parse_options([f'{key}={value}' for key, value in run.options.items()]))
            hook, = config.custom_hooks
            assert (config.model.complement, hook.type, hook.interval) == (complement, 'EvaluationModelHook', interval)
    assert sum(run.name.startswith('pretrain') for run in runs) == 2


def test_a_recipe_is_scaled():
    recipe = RECIPES['easy'].scaled(.05, test=0)
    images = {split: count // 20 for split, count in RECIPES['easy'].images.items()}
    assert recipe.images == dict(images, val=max(16, images['val']), test=0)
    assert recipe.epochs['Mask R-CNN'] == 2 and recipe.epochs['Pre-training'] == RECIPES['easy'].epochs['Pre-training'] // 10


TOOL = '''
import os, signal, sys, time
from pathlib import Path
work_dir = Path(sys.argv[sys.argv.index('--work-dir') + 1])
count = work_dir / 'count'
count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
print('Epoch(train)  [1][ 5/10]  eta: 0:00:01')
if 'fail=True' in sys.argv:
    print('error: what is wrong', file=sys.stderr)
    sys.exit(2)
if 'killed=True' in sys.argv:
    os.kill(os.getpid(), signal.SIGKILL)
if 'stopped=True' in sys.argv:
    sys.exit(75)
if 'full=True' in sys.argv:
    sys.exit(0)
if 'pause=True' in sys.argv:
    time.sleep(1)
if 'wait=True' in sys.argv:
    time.sleep(60)
(work_dir / 'epoch_2.pth').write_text('weights')
'''


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """An experiment with a tool that counts its starts in place of `coma-mm`."""
    (tmp_path / 'tool.py').write_text(TOOL)
    monkeypatch.setattr(experiments, 'PROGRAM', (sys.executable, str(tmp_path / 'tool.py')))
    data = tmp_path / 'data'
    data.mkdir()
    (data / 'coma_shapes.json').write_text(json.dumps(dict(version=1, parameters=dict(seed=0, counts=dict(train=32)))))
    return Experiment(tmp_path / 'out', data, threads=1)


def starts(experiment, run):
    return int((experiment.folder / run.name / 'count').read_text())


def test_what_is_done_is_not_repeated_and_what_changed_is_done_afresh(experiment, tmp_path):
    base = Run('base', 'Base', 'config', epochs=2)
    pretrained = base.checkpoint(experiment.folder)
    pretrained.parent.mkdir(parents=True)
    pretrained.write_text('weights')
    run = Run('run', 'Run', 'config', epochs=2, base=base)
    seconds = experiment.train(run)
    assert 0 < seconds == experiment.train(run) and starts(experiment, run) == 1
    run.checkpoint(experiment.folder).unlink()  # done, but its result is gone: the tool goes on from what there is
    assert experiment.train(run) > seconds and starts(experiment, run) == 2
    # A record without inputs, of an earlier version, counts as the same.
    record = experiment.folder / 'run' / 'run.json'
    old = json.loads(record.read_text())
    del old['inputs']
    record.write_text(json.dumps(old))
    experiment.train(run)
    assert starts(experiment, run) == 2

    (tmp_path / 'data' / 'coma_shapes.json').write_text(json.dumps(dict(version=1, parameters=dict(seed=1))))
    record.write_text(json.dumps(dict(old, inputs={})))
    (experiment.folder / 'run' / 'notes.txt').write_text('mine')
    for change in (lambda: None, lambda: pretrained.write_text('others')):
        change()
        experiment.train(run)
        assert starts(experiment, run) == 1  # in an empty folder
        (experiment.folder / 'run' / 'count').write_text('7')
        experiment.train(run)
        assert starts(experiment, run) == 7
    # Nothing of the earlier runs is lost, and nobody takes them for runs of today.
    assert (experiment.folder / '.run.1' / 'notes.txt').read_text() == 'mine'
    assert {path.name for path in experiment.folder.iterdir()} == {'base', 'run', '.run.1', '.run.2'}
    assert {path.name for path in collect_module._find(experiment.folder)[0]} - {'base'} == {'run'}
    # From scratch, the pre-training is not an input.
    scratch = Run('scratch', 'Run', 'config', epochs=2)
    for text in ('one', 'two'):
        pretrained.write_text(text)
        experiment.train(scratch)
    assert starts(experiment, scratch) == 1
    experiment.train(Run('scratch', 'Run', 'config', epochs=2, options={'lr': 1}))
    assert (experiment.folder / 'scratch' / 'count').read_text() == '1'
    assert json.loads((experiment.folder / 'scratch' / 'run.json').read_text())['command'].endswith('lr=1')


def test_a_failed_run_is_named_with_its_error_and_done_again(experiment):
    run = Run('run', 'Run', 'config', epochs=2, options={'fail': True})
    expected = r'^Run, whose log is .*/run/log.txt, failed with exit code 2: what is wrong\. There is no result yet'
    for number in (1, 2):
        with pytest.raises(UserError, match=expected):
            experiment.train(run)
        assert starts(experiment, run) == number
    assert 'error: what is wrong' in (experiment.folder / 'run' / 'log.txt').read_text()


@pytest.mark.parametrize('how, expected', [
    ('killed', r'was killed by SIGKILL \(out of memory\?\)'), ('stopped', 'was stopped by a signal'),
    ('full', r'has ended without epoch_2.pth; its log, .*/run/log.txt, may say why'),
])
def test_a_run_that_does_not_come_to_its_end_is_not_done(experiment, how, expected):
    run = Run('run', 'Run', 'config', epochs=.5, options={how: True})  # which the tool's first line is the end of
    out = StringIO()
    run.checkpoint = lambda folder: folder / 'run/epoch_2.pth'
    experiment.progress = Progress(Console(file=out))
    with pytest.raises(UserError, match=rf'^Run.* {expected}\. There is no result yet: the same command, started again'), \
            experiment.progress:
        experiment.train(run)
    assert 'done' not in out.getvalue()
    assert 'done' not in json.loads((experiment.folder / 'run/run.json').read_text())
    with pytest.raises(UserError, match='its test, was killed by SIGKILL|its test, was stopped|its test, failed') as error:
        experiment.test(run)
    assert '\n' not in str(error.value)


def test_scenes_that_are_not_made_are_named(experiment, tmp_path):
    (tmp_path / 'tool.py').write_text('import os, signal; os.kill(os.getpid(), signal.SIGTERM)')
    with pytest.raises(UserError, match=r'coma-mm make_shapes .* was killed by SIGTERM\. There is no result yet'):
        experiments.make_shapes(tmp_path / 'scenes', 'easy', 64, train=2)


def test_a_demo_does_not_report_what_is_not_there(experiment):
    runs = RECIPES['easy'].fine_tunings(RECIPES['easy'].pretrain())
    for run in runs.values():
        (experiment.folder / run.name).mkdir(parents=True)
        (experiment.folder / run.name / 'run.json').write_text(json.dumps(dict(seconds=1, done=True)))
    metrics = dict(zip((task for task, _ in TASKS), (['accuracy/top1'], ['mIoU'], ['coco/bbox_mAP', 'coco/segm_mAP']),
                       strict=True))
    rows = [dict(run=run.name, metric=metric, split='val', status='finished')
            for (task, _), run in runs.items() for metric in metrics[task]]
    _check_results(experiment, runs, DataFrame(rows))
    names = [runs['Classification', 'coma'].name, runs['Mask R-CNN', 'scratch'].name]
    for change, state in ((dict(status='stopped'), 'stopped'), (dict(split='train'), 'finished')):
        changed = [row | change if row['run'] in names else row for row in rows]
        expected = rf'Classification from CoMA, seed 0 \({state}\); Mask R-CNN from scratch, seed 0 \({state}\), in '
        with pytest.raises(UserError, match=expected):
            _check_results(experiment, dict(sorted(runs.items())), DataFrame(changed))
    undone = [run.name for run in runs.values()
              if 'done' not in json.loads((experiment.folder / run.name / 'run.json').read_text())]
    assert sorted(undone) == sorted(names)
    _check_results(experiment, runs, DataFrame([row | dict(status='diverged', split='train') for row in rows]))  # is said


def test_runs_go_side_by_side_and_one_that_starts_from_another_waits_for_it(experiment):
    experiment.jobs = 2
    base = Run('base', 'Base', 'config', epochs=2, options={'pause': True})
    scratch = [Run(f'scratch{number}', 'Scratch', 'config', 2) for number in range(2)]
    runs = [base, *scratch, Run('tuned', 'Tuned', 'config', 2, base=base)]
    done = []
    seconds = experiment.all(runs, lambda run: (experiment.train(run), done.append(run.name))[0])
    assert list(seconds) == [run.name for run in runs] and all(second > 0 for second in seconds.values())
    assert done[-2:] == ['base', 'tuned']


def test_a_run_that_fails_stops_the_others(experiment):
    experiment.jobs = 2
    long = Run('long', 'Long', 'config', 2, options={'wait': True})
    last = Run('last', 'Last', 'config', 2)
    start = time.monotonic()
    with pytest.raises(UserError, match='Failing, whose log is .*: what is wrong'):
        experiment.all([long, Run('failing', 'Failing', 'config', 2, options={'pause': True, 'fail': True}), last])
    assert time.monotonic() - start < 30 and not processes(str(experiment.folder / 'long'))
    assert not (experiment.folder / 'last').exists()


def test_a_silent_run_does_not_silence_the_experiment(experiment):
    out = StringIO()
    experiment.progress = Progress(Console(file=out), interval=.2)
    with experiment.progress:
        experiment.train(Run('run', 'Some run', 'config', epochs=2, options={'pause': True}))
    *during, last = out.getvalue().splitlines()
    assert len(during) >= 3 and re.fullmatch(r'Some run: 0.5 of 2 epochs, \d+ s so far', during[-1])
    assert re.fullmatch(r'Some run: \d+ s', last)


def processes(text):
    """list[int]: Processes with a text in their command."""
    found = []
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if text in path.read_text() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
        except OSError:  # ended meanwhile
            pass
    return found


def wait_until(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_process_stays_behind(experiment, tmp_path, number):
    def train():
        # A job in a shell's background, which these tests may be, inherits SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        experiment.all([Run('run', 'Run', 'config', 2, options=dict(wait=True))])

    process = multiprocessing.get_context('fork').Process(target=train)  # a new one would import for seconds
    process.start()
    record = tmp_path / 'out' / 'run' / 'run.json'
    wait_until(lambda: record.exists() and json.loads(record.read_text())['seconds'] > 0)
    child, = processes(str(tmp_path / 'out' / 'run'))
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode  # neither None nor 0
    wait_until(lambda: not processes(str(tmp_path / 'out' / 'run')), 20)
    assert 'done' not in json.loads(record.read_text())


# ---------------------------------------------------------------------------------------------------------------------
# The whole path
# ---------------------------------------------------------------------------------------------------------------------
class Page(HTMLParser):
    """What a report refers to, and its text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.headings, self.text, self.tag = [], [], '', None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tag = tag
        self.links += [value for name, value in attrs if name in ('src', 'href', 'srcset', 'data')]

    def handle_data(self, data):
        self.text += data
        if self.tag == 'h2' and data.strip():
            self.headings.append(data.strip())


def test_demo_goes_on_where_it_was_killed_and_reports(tmp_path):
    folder = tmp_path / 'demo'
    command = [sys.executable, 'tools/demo.py', '--budget', '0.016', '--work-dir', str(folder)]
    with open(tmp_path / 'first.txt', 'w') as out:
        demo = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT)
        # In the first run from the pre-training, after its first epoch.
        run = folder / 'dyvit-tiny_coma_seed0'
        wait_until(lambda: (run / 'last_checkpoint').exists() or demo.poll() is not None)
        demo.send_signal(signal.SIGKILL)
        assert demo.wait() == -signal.SIGKILL, (tmp_path / 'first.txt').read_text()
    wait_until(lambda: not processes(str(folder)), 20)
    assert not (run / 'epoch_2.pth').exists()
    before = (folder / 'pretrain_seed0' / 'epoch_2.pth').stat().st_mtime_ns

    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    text = finished.stdout
    assert finished.returncode == 0, text + finished.stderr
    # The first lines say what comes, how long it takes, and where there is something to look at.
    assert text.startswith('The demo draws scenes of 64 px') and 'about 1 min without a GPU' in text
    assert f'Twelve of the scenes: {folder}/data/preview.png' in text and (folder / 'data/preview.png').is_file()
    assert 'Pre-training with CoMA, seed 0: done before' in text
    assert (folder / 'pretrain_seed0' / 'epoch_2.pth').stat().st_mtime_ns == before
    log = (run / 'log.txt').read_text()
    # Its parent's death stops it like SIGTERM: it saves, if there is time.
    assert re.search(rf'Resuming from {run}/(epoch_1|stopped_\d+).pth', log) and 'resumed epoch: 1' in log
    assert len(re.findall(r'Saving checkpoint at 2 epochs', log)) == 1

    rows = [line for line in text.splitlines() if line.startswith('|')]
    assert len(rows) == 6 and [row.split('|')[2].strip() for row in rows[2:]] == [
        'top-1 accuracy', 'mIoU', 'box AP', 'mask AP']
    page = Page((folder / 'report.html').read_text())
    files = [link for link in page.links if not link.startswith(('data:image/', '#'))]
    assert len(files) == 3 * 8 and all((folder / file).is_file() for file in files)  # config, log, checkpoint of each run
    # Predictions 2, Figures 1, 2 and 5, losses 4, of both pre-trainings features while training and reconstructions.
    assert sum(link.startswith('data:image/') for link in page.links) == 13
    assert page.headings[:3] == ['UperNet: segmentations', 'Mask R-CNN: detections', 'Small scale: CoMA-Shapes']
    assert {'Beside the paper', 'Coverage of patches', 'Reconstructions', 'Loss', 'Runs'} <= set(page.headings)
    assert 'top-1 accuracy' in page.text and 'dyvit-tiny-p16_coma_shapes-easy.py' in page.text

    bases = dict.fromkeys((prefix for _, prefix in TASKS), 'pretrain_seed0')
    bases['mask-rcnn_dyvit-tiny'] = 'pretrain_mask-rcnn_dyvit-tiny_seed0'
    for prefix, base in bases.items():
        checkpoint = folder / base / 'epoch_2.pth'
        work_dir = folder / f'{prefix}_coma_seed0'
        facts = json.loads((work_dir / 'provenance.json').read_text())['backbone_from']
        assert {key: facts[key] for key in ('algorithm', 'arch', 'epochs', 'mask_ratio', 'checkpoint')} == dict(
            algorithm='CoMA', arch='tiny', epochs=2, mask_ratio=0.6, checkpoint=str(checkpoint))
        assert facts['sha256'] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        # All but the norms of the stages that the decoder did not see, of which Mask R-CNN's saw all.
        log = (work_dir / 'log.txt').read_text()
        number, total = map(int, re.search(r'loaded (\d+) of (\d+) tensors into DyViT', log).groups())
        afresh = re.search(r'; (\d) that it lacks start afresh: norm0.weight', log)
        assert (afresh is None) == (base != 'pretrain_seed0') and number + int(afresh[1] if afresh else 0) == total
        scratch = folder / f'{prefix}_scratch_seed0'
        assert json.loads((scratch / 'provenance.json').read_text())['backbone_from'] is None
        assert 'tensors into DyViT' not in (scratch / 'log.txt').read_text()

    # The benchmark finds all of it, the run that was killed once as one.
    frame, skipped = collect(folder)
    assert [one.path for one in skipped] == ['data'] and set(frame['status']) == {'finished'}
    frame = frame.drop_duplicates('run').set_index('run')
    methods = {f'{prefix}_{arm}_seed0': method for _, prefix in TASKS for arm, method in zip(ARMS, ('CoMA', 'scratch'),
                                                                                            strict=True)}
    assert frame['method'].to_dict() == dict(methods, **dict.fromkeys(bases.values(), 'CoMA'))
    assert set(frame['dataset']) == {'CoMA-Shapes'} and frame['command'].str.contains('coma-mm train coma_mm::shapes/').all()
    tuned = frame[(frame['method'] == 'CoMA') & (frame['task'] != 'pretraining')]
    assert tuned['pretrain_run'].to_dict() == {f'{prefix}_coma_seed0': base for prefix, base in bases.items()}
    assert (tuned['decoder_depth'] == 2).all()
