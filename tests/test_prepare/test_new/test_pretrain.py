"""A pre-training that is written from a folder of images."""
import numpy as np
import pytest
from PIL import Image

from coma_mm.errors import UserError


@pytest.fixture(scope='module')
def folder(tmp_path_factory, noise):
    """200 images in folders."""
    folder = tmp_path_factory.mktemp('photos')
    for number in range(200):
        noise(folder / f'album{number % 3}/{number}.png', 150, 140)
    return folder


def test_a_folder_of_200_images_is_pre_trained_on(folder, written, runs, capsys):
    cfg, text, summary = written('pretrain', images=str(folder))
    assert summary == (
        '200 images, every 20th held out: DyViT-tiny at 128 px, patches of 16 px, from scratch; update 32, lr 5e-4 by the '
        "linear rule (1e-3 × 32/64), 400 epochs (more than the paper's 300, as there are fewer than 100 000 images).")
    assert len(text.splitlines()) < 16 and cfg.auto_scale_lr.base_batch_size == 32
    assert cfg.model.backbone.out_indices == (3, )  # alone, as small data want it
    assert cfg.optim_wrapper.optimizer.lr == 5e-4 and cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 400
    runs(cfg)
    assert 'reconstruction/' in capsys.readouterr().out


@pytest.mark.parametrize('number, gpus, expected', [
    (950, 1, (128, 256)), (200, 1, (32, 32)), (3000, 8, (64, 512)), (20, 1, (19, 19)), (950, 3, (85, 255)),
    (100_000, 8, (128, 4096))])
def test_batch_and_update_follow_the_number_of_images(monkeypatch, tmp_path, written, number, gpus, expected):
    tmp_path.joinpath('photos').mkdir()
    monkeypatch.setattr('coma_mm.prepare.new.draft.walk_files', lambda _: (f'{n}.jpg' for n in range(number)))
    monkeypatch.setattr('coma_mm.prepare.new.pretrain.short_side', lambda _: 300)
    cfg, _, summary = written('pretrain', images=str(tmp_path / 'photos'), arch='small', gpus=gpus)
    batch, update = cfg.train_dataloader.batch_size, cfg.auto_scale_lr.base_batch_size
    assert (batch, update) == expected and cfg.optim_wrapper.optimizer.lr == 1.5e-4 * update / 256
    assert cfg.train_cfg.max_epochs == (300 if number == 100_000 else 400) and len(cfg.model.backbone.out_indices) == 4
    assert cfg.param_scheduler[0].end == 40 and 'DyViT-small at 224 px, patches of 32 px' in summary


def test_a_small_size_has_small_patches_in_all_of_the_config(written, folder):
    cfg, text, summary = written('pretrain', images=str(folder), arch='base', size=96, epochs=3, pretrained=__file__)
    assert 'DyViT-base at 96 px, patches of 16 px, from ' in summary and ', 3 epochs (as was asked for)' in summary
    steps = {step.type: step for split in ('train', 'val') for step in cfg[f'{split}_dataloader'].dataset.pipeline}
    assert steps['LoadRandomResizedCrop'].scale == steps['ResizeEdge'].scale == steps['CenterCrop'].crop_size == 96
    assert cfg.model.backbone.patch_size == steps['PatchMask'].patch_size == 16
    assert cfg.model.backbone.init_cfg.checkpoint == __file__


@pytest.mark.parametrize('what, message', [
    (dict(images=None), 'new pretrain: --images is missing'), (dict(images='none'), '--images none does not exist'),
    (dict(images=__file__), '--images .* is not a folder'), (dict(size=100), '--size 100: expected a multiple of 16 px'),
    (dict(size=144), '--size 144: expected a multiple of the patch'), (dict(gpus=300), '--gpus 300: the 190 images'),
    (dict(arch='smal'), "--arch='smal': expected one of .*; did you mean 'small'"), (dict(epochs=0), '--epochs=0'),
    (dict(hours=1, epochs=2), '--epochs and --hours'), (dict(hours=1), '--hours needs'),
    (dict(pretrained='none.pth'), '--pretrained none.pth: no such file'), (dict(masks='x'), "new pretrain: option='masks'")])
def test_what_is_wrong_is_said_in_a_line(folder, written, what, message):
    with pytest.raises(UserError, match=message):
        written('pretrain', **{'images': str(folder), **what})


def test_too_few_images_and_none_are_told_apart(tmp_path, noise, written):
    noise(tmp_path / 'a.png')
    with pytest.raises(UserError, match='^1 images in --images .*: expected 16 or more'):
        written('pretrain', images=str(tmp_path))
    (tmp_path / 'a.png').rename(tmp_path / 'a.txt')
    with pytest.raises(UserError, match=r'^no image in --images .* \(1 other files in it and below\)'):
        written('pretrain', images=str(tmp_path))


@pytest.mark.parametrize('task, option', [('pretrain', 'images'), ('classification', 'data')])
def test_images_that_a_run_would_refuse_for_their_depth_are_told_of(written, noise, tmp_path, task, option):
    for number in range(16):
        noise(tmp_path / 'photos' / 'ab'[number % 2] / f'{number}.png')
    _, _, summary = written(task, **{option: str(tmp_path / 'photos')})
    assert '--bands' not in summary
    Image.fromarray(np.arange(96 * 64, dtype=np.uint16).reshape(64, 96)).save(tmp_path / 'photos/a/0.png')
    _, _, summary = written(task, **{option: str(tmp_path / 'photos')})
    assert summary.endswith('. A run refuses images like 0.png, as it holds 16-bit values from 0 to 6143 in 1 band, unless '
                            'it has --bands (docs/bands.md).')
