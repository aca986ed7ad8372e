"""Semantic segmentation from images and masks, with UperNet."""
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from coma_mm.errors import UserError, first_names
from coma_mm.files import check_folder

from .draft import (
    BLANK,
    VALIDATION,
    Draft,
    absolute,
    assign,
    beginning,
    depth_notes,
    ending,
    lines,
    list_images,
    literal,
    shared,
    short_side,
)
from .label_values import class_names, count_values, find_labels, palette_of, read_palette
from .numbers import image_size, length, power_of_two, scaled, share_out
from .pretrained import backbone_settings, layer_decay, loading

BASES = dict(tiny='small/upernet_dyvit-tiny_40e_coco-mini-256px.py',
             small='segmentation/upernet_dyvit-small_8xb2-160k_ade20k-512x512.py',
             base='segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512.py')
TRAINING = ('train', 'training')
OPTIONS = ('--images', '--masks')
LENGTHS = dict(tiny=(40, 1000), small=(127, 4000), base=(127, 4000))
"""Epochs of the config that is inherited, and the fewest updates of a run."""


class Pairs(NamedTuple):
    """Images and their masks.

    Args:
        images (list[str]): Sorted.
        masks (list[str]): Each image's.
        image_suffix (str): What the name of an image has behind what it shares with its mask's.
        mask_suffix (str): The same of a mask.
        alone (int): Masks without an image.
    """
    images: list[str]
    masks: list[str]
    image_suffix: str
    mask_suffix: str
    alone: int


