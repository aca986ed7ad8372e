"""Every kind of bad input: one line that names it, exit code 2, and no folder of a run that never began."""
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image

from coma_mm.prepare.shapes import write_shapes
from coma_mm.weights import safe_pickle

ROOT = Path(__file__).parents[2]
PRETRAINING, CLASSIFIER = 'coma_dyvit-tiny_shapes', 'dyvit-tiny_scratch_shapes'
UPERNET, MASK_RCNN = 'upernet_dyvit-tiny_scratch_shapes', 'mask-rcnn_dyvit-tiny_scratch_shapes'
SHORT = ['train_dataloader.num_workers=0', 'train_dataloader.batch_size=4', 'train_cfg.max_epochs=1',
         'val_dataloader=None', 'val_cfg=None', 'val_evaluator=None']


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """A small CoMA-Shapes, which tests change a copy of."""
    folder = tmp_path_factory.mktemp('shapes') / 'shapes'
    write_shapes(folder, dict(unlabelled=16, train=8, val=4, test=2), size=64, progress=False)
    return folder


@pytest.fixture
def data(shapes, tmp_path, monkeypatch):
    """The folder of a copy of CoMA-Shapes, in a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    monkeypatch.delenv('PRETRAINED', raising=False)
    monkeypatch.setenv('SHAPES_ROOT', str(tmp_path / 'shapes'))
    shutil.copytree(shapes, tmp_path / 'shapes')
    return tmp_path / 'shapes'


@pytest.fixture
def run(data, run_tool):
    """Runs a tool on a small config."""

    def run(config, *options, tool='train.py', args=(), code=2):
        """str: The error's line, or for code 0 all output."""
        Path('user.py').write_text(f"_base_ = '{ROOT}/configs/shapes/{config}.py'\n")
        shutil.rmtree('run', ignore_errors=True)
        try:
            return run_tool(tool, 'user.py', *args, '--work-dir', 'run', '--cfg-options', *SHORT, *options, code=code)
        finally:
            forget()

    return run


def forget():
    """Let go of what mmengine keeps for a whole process."""
    for name in list(MMLogger._instance_dict):
        logging.getLogger(name).handlers.clear()
    kinds = [MMLogger, Visualizer, DefaultScope, MessageHub]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        kind._instance_dict.clear()


def nothing_written():
    return not os.path.exists('run')


def test_data_root_missing_or_without_images(run, data, tmp_path):
    """Found before anything is built: not even the type of the model is looked up."""
    parts = dict(unlabelled=(PRETRAINING, '', 'images'), imagenet=(CLASSIFIER, '/train', '<class>/*.JPEG'),
                 ade20k=(UPERNET, '/images/training', 'images'),
                 coco=(MASK_RCNN, '/annotations/instances_train.json', 'annotation file'))
    for part, (config, below, expected) in parts.items():
        folder = f'{data}/{part}'
        for path in (data / part).rglob('*'):
            if path.suffix in ('.jpg', '.png', '.json'):
                path.unlink()
        line = run(config, 'model.type=NoModel')
        assert f': {folder}{below} ' in line and 'SHAPES_ROOT is set to' in line and nothing_written()
        shutil.rmtree(folder)
        line = run(config, 'model.type=NoModel')
        assert f': {folder}{below} does not exist; expected ' in line and expected in line and '--data-root' in line
        line = run(config, 'model.type=NoModel', args=('--data-root', 'nowhere'))
        assert f': nowhere{below} does not exist' in line and 'SHAPES_ROOT' not in line and nothing_written()
    folder = tmp_path / 'documents'
    folder.mkdir()
    (folder / 'notes.txt').write_text('no image')
    line = run(PRETRAINING, f'train_dataloader.dataset.data_root={folder}', 'model.type=NoModel')
    assert f'ImageFolder: {folder} holds no such files' in line and '.jpg' in line and nothing_written()


def test_a_variables_value_is_not_taken_for_a_word(run, monkeypatch):
    """The hint is for paths: the value `data` is not in "more data"."""
    monkeypatch.setenv('SHAPES_ROOT', 'data')
    line = run(PRETRAINING)
    assert 'data/unlabelled does not exist' in line and line.endswith('variable SHAPES_ROOT is set to data)')
    Path('data').symlink_to('shapes')
    line = run(PRETRAINING, 'train_dataloader.batch_size=32')
    assert 'more data' in line and 'SHAPES_ROOT' not in line


