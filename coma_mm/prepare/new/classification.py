"""Classification of whole images, from folders of classes."""
import os

from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, walk_files
from coma_mm.datasets.usage import number, spread
from coma_mm.errors import UserError, first_names
from coma_mm.files import check_folder

from .draft import BLANK, VALIDATION, Draft, absolute, beginning, depth_notes, ending, lines, literal, shared, short_side
from .numbers import image_size, power_of_two, scaled, share_out
from .pretrained import backbone_settings, layer_decay, loading

BASES = dict(tiny='_base_/small/dyvit-tiny.py', small='classification/dyvit-small_8xb128-coslr-100e_in1k.py',
             base='classification/dyvit-base_8xb128-coslr-100e_in1k.py')
KNOWN_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')
"""Those that mmpretrain's CustomDataset looks for by itself."""
MANY = 10_000
"""Images from which on they are not few."""


def draft(data: str, *, arch: str, backbone: dict, size: int | None, epochs: int | None, gpus: int,
          pretrained: str | None) -> Draft:
    """Plan a classification.

    Args:
        data (str): A folder of folders of classes, or of `train` and `val` that have these.
        arch, backbone, size, epochs, gpus, pretrained: See `new_config`; `backbone` is {} without weights.

    Returns:
        Draft: All but the length.

    Raises:
        UserError: If there are no such folders, a class has no image, there is one class only, or validation has others.
    """
    folders = _split_folders(data)
    found = {split: _classes(folder) for split, folder in folders.items()}
    classes, paths = list(found['train']), sum(found['train'].values(), [])
    if 'val' in found and (different := set(classes) ^ set(found['val'])):
        raise UserError(f'{folders["train"]} and {folders["val"]} differ in their classes '
                        f'({first_names(sorted(different))}), so that class ids would differ; expected the same '
                        'folders in both, each with images')
    counts = {name: len(images) for name, images in found['train'].items()}
    split, train, rest = shared(len(paths), sum(map(len, found['val'].values())) if 'val' in found else None)
    what = f'{len(paths)} images of {len(classes)} classes ({spread(counts)}), {rest}'
    side = short_side(paths)
    size = image_size(size, side, (128, 64) if arch == 'tiny' else (224, 128))
    patch = backbone.get('patch_size', 16 if size <= 128 else 32)
    batch, update = share_out(power_of_two(train / 4, 16, 64 if arch == 'tiny' else 1024), gpus, 128, train)
    rate, base = (3e-4, 16) if arch == 'tiny' else (2e-3, 1024)
    if epochs:
        reason = 'as was asked for'
    elif pretrained:
        epochs, reason = (100, 'the paper\'s number') if train >= MANY else (
            200, f'fewer than {number(MANY)} images are seen often')
    else:
        epochs, reason = 300, 'from scratch it takes long'
    suffixes = {os.path.splitext(path)[1].lower() for images in found.values() for path in sum(images.values(), [])}
    extensions = f', extensions={literal(tuple(sorted(suffixes)))}' if suffixes - set(KNOWN_SUFFIXES) else ''

    def write(epochs: int) -> str:
        every, own = max(1, epochs // 20), backbone_settings(backbone, patch, pretrained, arch != 'tiny')
        preprocessor = '\n    data_preprocessor=dict(num_classes=num_classes),' if arch == 'tiny' else ''
        return lines([
            *beginning(f'{len(classes)} classes of images with DyViT-{arch} at {size} px, '
                       f'{"pre-trained" if pretrained else "from scratch"}', BASES[arch], absolute(data), split),
            f'num_classes = {len(classes)}  # the folders of classes, in the order of their names',
            f'size = {size}',
            f'update = {update}  # images of an update, on any number of GPUs',
            f'epochs = {epochs}',
            f'pretrained = {literal(absolute(pretrained))}' if pretrained else '',
            BLANK,
            split,
            f'model = dict({preprocessor}',
            f'    backbone=dict({", ".join(own)}),',
            '    head=dict(num_classes=num_classes))',
            '' if preprocessor else 'data_preprocessor = dict(num_classes=num_classes)',
            "train_pipeline = [dict(step, scale=size) if step['type'] == 'RandomResizedCrop' else step",
            '                  for step in _base_.train_pipeline]',
            'test_pipeline = [',
            "    dict(type='LoadImageFromFile'),",
            "    dict(type='ResizeEdge', scale=size * 8 // 7, edge='short', backend='pillow', interpolation='bicubic'),",
            "    dict(type='CenterCrop', crop_size=size),",
            "    dict(type='PackInputs'),",
            ']',
            *_loader('train', data, folders, loading(arch, batch), split, extensions),
            *_loader('val', data, folders, f'batch_size={batch}, ', split, extensions),
            'test_dataloader = val_dataloader',
            'val_evaluator = dict(topk=(1, ))\ntest_evaluator = val_evaluator' if len(classes) < 6 else '',
            *ending(every, rate, base, layer_decay(arch, pretrained)),
        ])

    return Draft(what=what, model=f'DyViT-{arch} at {size} px', images=train, update=update, batch=batch, gpus=gpus,
                 rate=scaled(rate, update, base), epochs=epochs, reason=reason, write=write, notes=depth_notes(paths))


def _split_folders(data: str) -> dict[str, str]:
    """The folder of the classes that are trained on, and of those for validation where there is one."""
    check_folder(data, 'a folder with a folder for each class', '--data')
    train = os.path.join(data, 'train')
    if not os.path.isdir(train):
        return dict(train=data)
    val = next((os.path.join(data, name) for name in VALIDATION if os.path.isdir(os.path.join(data, name))), None)
    return dict(train=train, val=val) if val else dict(train=train)


def _classes(folder: str) -> dict[str, list[str]]:
    """The images of each class, by the name of its folder, in order."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith('.') and os.path.isdir(
        os.path.join(folder, name)))
    found = {name: [path for path in walk_files(os.path.join(folder, name)) if path.lower().endswith(IMAGE_SUFFIXES)]
             for name in names}
    loose = sum(name.lower().endswith(IMAGE_SUFFIXES) for name in os.listdir(folder))
    if not any(found.values()):
        raise UserError(f'--data: {loose} images lie in {folder} itself and none in folders there; expected a folder '
                        'for each class')
    if empty := [name for name, images in found.items() if not images]:
        raise UserError(f'--data: {len(empty)} folders in {folder} have no image ({first_names(empty)}), and each would '
                        'count as a class; remove them, or add images')
    if len(found) == 1:
        raise UserError(f'--data: {folder} has one class only ({names[0]}); expected a folder for each of two or more')
    return found


def _loader(name: str, data: str, folders: dict[str, str], batch: str, split: str, extensions: str) -> list[str]:
    prefix = os.path.relpath(folders.get(name, folders['train']), data).removesuffix('.')
    indices = f', indices={name}_images' if split else ''
    return [f'{name}_dataloader = dict({batch}dataset=dict(',
            f"    _delete_=True, type='CustomDataset', data_root=data_root, data_prefix={literal(prefix)}{indices},",
            f'    pipeline={"train" if name == "train" else "test"}_pipeline{extensions}))']
