"""A segmentation that is written from images and masks."""
import numpy as np
import pytest
from PIL import Image

from coma_mm.errors import UserError

NAMES = ('sky', 'building', 'road', 'tree', "driver's car")
VOID = 11


@pytest.fixture(scope='module')
def street(tmp_path_factory, noise):
    """Scenes of a street as PNG, with masks of five classes and of void, 11, and a file of names."""
    folder, chance = tmp_path_factory.mktemp('street'), np.random.RandomState(0)
    for number in range(20):
        noise(folder / f'images/{number:04d}.png', 150, 130)
        values = chance.choice([0, 1, 2, 3, 4, VOID], (130, 150)).astype(np.uint8)
        save(values, folder / f'masks/{number:04d}.png')
    (folder / 'names.txt').write_text('\n'.join(NAMES) + '\n')
    return folder


def save(values, path, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image = image.convert('P')
        image.putpalette(palette)
    image.save(path)


@pytest.fixture
def write(street, written):
    """Writes a config of the street: (…) -> the config, the text and the summary."""

    def one(**what):
        return written('segmentation', **{'images': str(street / 'images'), 'masks': str(street / 'masks'),
                                          'classes': str(street / 'names.txt'), **what})

    return one


def test_scenes_with_void_are_split_by_a_seed_and_trained_on(write, runs, capsys):
    cfg, text, summary = write()
    assert summary == (
        '20 images with masks, 2 held out by a seed, 5 classes, 11 ignored: UperNet with DyViT-tiny at 128 px, from '
        'scratch; update 8, lr 1e-3, 445 epochs (1000 updates, as the images are few). '
        'The value 11, which is beyond the 5 names, is ignored.')
    assert "MapClassIds', ids={11: 255}" in text and cfg.train_dataloader.dataset.metainfo.classes == NAMES
    assert cfg.model.decode_head.num_classes == cfg.model.auxiliary_head.num_classes == 5
    runs(cfg)
    assert 'mIoU' in capsys.readouterr().out


@pytest.mark.parametrize('arch', ['small', 'base'])
def test_larger_models_have_their_pipelines_sizes_and_schedule(write, street, arch):
    cfg, _, summary = write(arch=arch, size=96, gpus=2)
    for pipeline in (cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline):
        kinds = [step.type for step in pipeline]
        assert kinds[kinds.index('LoadAnnotations') + 1] == 'MapClassIds'
        assert not any(step.get('reduce_zero_label') for step in pipeline)
        sizes = {step.type: step for step in pipeline}
        resize = sizes.get('Resize') or sizes['RandomResize']
        assert tuple(resize.scale) == (384, 96)
    assert [step.type for part in cfg.tta_pipeline[1].transforms for step in part][-2:] == ['MapClassIds', 'PackSegInputs']
    assert cfg.model.test_cfg.crop_size == cfg.model.data_preprocessor.size == (96, 96)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == 4000
    assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 200
    assert cfg.model.backbone.init_cfg.type == 'Xavier' and ' (2 GPUs)' in summary


def test_folders_of_training_and_validation_with_other_names_are_found(tmp_path, noise, written, runs):
    """As in Cityscapes; 0 is no class, and the masks have a palette."""
    for split, count in (('train', 4), ('val', 2)):
        for number in range(count):
            noise(tmp_path / f'city/images/{split}/a/{number}_leftImg8bit.png')
            values = np.uint8(np.arange(64 * 96).reshape(64, 96) % 3)
            save(values, tmp_path / f'city/masks/{split}/a/{number}_gtFine.png', [0, 0, 0, 9, 8, 7, 6, 5, 4])
    (tmp_path / 'names.txt').write_text('a\nb\n')
    cfg, text, summary = written('segmentation', images=str(tmp_path / 'city/images'), masks=str(tmp_path / 'city/masks'),
                                 classes=str(tmp_path / 'names.txt'), ignore=[0])
    assert 'and 2 for validation, 2 classes, 0 ignored' in summary and 'MapClassIds' not in text
    dataset = cfg.val_dataloader.dataset
    assert dataset.reduce_zero_label and [list(colour) for colour in dataset.metainfo.palette] == [[9, 8, 7], [6, 5, 4]]
    assert (dataset.img_suffix, dataset.seg_map_suffix) == ('_leftImg8bit.png', '_gtFine.png')
    assert dataset.data_prefix.img_path == 'images/val' and dataset.data_root == str(tmp_path / 'city')


def test_what_is_wrong_is_said_in_a_line(write, written, tmp_path, noise):
    def message(**what):
        with pytest.raises(UserError) as error:
            write(**what)
        return str(error.value)

    assert 'does not exist' in message(masks='none') and "--masks is missing" in message(masks=None)
    for number in range(5):
        noise(tmp_path / f'i/{number}.jpg')
        if number:
            save(np.uint8(np.arange(64 * 96).reshape(64, 96) % 2), tmp_path / f'm/{number}.png')
    mine = dict(images=str(tmp_path / 'i'), masks=str(tmp_path / 'm'))
    assert message(**mine).startswith(f'1 of 5 images in {tmp_path}/i have no mask in {tmp_path}/m: 0.jpg; expected')
    noise(tmp_path / 'm/0.png')
    assert f'the mask {tmp_path}/m/0.png has 3 channels' in message(**mine)
    (tmp_path / 'm/0.png').write_bytes(b'')
    assert f'cannot read the mask {tmp_path}/m/0.png' in message(**mine)
    noise(tmp_path / 'i/5.png')
    assert 'images of several suffixes (*.jpg 5, *.png 1)' in message(**mine)
    assert 'is in --images' in message(images=mine['masks'], masks=mine['masks'])
    assert 'No such file' in message(classes='none.txt') and 'cannot read the line' in message(palette=__file__)
    (tmp_path / 'colours.txt').write_text('1 2 3 sky\n')
    assert 'has 1 lines; expected one for each of the 5' in message(palette=str(tmp_path / 'colours.txt'))