def draft(images: str, masks: str, classes: str | Sequence[str] | None = None, ignore: Sequence[int] | None = None,
          palette: str | None = None, *, arch: str, backbone: dict, size: int | None, epochs: int | None, gpus: int,
          pretrained: str | None) -> Draft:
    """Plan a segmentation.

    Args:
        images (str): The folder of the images, perhaps with folders of training and validation.
        masks (str): The folder of the masks, PNG files with the names of the images.
        classes (str | Sequence[str], optional): The names of the classes in the order of their values, or a file that has
            one in each line.
        ignore (Sequence[int], optional): Values of the masks that are no class.
        palette (str, optional): A file with a colour R G B in each line, for drawings.
        arch, backbone, size, epochs, gpus, pretrained: See `new_config`; `backbone` is {} without weights.

    Returns:
        Draft: All but the length.

    Raises:
        UserError: If an image has no mask, a mask is none, or which values are classes has to be asked for.
    """
    names = class_names(classes)
    parts, root = find_parts(images, masks), os.path.commonpath([absolute(images), absolute(masks)])
    pairs = {split: find_pairs(*folders) for split, folders in parts.items()}
    if len({pair[2:4] for pair in pairs.values()}) > 1:
        raise UserError('the images or masks of training and validation end differently: '
                        f'{" and ".join(f"*{pair.image_suffix}, *{pair.mask_suffix}" for pair in pairs.values())}; expected '
                        'the same in both')
    first = pairs['train']
    values, read = count_values(sum((pair.masks for pair in pairs.values()), []))
    labels = find_labels(values, names, ignore)
    colours = read_palette(palette, len(labels.names)) if palette else palette_of(first.masks[0], labels.values)
    split, train, rest = shared(len(first.images), len(pairs['val'].images) if 'val' in pairs else None)
    what = f'{len(first.images)} images with masks, {rest}, {len(labels.names)} classes'
    if left := [str(value) for value in labels.ignored if value in values]:
        what += f', {", ".join(left)} ignored'
    notes = list(labels.notes)
    if read < sum(len(pair.masks) for pair in pairs.values()):
        notes.append(f'The values of the masks were counted in {read} of them')
    if first.alone:
        notes.append(f'{first.alone} masks have no image and are not used')
    notes += depth_notes(first.images)
    side = short_side(first.images)
    default = 256 if arch == 'tiny' else 512
    size = image_size(size, side * 4 // 3, (default, default // 2))
    low = 2 * gpus  # BatchNorm wants two images on each
    batch, update = share_out(power_of_two(train / 2, low, max(low, 8 if arch == 'tiny' else 16)), gpus,
                              8 if arch == 'tiny' else 4, train)
    rate, base = (1e-3, 8) if arch == 'tiny' else (1e-4, 16)
    epochs, reason = length(epochs, *LENGTHS[arch], train, update)
    suffixes = ''.join(f', {key}={literal(own)}' for key, own, usual in (
        ('img_suffix', first.image_suffix, '.jpg'), ('seg_map_suffix', first.mask_suffix, '.png')) if own != usual)

    def write(epochs: int) -> str:
        count = max(1, epochs * train // update)
        every, warm = max(1, (epochs if arch == 'tiny' else count) // 20), min(1500, max(1, count // 20))
        loss = ', loss_decode=dict(avg_non_ignore=True)' if labels.ignored and arch != 'tiny' else ''
        own = ', '.join(backbone_settings(backbone, backbone.get('patch_size', 32), pretrained))
        return lines([
            *beginning(f'UperNet with DyViT-{arch} at {size} px on {len(labels.names)} classes, '
                       f'{"pre-trained" if pretrained else "from scratch"}', BASES[arch], root, split),
            assign('classes', labels.names),
            assign('palette', colours) if colours else '',
            f'size = {size}',
            f'update = {update}  # images of an update, on any number of GPUs',
            f'epochs = {epochs}' if arch == 'tiny' else f'iters = {count}  # {epochs} epochs',
            f'pretrained = {literal(absolute(pretrained))}' if pretrained else '',
            BLANK,
            split,
            *_pipelines(arch, labels.ids if not labels.reduces_zero else {}),
            BLANK,
            'model = dict(',
            '    data_preprocessor=dict(size=crop),',
            f'    backbone=dict({own}),',
            f'    decode_head=dict(num_classes=len(classes){loss}),',
            f'    auxiliary_head=dict(num_classes=len(classes){loss})' + (
                ',\n    test_cfg=dict(crop_size=crop, stride=(size * 2 // 3, size * 2 // 3)))' if arch != 'tiny' else ')'),
            f"dataset = dict(type='BaseSegDataset', data_root=data_root, reduce_zero_label={labels.reduces_zero}{suffixes},",
            f'               metainfo=dict(classes=classes{", palette=palette" if colours else ""}))',
            *_loader('train', parts, root, loading(arch, batch), split),
            *_loader('val', parts, root, '', split),
            'test_dataloader = val_dataloader',
            '' if arch == 'tiny' else f'param_scheduler = [dict(_base_.param_scheduler[0], end={warm}), '
            f'dict(_base_.param_scheduler[1], begin={warm})]',
            *ending(every, rate, base, layer_decay(arch, pretrained)),
        ])

    return Draft(what=what, model=f'UperNet with DyViT-{arch} at {size} px', images=train, update=update, batch=batch,
                 gpus=gpus, rate=scaled(rate, update, base), epochs=epochs, reason=reason, write=write, notes=notes)


def _pipelines(arch: str, ids: dict[int, int]) -> list[str]:
    scale = '(size, size)' if arch == 'tiny' else '(4 * size, size)'
    mapped = f", dict(type='MapClassIds', ids={ids})" if ids else ''
    crop = '(size * 5 // 8, size * 5 // 8)' if arch == 'tiny' else '(size, size)'
    resize = '' if arch == 'tiny' else f'RandomResize=dict(scale={scale}), '
    return [
        f'crop = {crop}',
        f"labels = [dict(type='LoadAnnotations'){mapped}]" + ('  # 255 is ignored' if ids else ''),
        f'sizes = dict(\n    {resize}Resize=dict(scale={scale}), RandomCrop=dict(crop_size=crop))',
        *(f"{name}_pipeline = [one for step in _base_.{name}_pipeline for one in (\n"
          "    labels if step['type'] == 'LoadAnnotations' else [dict(step, **sizes.get(step['type'], {}))])]"
          for name in ('train', 'test')),
        '' if arch == 'tiny' or not ids else
        "tta_pipeline = [_base_.tta_pipeline[0], dict(_base_.tta_pipeline[1], transforms=[\n"
        "    *_base_.tta_pipeline[1]['transforms'][:-1], [labels[1]], [dict(type='PackSegInputs')]])]",
    ]


def _loader(name: str, parts: dict[str, tuple[str, str]], root: str, batch: str, split: str) -> list[str]:
    folders = parts.get(name, parts['train'])
    images, masks = (literal(os.path.relpath(absolute(folder), root)) for folder in folders)
    indices = f'indices={name}_images, ' if split else ''
    return [f'{name}_dataloader = dict({batch}dataset=dict(',
            f'    dataset, data_prefix=dict(img_path={images}, seg_map_path={masks}), {indices}',
            f'    pipeline={"train" if name == "train" else "test"}_pipeline))']


def find_parts(images: str, masks: str, options: tuple[str, str] = OPTIONS) -> dict[str, tuple[str, str]]:
    """Find the folders of images and masks, of training and of validation if there are such.

    Args:
        images (str): The folder of all images.
        masks (str): That of all masks.
        options (tuple[str, str]): What names them, for messages. Defaults to `OPTIONS`.

    Returns:
        dict[str, tuple[str, str]]: By 'train' and 'val', or by 'train' alone.

    Raises:
        UserError: If one of them is no folder.
    """
    for option, folder in zip(options, (images, masks), strict=True):
        check_folder(folder, 'a folder of images, and one of their masks', option)
    there = [{name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))}
             for folder in (images, masks)]
    train, val = (next((name for name in names if name in there[0]), None) for names in (TRAINING, VALIDATION))
    if not (train and val and {train, val} <= there[1]):
        return dict(train=(images, masks))
    return {split: (os.path.join(images, name), os.path.join(masks, name))
            for split, name in (('train', train), ('val', val))}


def find_pairs(images: str, masks: str, without: list[str] | None = None, options: tuple[str, str] = OPTIONS) -> Pairs:
    """Find the mask of each image.

    The names are the same but for what all images, or all masks, have at their end: `a_leftImg8bit.png` and
    `a_gtFine_labelIds.png` are a pair.

    Args:
        images (str): A folder.
        masks (str): A folder with the same folders in it, if there are any.
        without (list[str], optional): Takes the images without a mask, which are then left out. Defaults to refusing them.
        options (tuple[str, str]): What names the folders, for messages. Defaults to `OPTIONS`.

    Returns:
        Pairs: All images, each with its mask.

    Raises:
        UserError: If there is an image without a mask, or images have several suffixes.
    """
    found = list_images(masks, options[1], ('.png', ))
    inside = {os.path.realpath(path) for path in found}
    there = list_images(images, options[0])
    paths = [path for path in there if os.path.realpath(path) not in inside]
    suffixes = Counter(os.path.splitext(path)[1] for path in paths)
    if not paths or len(paths) < len(there) and '.png' in suffixes:
        raise UserError(f'{options[1]} {masks} is in {options[0]} {images}, so that masks would be read as images; '
                        'expected a folder of each')
    if len(suffixes) > 1:
        counts = ', '.join(f'*{suffix} {count}' for suffix, count in suffixes.most_common())
        raise UserError(f'{options[0]} {images} has images of several suffixes ({counts}), and mmsegmentation reads '
                        'those of one; rename or convert the others')
    paths, found = ([os.path.relpath(path, root) for path in some] for some, root in ((paths, images), (found, masks)))
    tried = []
    for common in (False, True):
        (stems, image_suffix), (others, mask_suffix) = _stems(paths, common), _stems(found, common)
        there = set(others)
        pairs = [(path, stem + mask_suffix) for path, stem in zip(paths, stems, strict=True) if stem in there]
        tried.append(Pairs([os.path.join(images, path) for path, _ in pairs],
                           [os.path.join(masks, mask) for _, mask in pairs], image_suffix, mask_suffix,
                           len(found) - len(pairs)))
        if len(pairs) == len(paths):
            return tried[-1]
    best = max(tried, key=lambda pairs: len(pairs.images))
    having = set(best.images)
    alone = [path for path in paths if os.path.join(images, path) not in having]
    if without is not None and best.images:
        without += alone
        return best
    raise UserError(f'{len(alone)} of {len(paths)} images in {images} have no mask in {masks}: {first_names(alone)}; '
                    'expected a PNG with the name of each image')


def _stems(paths: Sequence[str], common: bool) -> tuple[list[str], str]:
    """Names without their suffix, or without all that they have in common at their end, from a mark on."""
    suffix = os.path.splitext(paths[0])[1]
    if common:
        shared = os.path.commonprefix([path[::-1] for path in paths])[::-1]
        suffix = next((shared[place:] for place, letter in enumerate(shared) if letter in '_-.'), suffix)
    return [path.removesuffix(suffix) for path in paths], suffix