def test_fewer_images_than_a_batch(run):
    for config in (PRETRAINING, CLASSIFIER):
        line = run(config, 'train_dataloader.batch_size=32')
        assert 'gives no batch of batch_size=32 with drop_last=True' in line and nothing_written()


def test_bad_images_are_named_or_skipped_with_a_count(run, data):
    files = sorted((data / 'unlabelled').rglob('*.jpg'))
    whole = files[5].read_bytes()
    for content, reason, workers in ((whole[:len(whole) // 2], 'truncated', 1), (b'', 'empty or not an image', 0),
                                     (b'some text', 'empty or not an image', 0)):
        files[5].unlink()  # the file may be a hard link
        files[5].write_bytes(content)
        line = run(PRETRAINING, f'train_dataloader.num_workers={workers}')
        assert str(files[5]) in line and reason in line and 'on_bad_image' in line
    log = run(PRETRAINING, 'train_dataloader.on_bad_image=skip', code=0)
    assert f'Skipped an unreadable image: cannot read the image {files[5]}' in log
    assert '1 unreadable images skipped so far, of 15' in log


def test_segmentation_maps_that_do_not_fit(run, data):
    path = sorted((data / 'ade20k/annotations/training').iterdir())[3]
    whole = path.read_bytes()

    def line(content):
        path.unlink()
        content(path)
        line = run(UPERNET)
        assert str(path) in line or path.stem in line
        return line

    assert 'truncated' in line(lambda path: path.write_bytes(whole[:80]))
    assert 'class id 98 (99 in the file' in line(lambda path: Image.fromarray(np.full((64, 64), 99, np.uint8)).save(path))
    assert 'does not fit its image' in line(lambda path: Image.fromarray(np.zeros((64, 32), np.uint8)).save(path))
    assert 'does not fit its image' in line(lambda path: Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path))
    assert 'the value 300 (uint16)' in line(lambda path: Image.fromarray(np.full((64, 64), 300, np.uint16)).save(path))
    path.unlink()
    assert f'no such file or folder: {path}' in run(UPERNET) and nothing_written()


def test_coco_annotations(run, data):
    path = data / 'coco/annotations/instances_train.json'
    whole = path.read_text()
    path.unlink()

    def line(change):
        content = json.loads(whole)
        change(content)
        path.write_text(json.dumps(content))
        line = run(MASK_RCNN)
        assert str(path) in line and nothing_written()
        return line

    def without(key):
        return lambda content: [annotation.pop(key) for annotation in content['annotations']]

    assert 'has no segmentation; expected polygons or RLE' in line(without('segmentation'))
    assert 'has no bbox' in line(without('bbox'))
    assert 'category_id 99; expected one of the 10' in line(lambda content: content['annotations'][2].update(category_id=99))
    assert 'finds no sample' in line(lambda content: content.update(annotations=[]))
    assert 'finds no sample' in line(lambda content: [one.update(name=f'?{one["id"]}') for one in content['categories']])
    assert 'is outside of the data set' in line(lambda content: content['images'][3].update(file_name='../../../x.jpg'))
    assert 'no object is left; write each' in line(lambda content: [one.update(area=0) for one in content['annotations']])
    assert "no list 'categories'" in line(lambda content: content.pop('categories'))
    path.write_text(whole[:100])
    assert 'not a JSON file' in run(MASK_RCNN) and nothing_written()


def test_settings_of_the_model_and_the_mask(run):
    ratio = 'train_dataloader.dataset.pipeline.3.sampler.ratio='
    for options, expected in (
        (['model.backbone.arch=bsae'], "arch='bsae': expected one of tiny, small, base; did you mean 'base'"),
        (['model.backbone.windows=[[3],[4],[2],[1]]'], 'window 3 of stage 0 does not divide its patch of 8×8'),
        ([ratio + '0'], 'sampler.ratio=0: expected a number above 0 and below 1'),
        ([ratio + '1.5'], 'sampler.ratio=1.5: expected a number above 0 and below 1'),
        ([ratio + 'much'], "sampler.ratio='much': expected a number above 0 and below 1"),
        ([ratio + '0.99'], 'keeps 0 of 16'),
        ([ratio + '0.01'], 'keeps 16 of 16'),
        (['mask_sampler.ratio=0.99'], 'keeps 0 of 16'),
        (['mask_sampler.ratoi=0.7'], "UniformMaskSampler has no key 'ratoi'; did you mean 'ratio'"),
        (['mask_sampler.type=UniformMaskSamplr'], "did you mean 'UniformMaskSampler'"),
    ):
        assert expected in run(PRETRAINING, *options) and nothing_written()


def test_misspelt_keys_and_options(run):
    for option, expected in (
        ('optim_wraper.optimizer.lr=1', "did you mean 'optim_wrapper'"),
        ('optim_wrapper.optimiser.lr=1', "OptimWrapper has no key 'optimiser'; did you mean 'optimizer'"),
        ('optim_wrapper.paramwise_cfg.norm_decay_mul=0', "did you mean 'norm_decay_mult'"),
        ('param_scheduler.1.endd=2', "CosineAnnealingLR has no key 'endd'; did you mean 'end'"),
        ('default_hooks.logger.intervall=2', "did you mean 'interval'"),
        ('default_hooks.loger.interval=2', 'is the name of its key misspelt?'),
        ('randomness.sed=2', "did you mean 'seed'"),
        ('model.backbone.drop_path=0.1', "DyViT has no key 'drop_path'; did you mean 'drop_path_rate'"),
        ('nonsense', "cannot read 'nonsense'; expected KEY=VALUE"),
        ("model.backbone.arch={'dims':[1,2],'depths':3}", 'expected KEY=VALUE'),
    ):
        assert expected in run(CLASSIFIER, option) and nothing_written()


def test_values_of_a_wrong_type(run):
    for option, *expected in (
        ('randomness.seed=abc', "user.py: randomness.seed='abc': expected a whole number"),
        ('optim_wrapper.optimizer.lr=x', "user.py: optim_wrapper.optimizer.lr='x': expected a number, 0 or more"),
        ('model.backbone.drop_path_rate=x', "user.py: model.backbone.drop_path_rate='x': expected a number from 0"),
        ('train_dataloader.num_workers=x', "user.py: train_dataloader.num_workers='x': expected a whole number, 0 or more"),
        ('train_cfg.max_epochs=x', "user.py: train_cfg.max_epochs='x': expected a whole number, 1 or more"),
        ('model.head.loss.loss_weight=x', "user.py: model.head.loss.loss_weight='x': expected a number, 0 or more"),
        ('train_dataloader.dataset.pipeline.1.scale=x', "user.py: train_dataloader.dataset.pipeline.1.scale='x': expected"),
        ('train_dataloader.dataset.pipeline.2.direction=up', 'RandomFlip cannot be built with its settings ('),
        ('env_cfg=5', 'user.py: env_cfg=5: expected a dict'),
        ('param_scheduler=5', 'user.py: param_scheduler=5: expected a dict or a list')):
        line = run(CLASSIFIER, option)
        assert all(part in line for part in expected), line
        assert nothing_written()
        assert expected[0].startswith('user.py') or 'COMA_MM_DEBUG=1 shows the traceback' in line
    assert 'the run fails at its start: TypeError: type must be' in run(PRETRAINING, 'custom_hooks.0.type=[1]')


def test_an_option_nearly_spelt_as_another_is_warned_of(run):
    log = run(CLASSIFIER, 'train_dataloader.dataset.lazy_init=False', code=0)
    assert 'so far, it becomes a new one' not in log
    log = run(MASK_RCNN, 'model.train_cfg.rpn.samplr.num=1', code=0)
    assert "model.train_cfg.rpn has no key 'samplr' so far, it becomes a new one; did you mean 'sampler'" in log


@pytest.fixture
def checkpoint(run):
    """A short pre-training's."""
    run(PRETRAINING, code=0)
    return shutil.copy('run/epoch_1.pth', 'pretrained.pth')


def test_checkpoints(run, checkpoint, monkeypatch):
    Path('cut.pth').write_bytes(Path(checkpoint).read_bytes()[:9999])
    Path('empty.pth').write_bytes(b'')
    Path('text.pth').write_text('text')
    torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(3, 3)}), 'other.pth')
    for name, expected in (('none.pth', 'no checkpoint at none.pth'), ('cut.pth', 'cut.pth is damaged or cut off'),
                           ('empty.pth', 'empty.pth is empty'),
                           ('text.pth', 'text.pth is not a PyTorch checkpoint'), ('other.pth', 'other.pth')):
        monkeypatch.setenv('PRETRAINED', name)
        assert expected in run('dyvit-tiny_coma_shapes') and nothing_written()
        monkeypatch.delenv('PRETRAINED')
        assert expected in run(CLASSIFIER, f'load_from={name}') and nothing_written()
        assert expected in run(CLASSIFIER, args=('--resume', name)) and nothing_written()
        assert expected in run(CLASSIFIER, tool='test.py', args=(name, )) and nothing_written()
    line = run('dyvit-tiny_coma_shapes')
    assert 'no checkpoint at' in line and 'PRETRAINED is not set' in line and nothing_written()
    # Of another model.
    assert 'is of another model' in run(CLASSIFIER, args=('--resume', checkpoint)) and nothing_written()
    assert 'is of another model' in run(CLASSIFIER, tool='test.py', args=(checkpoint, )) and nothing_written()
    line = run(PRETRAINING, 'model.decoder.depth=1', args=('--resume', checkpoint))
    assert 'no place here for decoder.blocks.1' in line and nothing_written()
    monkeypatch.setenv('PRETRAINED', checkpoint)
    line = run('dyvit-tiny_coma_shapes', 'model.backbone.arch=small', 'model.head.in_channels=768')
    assert "(arch 'tiny') does not fit DyViT (arch 'small')" in line and nothing_written()
    # Weights of the same backbone under another head are welcome, and counted.
    assert 'loaded 91 of 93 tensors into ImageClassifier' in run(CLASSIFIER, f'load_from={checkpoint}', code=0)


