"""The libraries' own inferencers on our configs, on those that runs write, and on checkpoints alone."""
import gc
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from mmengine.dataset import pseudo_collate
from mmpretrain import FeatureExtractor, ImageClassificationInferencer
from mmseg.apis import MMSegInferencer

from coma_mm.config.read import read_config
from coma_mm.engine.train import train
from coma_mm.inference import load_described
from coma_mm.prepare.shape_scenes import CLASSES
from coma_mm.prepare.shapes import write_shapes
from coma_mm.visualization.loading import load_for_viewing

from .helpers.detections import reordered
from .test_configs import ROOT

OPTIONS = {f'{split}_dataloader.num_workers': 0 for split in ('train', 'val', 'test')} | {
    'train_cfg.max_epochs': 1, 'default_hooks.checkpoint.save_best': 'auto', 'train_dataloader.batch_size': 4,
    'train_dataloader.persistent_workers': False}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder with CoMA-Shapes below `data`, where configs expect it; the tests run inside."""
    folder = tmp_path_factory.mktemp('inferencers')
    write_shapes(folder / 'data/shapes', dict(unlabelled=1, train=4, val=2, test=2), size=64, progress=False)
    gc.freeze()  # data sets collect garbage when they are built, among all that was ever imported
    with pytest.MonkeyPatch.context() as patch:
        for variable in ('SHAPES_ROOT', 'PRETRAINED'):
            patch.delenv(variable, raising=False)
        patch.setattr('yapf.yapflib.yapf_api.FormatCode', lambda text, **options: (text, True))  # takes most of the time
        patch.chdir(folder)
        yield folder
    gc.unfreeze()


@pytest.fixture(scope='module')
def trained(folder):
    """Function: the files of a config's short run, and what its model makes of a test image as tools/test.py reads it."""

    def run(name):
        config, work_dir = f'{ROOT}/shapes/{name}.py', folder / 'work_dirs' / name
        train(read_config(config, OPTIONS, str(work_dir)))
        checkpoint = str(work_dir / 'epoch_1.pth')
        model, dataset = load_for_viewing(f'{work_dir}/{name}.py', checkpoint, 'test')
        with torch.no_grad():
            sample = pseudo_collate([dataset[0]])
            return SimpleNamespace(
                config=config, dumped=f'{work_dir}/{name}.py', checkpoint=checkpoint, model=model, sample=sample,
                image=dataset.get_data_info(0)['img_path'], expected=model.test_step(sample)[0])

    return run


@pytest.fixture(scope='module')
def classifier(trained):
    return trained('dyvit-tiny_scratch_shapes')


def by_itself(run):
    """What the run's checkpoints alone make of the image: the last one, and the best one, which is the same."""
    best, = (str(path) for path in Path(run.checkpoint).parent.glob('best_*.pth'))
    for checkpoint in (run.checkpoint, best):
        usable = load_described(checkpoint)
        assert tuple(usable.classes) == CLASSES
        yield next(usable.predict([run.image]))


def same_reading(config, older):
    """str: A config file, or a copy of it that names `LoadImage`, as ours did."""
    if not older:
        return config
    path = f'{os.path.dirname(config)}/older.py'
    shutil.copy(config, path)
    with open(path) as file:
        text = file.read()
    assert "'LoadImageFromFile'" in text
    with open(path, 'w') as file:
        file.write(text.replace("'LoadImageFromFile'", "'LoadImage'"))
    return path


@pytest.mark.parametrize(('which', 'older'), [('config', False), ('dumped', False), ('dumped', True)])
def test_classification(classifier, which, older):
    config = same_reading(getattr(classifier, which), older)
    inferencer = ImageClassificationInferencer(config, classifier.checkpoint, device='cpu')
    found, = inferencer(classifier.image)
    np.testing.assert_allclose(found['pred_scores'], classifier.expected.pred_score, atol=1e-5)
    assert found['pred_class'] == CLASSES[int(classifier.expected.pred_label)]


def test_classification_by_the_checkpoint_alone(classifier):
    for found in by_itself(classifier):
        torch.testing.assert_close(found.pred_score, classifier.expected.pred_score, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(('which', 'older'), [('config', False), ('dumped', True)])
def test_features(classifier, which, older):
    extractor = FeatureExtractor(same_reading(getattr(classifier, which), older), classifier.checkpoint, device='cpu')
    found, = extractor(classifier.image, stage='backbone')
    with torch.no_grad():
        images = classifier.model.data_preprocessor(classifier.sample)['inputs']
        expected, = classifier.model.extract_feat(images, stage='backbone')
    torch.testing.assert_close(found[0], expected[0], atol=1e-4, rtol=1e-4)


def test_segmentation(trained):
    run = trained('upernet_dyvit-tiny_scratch_shapes')
    for config in (run.config, run.dumped, None):
        inferencer = MMSegInferencer(config, run.checkpoint, device='cpu')
        inferencer.show_progress = False
        found = inferencer(run.image, return_datasamples=True)
        torch.testing.assert_close(found.seg_logits.data, run.expected.seg_logits.data, atol=1e-4, rtol=1e-4)
        assert inferencer.model.dataset_meta['classes'] == CLASSES
    for found in by_itself(run):
        torch.testing.assert_close(found.seg_logits.data, run.expected.seg_logits.data, atol=1e-4, rtol=1e-4)


def test_detection(trained):
    run = trained('mask-rcnn_dyvit-tiny_scratch_shapes')
    expected = run.expected.pred_instances
    for config in (run.config, run.dumped, None):
        inferencer = DetInferencer(config, run.checkpoint, device='cpu', show_progress=False)
        found = inferencer(run.image, return_datasamples=True)['predictions'][0].pred_instances
        assert len(found) == len(expected) > 0
        found = reordered(found, expected)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.bboxes, expected.bboxes, atol=1e-3, rtol=1e-4)
        assert inferencer.model.dataset_meta['classes'] == CLASSES
    for found in by_itself(run):
        assert len(found.pred_instances) == len(expected)
        found = reordered(found.pred_instances, expected)
        torch.testing.assert_close(found.bboxes, expected.bboxes, atol=1e-3, rtol=1e-4)
