"""A classification that is written from folders of classes."""
import pytest

from coma_mm.errors import UserError

CLASSES = dict(bee=3, ant=9, wasp=12)


@pytest.fixture(scope='module')
def folder(tmp_path_factory, noise):
    """24 images in folders of three classes."""
    folder = tmp_path_factory.mktemp('insects')
    for name, count in CLASSES.items():
        for number in range(count):
            noise(folder / name / f'{number}.jpg', 80, 70)
    return folder


@pytest.fixture
def split_folder(tmp_path, noise):
    """Folders of train and of val, each with folders of classes, with files of other suffixes."""
    for split in ('train', 'val'):
        for name in CLASSES:
            for number in range(4):
                noise(tmp_path / 'data' / split / name / f'{number}.webp', 80, 70)
    return tmp_path / 'data'


def test_folders_of_classes_are_split_by_a_seed_and_trained_on(folder, written, runs, capsys):
    cfg, text, summary = written('classification', data=str(folder))
    assert summary == (
        '24 images of 3 classes (3 of bee to 12 of wasp), 2 held out by a seed: DyViT-tiny at 64 px, from scratch; '
        'update 16, lr 3e-4, 300 epochs (from scratch it takes long).')
    train, val = (cfg[f'{split}_dataloader'].dataset for split in ('train', 'val'))
    assert sorted([*train.indices, *val.indices]) == list(range(24)) and len(val.indices) == 2
    assert cfg.model.head.num_classes == 3 and 'Resize' not in {step.type for step in val.pipeline}
    runs(cfg)
    assert 'accuracy/top1' in capsys.readouterr().out


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base'])
def test_folders_of_train_and_val_are_what_they_say(split_folder, written, arch, runs):
    cfg, text, summary = written('classification', data=str(split_folder), arch=arch, size=64)
    assert 'random' not in text and summary.startswith('12 images of 3 classes (4 of each), and 12 for validation')
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.type == 'CustomDataset' and dataset.data_prefix == ('train' if split == 'train' else 'val')
        assert dataset.extensions == ('.webp', ) and 'split' not in dataset
    preprocessor = cfg.get('data_preprocessor') or cfg.model.data_preprocessor
    assert cfg.model.head.num_classes == preprocessor.num_classes == 3 and cfg.val_evaluator.topk == (1, )
    assert arch == 'tiny' or cfg.model.backbone.init_cfg.type == 'Xavier'


def test_weights_to_start_from_say_what_they_are_of(folder, written, tmp_path):
    tmp_path.joinpath('pretrain.py').write_text(
        "model = dict(type='CoMA', backbone=dict(type='DyViT', arch='base', patch_size=16, init_cfg=None))\n")
    checkpoint = tmp_path / 'epoch_2.pth'
    checkpoint.touch()
    cfg, _, summary = written('classification', data=str(folder), arch=None, pretrained=str(checkpoint))
    backbone = cfg.model.backbone
    assert (backbone.arch, backbone.patch_size, backbone.init_cfg.checkpoint) == ('base', 16, str(checkpoint))
    assert backbone.out_type == 'avg_featmap' and cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == 0.75
    with pytest.raises(UserError, match='^--arch tiny: the weights in .* are of DyViT-base; give --arch base'):
        written('classification', data=str(folder), arch='tiny', pretrained=str(checkpoint))


def test_what_is_wrong_is_said_in_a_line(folder, split_folder, written, tmp_path, noise):
    def message(data):
        with pytest.raises(UserError) as error:
            written('classification', data=str(data))
        return str(error.value)

    (split_folder / 'val/ant').rename(split_folder / 'val/bug')
    assert 'differ in their classes (ant, bug)' in message(split_folder)
    (split_folder / 'train/new').mkdir()
    assert message(split_folder).startswith(f'--data: 1 folders in {split_folder}/train have no image (new)')
    assert 'does not exist' in message(tmp_path / 'none') and 'is not a folder' in message(__file__)
    assert '3 images lie in' in message(folder / 'bee')
    noise(tmp_path / 'one/class/0.png')
    assert 'has one class only (class)' in message(tmp_path / 'one')
