"""The tools as users start them, on a tiny classifier and a few generated images."""
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from coma_mm.prepare.shapes import write_shapes
from coma_mm.weights import load_weights_only

ROOT = Path(__file__).parents[2]

CONFIG = '''
default_scope = 'mmpretrain'
data_root = 'images/'
pipeline = [dict(type='LoadImage'), dict(type='RandomResizedCrop', scale=32), dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs')]
train_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(type='CustomDataset', data_root=data_root + 'train', pipeline=pipeline))
val_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                      dataset=dict(type='CustomDataset', data_root=data_root + 'val', pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy', topk=1)
val_cfg = test_cfg = dict()
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
param_scheduler = dict(type='CosineAnnealingLR', T_max=2)
model = dict(
    type='ImageClassifier', data_preprocessor=dict(mean=[128.] * 3, std=[64.] * 3, to_rgb=True),
    backbone=dict(type='VisionTransformer', img_size=32, patch_size=8,
                  arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16, loss=dict(type='CrossEntropyLoss')))
randomness = dict(seed=0)
default_hooks = dict(logger=dict(type='LoggerHook', interval=1), visualization=dict(type='VisualizationHook'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend')])
'''


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A working directory with a config, twelve images for training and four for validation."""
    folder = tmp_path_factory.mktemp('user')
    generator = np.random.default_rng(0)
    for split, number in (('train', 6), ('val', 2)):
        for channel, name in enumerate('ab'):
            (folder / 'images' / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = generator.integers(0, 128, (40, 40, 3)).astype(np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / 'images' / split / name / f'{name}{index}.png')
    (folder / 'toy.py').write_text(CONFIG)
    return folder


@pytest.fixture
def inside(folder, monkeypatch):
    """The folder, which this process is in, without a GPU."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    return folder