class Tripwire:
    """Unpickling it creates a file."""

    def __reduce__(self):
        return open, ('created', 'w')


def test_a_checkpoint_that_runs_code_is_refused_unless_it_is_trusted(run, checkpoint, monkeypatch):
    content = torch.load(checkpoint, weights_only=True)
    torch.save(dict(content, more=Tripwire()), 'hostile.pth')
    refused = 'refused to read the checkpoint hostile.pth: it would run code of its own'
    monkeypatch.setattr(safe_pickle, 'trusted', False)
    init = ['model.init_cfg.type=Pretrained', 'model.init_cfg.checkpoint=hostile.pth']
    for config, options, more in (
        (CLASSIFIER, ['load_from=hostile.pth'], {}), (PRETRAINING, [], dict(args=('--resume', 'hostile.pth'))),
        (CLASSIFIER, init, {}), (CLASSIFIER, [], dict(tool='test.py', args=('hostile.pth', )))):
        line = run(config, *options, **more)
        assert refused in line and '--trust-checkpoint' in line and nothing_written() and not os.path.exists('created')
    monkeypatch.setenv('PRETRAINED', 'hostile.pth')
    assert refused in run('dyvit-tiny_coma_shapes') and nothing_written() and not os.path.exists('created')
    shown = run('dyvit-tiny_coma_shapes', args=('--trust-checkpoint', ), code=0)
    assert '--trust-checkpoint: hostile.pth runs code of its own' in shown and os.path.exists('created')


