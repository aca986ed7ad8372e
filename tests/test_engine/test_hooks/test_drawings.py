"""`--show-dir`: every image has its drawing, whatever folder it is in, in the colours that it has."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset
from mmengine.structures import BaseDataElement
from PIL import Image

from coma_mm.engine.hooks.drawings import DrawingsHook, image_folder, name_below


class Images(BaseDataset):
    """The images in a folder and those below it."""

    def load_data_list(self):
        from pathlib import Path
        return [dict(img_path=str(path)) for path in sorted(Path(self.data_prefix['img_path']).rglob('*.png'))]


class Visualizer:
    """Writes what it is given."""

    def add_datasample(self, name, image, sample, out_file, **options):
        Image.fromarray(image).save(out_file)
        self.options = options


class Classifiers(Visualizer):
    """The same by mmpretrain's name."""
    visualize_cls = lambda self, image, sample, out_file, **options: Image.fromarray(image).save(out_file)  # noqa: E731


@pytest.fixture
def dataset(tmp_path):
    for number, name in enumerate(('one/a/x', 'one/b/x', 'one/x', 'two/a/x')):
        file = tmp_path / f'data/{name}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), (number, 0, 200), np.uint8)).save(file)
    return ConcatDataset([Images(data_root=str(tmp_path), data_prefix=dict(img_path=f'data/{name}'))
                          for name in ('one', 'two')])


def draw(dataset, folder, visualizer, **options):
    """Run the hook over a data set, in batches of two."""
    model = SimpleNamespace(data_preprocessor=SimpleNamespace(to_rgb=True))
    runner = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=dataset), visualizer=visualizer, model=model)
    hook = DrawingsHook(str(folder), **options)
    hook.before_test_epoch(runner)
    samples = [BaseDataElement(metainfo=dict(img_path=dataset.get_data_info(i)['img_path'])) for i in range(len(dataset))]
    inputs = [torch.tensor(np.array(Image.open(sample.img_path))[..., ::-1].copy()).permute(2, 0, 1) for sample in samples]
    for start in range(0, len(samples), 2):
        hook.after_test_iter(runner, start // 2, dict(inputs=inputs[start:start + 2]), samples[start:start + 2])
    return {str(path.relative_to(folder)): Image.open(path).getpixel((0, 0)) for path in folder.rglob('*.png')}


@pytest.mark.parametrize('visualizer', [Visualizer(), Classifiers()])
def test_images_of_one_name_have_a_drawing_each_in_their_colours(dataset, tmp_path, visualizer):
    found = draw(dataset, tmp_path / 'shown', visualizer)
    names = ('one/a/x.png.png', 'one/b/x.png.png', 'one/x.png.png', 'two/a/x.png.png')
    assert found == {name: (number, 0, 200) for number, name in enumerate(names)}


def test_the_score_and_the_interval_of_a_config_count(dataset, tmp_path):
    visualizer = Visualizer()
    assert set(draw(dataset, tmp_path / 'shown', visualizer, interval=3, score_thr=.7)) == {
        'one/a/x.png.png', 'two/a/x.png.png'}
    assert visualizer.options == dict(pred_score_thr=.7)


def test_the_folder_of_the_images_is_their_prefix_or_root(dataset, tmp_path):
    first = dataset.datasets[0]
    assert image_folder(first) == f'{tmp_path}/data/one' and image_folder(dataset) == f'{tmp_path}/data'
    assert name_below(f'{tmp_path}/data/one/a/x.png', image_folder(first)) == 'a/x.png'
    assert name_below('/elsewhere/x.png', image_folder(first)) == 'elsewhere/x.png'
    assert image_folder(SimpleNamespace(data_root=str(tmp_path), data_prefix=dict(img_path=''))) == str(tmp_path)
    assert image_folder(object()) == '/'