def environment():
    env = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'COMA_MM_DEBUG')}
    return dict(env, OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', PYTHON=sys.executable)


def start(folder, tool, *args, env=None):
    command = [str(ROOT / 'tools' / tool)] if tool.endswith('.sh') else [sys.executable, str(ROOT / 'tools' / tool)]
    return subprocess.Popen([*command, *map(str, args)], cwd=folder, env=env or environment(), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, code=0):
    """str: What the tool printed; its exit code must be `code`."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, out[-2000:] + err[-4000:]
    return out + err


def losses(text):
    return [float(value) for value in re.findall(r'Epoch\(train\).*loss: ([\d.]+)', text)]


@pytest.fixture(scope='module')
def trained(folder):
    """The log of the run in work_dirs/toy, which other tests resume and test."""
    return finish(start(folder, 'train.py', 'toy.py'))


def test_train_needs_no_options(folder, trained):
    run = folder / 'work_dirs' / 'toy'
    assert {'epoch_1.pth', 'epoch_2.pth', 'provenance.json', 'toy.py'} <= set(os.listdir(run))
    assert json.loads((run / 'provenance.json').read_text())['algorithm'] == 'ImageClassifier'
    assert len(losses(trained)) == 6 and 'eta' in trained and 'accuracy/top1' in trained


def test_the_first_screen_says_what_the_run_is_and_the_last_lines_what_came_of_it(folder, trained):
    lines = trained.splitlines()
    first = lines[:next(number for number, line in enumerate(lines) if 'Epoch(train)' in line)]
    for part in ('coma_mm ', 'CPU, 1 process', 'ImageClassifier with VisionTransformer', 'random weights',
                 '4 images per update', 'Learning rate 0.1 (SGD): cosine to 0 until epoch 2',
                 '2 epochs of 3 iterations in float32', 'Writes to work_dirs/toy', '--resume'):
        assert sum(part in line for line in first) == 1, part
    assert len(first) <= 15 and not any('Config:' in line for line in first)
    log = next((folder / 'work_dirs/toy').rglob('*.log')).read_text()
    assert 'System environment' in log and "type='ImageClassifier'" in log
    last = lines[max(number for number, line in enumerate(lines) if 'Epoch(val)' in line) + 1:]
    assert len(last) <= 6
    for part in ('accuracy/top1: ', 'Checkpoint: work_dirs/toy/epoch_2.pth', '6 iterations took 0:0', 'Next: '):
        assert sum(part in line for line in last) == 1, part


def test_two_processes_and_resumed_runs_equal_one_run(inside, trained, run_tool):
    folder = inside
    options = ['--no-validate', '--cfg-options', 'train_dataloader.num_workers=2']
    two = start(folder, 'dist_train.sh', 'toy.py', 2, '--work-dir', 'two', '--no-validate', '--cfg-options',
                'train_dataloader.batch_size=2')
    first = folder / 'work_dirs' / 'toy' / 'epoch_1.pth'
    by_path = run_tool('train.py', 'toy.py', '--resume', first, '--work-dir', 'by_path', *options)
    distributed = finish(two)
    np.testing.assert_allclose(losses(distributed), losses(trained), atol=2e-4)  # the log has four decimals
    assert '4 images per update: 2 processes × 2 images' in distributed
    assert 'resumed epoch: 1' in by_path and losses(by_path) == losses(trained)[3:]
    (folder / 'by_path' / 'epoch_2.pth').unlink()
    (folder / 'by_path' / 'last_checkpoint').write_text(str(first))
    # A config's own resume = True is honoured.
    (folder / 'resuming.py').write_text("_base_ = 'toy.py'\nresume = True\n")
    by_auto = run_tool('train.py', 'resuming.py', '--work-dir', 'by_path', *options)
    assert f'Resuming from {first}' in by_auto and losses(by_auto) == losses(trained)[3:]
    expected = load_weights_only(folder / 'work_dirs/toy/epoch_2.pth')['state_dict']
    for run, tolerance in (('two', 1e-5), ('by_path', 0)):
        weights = load_weights_only(folder / run / 'epoch_2.pth')['state_dict']
        for name, value in expected.items():
            torch.testing.assert_close(weights[name], value, rtol=0, atol=tolerance)


def free_port():
    """str: A port that nobody listens at."""
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        return str(server.getsockname()[1])


def test_pretraining_has_the_same_losses_however_its_batch_is_shared_out(inside, run_tool, monkeypatch):
    folder = inside
    # Two of 26 are held out; 24 share out evenly, others would be filled up for two processes.
    write_shapes(folder / 'shapes', dict(unlabelled=26, train=0, val=0, test=0), size=64, progress=False)
    config = ROOT / 'configs/shapes/coma_dyvit-tiny_shapes.py'
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=3', 'param_scheduler.1.end=3',
               'model.backbone.drop_path_rate=0.', 'default_hooks.logger.interval=1', 'train_dataloader.num_workers=1']
    auto = ['optim_wrapper.accumulative_counts=auto', 'auto_scale_lr.base_batch_size=8']
    monkeypatch.setenv('SHAPES_ROOT', str(folder / 'shapes'))
    nodes = dict(environment(), NNODES='2', MASTER_ADDR='127.0.0.1', PORT=free_port())
    launchers = [start(folder, 'dist_train.sh', config, 1, '--work-dir', 'coma3', *options, *auto,
                       'train_dataloader.batch_size=2', env=nodes) for _ in range(2)]
    one = run_tool('train.py', config, '--work-dir', 'coma1', *options, 'train_dataloader.batch_size=8')
    several = run_tool('train.py', config, '--work-dir', 'coma2', *options, *auto, 'train_dataloader.batch_size=4')
    two = ''.join(map(finish, launchers))
    assert '8 images per update: 1 process × 4 images × 2 batches (one iteration)' in several
    assert '8 images per update: 2 processes × 2 images × 2 batches (one iteration)' in two
    assert len(losses(one)) == 9 and losses(one)[0] > losses(one)[-1]
    expected = load_weights_only(folder / 'coma1/epoch_3.pth')['state_dict']
    for log, run in ((several, 'coma2'), (two, 'coma3')):
        np.testing.assert_allclose(losses(log), losses(one), atol=2e-4)  # the log has four decimals
        for name, value in load_weights_only(folder / run / 'epoch_3.pth')['state_dict'].items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-4)


def test_another_data_root_and_mask(inside, run_tool):
    folder = inside
    write_shapes(folder / 'few', dict(unlabelled=26, train=0, val=0, test=0), size=64, progress=False)
    config = ROOT / 'configs/shapes/coma_dyvit-tiny_shapes.py'
    common = ['--work-dir', 'few_run', '--data-root', 'few/unlabelled', '--cfg-options', 'train_dataloader.num_workers=0',
              'val_dataloader.num_workers=0', 'test_dataloader.num_workers=0', 'mask_sampler.ratio=0.75']
    log = run_tool('train.py', config, *common, 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
                   'train_dataloader.batch_size=8')
    run_tool('export_backbone.py', *shlex.split(re.search(r'Next: .*export_backbone\.py (.*)', log)[1]))
    assert (folder / 'few_run/backbone.safetensors').exists()
    facts = json.loads((folder / 'few_run/provenance.json').read_text())
    assert (facts['mask_ratio'], facts['mask_sampler']) == (0.75, 'UniformMaskSampler')
    assert facts['data_root'] == 'few/unlabelled'
    # The dumped config is one that runs by itself, with the same masks.
    dumped = Config.fromfile(folder / 'few_run/coma_dyvit-tiny_shapes.py')
    for split in ('train', 'val', 'test'):
        assert dumped[f'{split}_dataloader'].dataset.pipeline[-2].sampler == dumped.mask_sampler
    run_tool('test.py', config, 'few_run/epoch_1.pth', *common, '--out', 'few.json')
    assert json.loads((folder / 'few.json').read_text())


def test_options_of_train_are_merged_last_and_said(inside, run_tool):
    folder = inside
    (folder / 'scaled.py').write_text("_base_ = 'toy.py'\nauto_scale_lr = dict(base_batch_size=8)\n")
    log = run_tool(
        'train.py', 'scaled.py', '--work-dir', 'ignored', '--amp', '--no-validate', '--auto-scale-lr',
        '--cfg-options', 'work_dir=last', 'train_cfg.max_epochs=1', 'optim_wrapper.accumulative_counts=8', 'fp16=True')
    assert not (folder / 'ignored').exists() and (folder / 'last' / 'epoch_1.pth').exists()
    assert 'in mixed precision (bfloat16); does not validate' in log and 'Epoch(val)' not in log
    assert 'Learning rate scaled from 0.1 to 0.4' in log and 'this run has 32' in log
    assert 'accumulative_counts=8 is more than the 3 batches of an epoch' in log
    warning = "nothing reads the key 'fp16'; what you want is optim_wrapper=dict(type='AutocastOptimWrapper'"
    assert log.count(warning) == 1 and log.index('Trains for') < log.index(warning) < log.index('Epoch(train)')


def test_test_writes_metrics_and_drawings(inside, trained, run_tool):
    folder = inside
    checkpoint = 'work_dirs/toy/epoch_2.pth'
    python, tool, *args = shlex.split(re.search(r'Next: (.*)', trained)[1])  # what the training says at its end
    assert args == ['work_dirs/toy/toy.py', checkpoint] and Path(tool).name == 'test.py'
    two = start(folder, 'dist_test.sh', 'toy.py', checkpoint, 2, '--work-dir', 'tested2', '--out', 'out/metrics2.json',
                '--tta')
    text = run_tool('test.py', *args, '--work-dir', 'tested', '--out', 'out/metrics.json', '--show-dir', 'shown')
    finish(two)
    assert re.search(r'Metrics are in tested/(\w+)/\1\.json and out/metrics\.json\n', text)
    assert text.count('ImageClassifier with VisionTransformer') == 1 and 'Config:' not in text
    for name in ('metrics.json', 'metrics2.json'):
        metrics = json.loads((folder / 'out' / name).read_text())
        assert metrics['accuracy/top1'] == 100 and metrics['tested']['images'] == 4
    tested, = (folder / 'tested').glob('*/tested.json')
    assert json.loads(tested.read_text()) == dict(
        images=4, data='val', data_root='images/val', checkpoint=checkpoint)
    assert json.loads((folder / 'work_dirs/toy/provenance.json').read_text())['val_images'] == 4
    assert len(list((folder / 'shown').rglob('*.png'))) == 4


def test_bad_input_ends_with_one_line_and_leaves_nothing(inside, trained, run_tool):
    folder = inside
    checkpoint = folder / 'work_dirs' / 'toy' / 'epoch_2.pth'
    (folder / 'cut.pth').write_bytes(checkpoint.read_bytes()[:5000])
    (folder / 'broken.py').write_text('model = dict(')
    (folder / 'mistyped.py').write_text("_base_ = 'toy.py'\noptim_wraper = dict(optimizer=dict(lr=1))\n")
    images = folder / 'bad_images' / 'a'
    images.mkdir(parents=True)
    (images / 'text.png').write_text('not an image')
    (folder / 'bad_images/b').mkdir()
    options = '--cfg-options'
    cases = [
        (('none.py', ), 'no config file none.py'),
        (('broken.py', ), 'broken.py'),
        (('mistyped.py', ), "mistyped.py: nothing reads the key 'optim_wraper'; did you mean 'optim_wrapper'"),
        (('toy.py', '--resume', 'none.pth'), 'no checkpoint at none.pth'),
        (('toy.py', options, 'load_from=cut.pth'), 'checkpoint cut.pth is damaged'),
        (('toy.py', options, 'model.backbone.img_sise=32'),
         "VisionTransformer has no key 'img_sise'; did you mean 'img_size'"),
        (('toy.py', options, 'model.type=ImageClasifier'), "did you mean 'ImageClassifier'"),
        (('toy.py', options, 'optim_wrapper.optimizer.type=AdamWW'), "did you mean 'AdamW'"),
        (('toy.py', options, 'train_dataloader.batchsize=3'),
         "DataLoader has no key 'batchsize'; did you mean 'batch_size'"),
        (('toy.py', options, 'train_dataloader.dataset.data_root=nowhere'), 'nowhere'),
        (('toy.py', options, 'train_dataloader.dataset.data_root=bad_images',
          'train_dataloader.num_workers=1'), 'text.png'),
        (('toy.py', options, 'model.head.num_classes=1'), 'model.head.num_classes=1'),
        (('toy.py', '--auto-scale-lr'), '--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...)'),
        (('toy.py', options, 'optim_wrapper.accumulative_counts=auto'),
         "accumulative_counts='auto' needs auto_scale_lr=dict(base_batch_size=...)"),
        (('toy.py', options, 'optim_wrapper.accumulative_counts=auto', 'auto_scale_lr.base_batch_size=6'),
         'batch_size=4 cannot share out the 6 images of one update (auto_scale_lr.base_batch_size); take a batch_size of '
         '3 or 2 or 1'),
    ]
    for number, (args, expected) in enumerate(cases):
        if args[0] == 'toy.py':  # mmengine tells the runs of a process apart by name and second
            (folder / f'case{number}.py').write_text("_base_ = 'toy.py'\n")
            args = (f'case{number}.py', *args[1:])
        assert expected in run_tool('train.py', *args, '--work-dir', 'bad', code=2), args
        assert not os.path.exists('bad'), args
    small = [options, 'model.backbone.arch.embed_dims=8', 'model.head.in_channels=8']
    line = run_tool('test.py', 'toy.py', checkpoint, '--work-dir', 'bad', *small, code=2)
    assert 'is of another model: backbone' in line
    assert not os.path.exists('bad')
    # A folder that was there before keeps what it had, and nothing else. This one as users start it.
    before = set(os.listdir(checkpoint.parent))
    process = start(folder, 'train.py', 'toy.py', '--overwrite', options, 'model.backbone.img_sise=32')
    out, err = process.communicate()
    assert process.returncode == 2
    assert err.strip().splitlines()[-1].startswith("error: VisionTransformer has no key 'img_sise'")
    assert 'Traceback' not in out + err and set(os.listdir(checkpoint.parent)) == before


def test_of_two_seeds_in_one_folder_the_second_is_refused_and_the_first_goes_on(inside, run_tool, monkeypatch):
    monkeypatch.setattr('coma_mm.locks.PATIENCE', 0)
    options = ['--work-dir', 'seeds', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=10000']
    first = start(inside, 'train.py', 'toy.py', *options, 'randomness.seed=1')
    try:
        deadline = time.monotonic() + 120
        while not (inside / 'seeds/epoch_1.pth').exists():
            assert first.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        for more in ([], ['--resume'], ['--overwrite']):
            line = run_tool('train.py', 'toy.py', *more, *options, 'randomness.seed=2', code=2)
            assert re.fullmatch(r'error: seeds is in use: `.*train.py toy.py --work-dir seeds .*` runs there since .* '
                                rf'\(host .*, process {first.pid}\); wait for its end, stop it, or .*', line)
        first.send_signal(signal.SIGTERM)
        assert 'stopped by SIGTERM' in finish(first, 75)
    finally:
        first.kill()
    checkpoints = [load_weights_only(path)['meta'] for path in (inside / 'seeds').glob('*.pth')]
    assert {meta['seed'] for meta in checkpoints} == {1}
    assert len(list((inside / 'seeds').glob('*/*.log'))) == 1 and not (inside / 'seeds/.lock').exists()


def test_two_processes_survive_the_death_of_one_and_a_warning(folder):
    """torchrun starts them again, they resume; told to stop, they save and leave with 75; the result is the same."""
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=20', 'param_scheduler.T_max=20',
               'train_dataloader.batch_size=2']

    def train(name, *more):
        return start(folder, 'dist_train.sh', 'toy.py', 2, '--work-dir', name, *more, *options)

    def wait_for(epoch):
        deadline = time.monotonic() + 120
        while not (folder / f'disturbed/epoch_{epoch}.pth').exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    finish(train('left_alone'))
    process = train('disturbed')
    wait_for(3)
    ranks = subprocess.run(['pgrep', '-f', f'{sys.executable} -u {ROOT}/tools/train.py toy.py --work-dir disturbed'],
                           text=True, capture_output=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    wait_for(8)
    process.send_signal(signal.SIGUSR1)
    out = finish(process, 75)
    assert 'Resuming from' in out
    assert re.search(r'stopped by SIGUSR1 after \d+ of 60 iterations; saved in .*; go on with --resume', out)
    finish(train('disturbed', '--resume'))
    expected, weights = (load_weights_only(folder / name / 'epoch_20.pth')['state_dict']
                         for name in ('left_alone', 'disturbed'))
    assert all(torch.equal(weights[key], value) for key, value in expected.items())