def test_images_of_any_mode_are_handled(run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (70, 60, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x112] = 6
    folder = tmp_path / 'odd'
    folder.mkdir()
    Image.fromarray(pixels[..., 0]).save(folder / 'grey.png')
    Image.fromarray(pixels).save(folder / 'rgba.png')
    Image.fromarray(pixels).convert('RGB').convert('CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(pixels[..., 0]).convert('P').save(folder / 'palette.tif')
    Image.fromarray(pixels[..., :3]).save(folder / 'exif.jpg', exif=exif)
    Image.fromarray(pixels[:7, :5, :3]).save(folder / 'small.png')
    Image.fromarray(pixels[:1, :1, :3]).save(folder / 'pixel.png')
    log = run(PRETRAINING, f'train_dataloader.dataset.data_root={folder}', 'train_dataloader.dataset.part=all',
              'train_dataloader.batch_size=7', code=0)
    assert 'Epoch(train) [1][1/1]' in log
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 16).save(folder / 'deep.png')
    line = run(PRETRAINING, f'train_dataloader.dataset.data_root={folder}', 'train_dataloader.dataset.part=all',
               'train_dataloader.batch_size=8')
    assert f'{folder}/deep.png: it holds 16-bit values from 0 to 4064 in 1 band' in line


def test_the_terminal_is_quiet_and_the_log_file_is_not(run):
    shown = run(MASK_RCNN, 'optim_wrapper.constructor=DefaultOptimWrapperConstructor',
                'optim_wrapper.paramwise_cfg.norm_decay_mult=0', code=0)  # both for the lines of its parameters
    log = next(Path('run').rglob('*.log')).read_text()
    for noise in ('paramwise_options -- ', 'Hooks will be executed', 'System environment:', 'Config:', 'Exp name:'):
        assert noise in log and noise not in shown
    assert 'loading annotations' not in shown and 'will be deprecated' not in shown
    assert 'eta' in shown and '4 images per update' in shown
