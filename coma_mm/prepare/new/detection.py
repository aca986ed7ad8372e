"""Detection from COCO files: Mask R-CNN, or its boxes alone where objects have no masks."""
import io
import os
from collections import Counter
from contextlib import redirect_stdout
from typing import NamedTuple

from coma_mm.datasets.annotations import missing_files
from coma_mm.datasets.coco import CheckedCOCO
from coma_mm.datasets.usage import many
from coma_mm.errors import MissingFileError, UserError, first_names
from coma_mm.prepare.check import has_mask

from .draft import BLANK, Draft, absolute, assign, beginning, depth_notes, ending, lines, literal, shared, short_side
from .numbers import WIDTHS, image_size, length, power_of_two, scaled, share_out
from .pretrained import backbone_settings, layer_decay, loading

BASES = dict(tiny='small/mask-rcnn_dyvit-tiny_20e_coco-mini-224px.py',
             small='detection/mask-rcnn_dyvit-small_fpn_8xb8-lsj-100e_coco-768px.py',
             base='detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-768px.py')
LENGTHS = dict(tiny=(20, 1000), small=(100, 4000), base=(100, 4000))
"""Epochs of the config that is inherited, and the fewest updates of a run."""


MANY = 10_000
"""Images from which on an update is ViTDet's, 64 images; below it is that of mmdetection's Swin, at the same rate."""


class Coco(NamedTuple):
    """What a COCO file says.

    Args:
        path (str): The file.
        folder (str): That the names of its images are relative to.
        images (list[str]): The paths of its images.
        categories (list[str]): Their names, in the file's order.
        objects (Counter): How many objects each category has.
        without_mask (int): Objects without one.
        negatives (int): Images without an object.
    """
    path: str
    folder: str
    images: list[str]
    categories: list[str]
    objects: Counter
    without_mask: int
    negatives: int


def draft(images: str, train: str, val: str | None = None, *, arch: str, backbone: dict, size: int | None,
          epochs: int | None, gpus: int, pretrained: str | None) -> Draft:
    """Plan a detection.

    Args:
        images (str): The folder of the images, or one with a folder for each file of annotations.
        train (str): The COCO file of the annotations.
        val (str, optional): The same for validation. Defaults to a tenth of the images in `train`.
        arch, backbone, size, epochs, gpus, pretrained: See `new_config`; `backbone` is {} without weights.

    Returns:
        Draft: All but the length.

    Raises:
        UserError: If a file is not as COCO's are, has no categories or no object, or images are missing.
    """
    found = dict(train=read_coco(train, images, '--train'))
    if val:
        found['val'] = read_coco(val, images, '--val')
    own = found['train']
    classes = [name for name in own.categories if own.objects[name]]
    if not classes:
        raise UserError(f'--train {train} has no object; expected annotations of some')
    if val and (new := [name for name in found['val'].categories if found['val'].objects[name] and name not in classes]):
        raise UserError(f'--val {val} has objects of {first_names(new)}, of which --train {train} has none; expected the '
                        'same categories in both')
    without = sum(one.without_mask for one in found.values())
    total = sum(one.objects.total() for one in found.values())
    masks, notes = not without, []
    if empty := [name for name in own.categories if name not in classes]:
        notes.append(f'No object is of {first_names(empty)}, which is left out')
    if val and (both := len(set(own.images) & set(found['val'].images))):
        notes.append(f'Of the images for validation {both} are trained on, too')
    if 0 < without < total:
        notes.append(f'{without} of {total} objects have no mask, so boxes alone are learnt')
    split, count, rest = shared(len(own.images), len(found['val'].images) if val else None)
    what = (f'{many(len(own.images), "image")} with {many(own.objects.total(), "object")} of {many(len(classes), "class")}, '
            f'{rest}')
    if val:
        count -= own.negatives  # the base leaves out images without an object
    if own.negatives:
        notes.append(f'Images without an object ({own.negatives}) {"are left out" if val else "teach what is none"}')
    notes += depth_notes(own.images)
    side = short_side(own.images)
    size = image_size(size, 2 * side, (224, 128) if arch == 'tiny' else (768, 512, 256))
    most = 4 if arch == 'tiny' else 64 if count >= MANY else 16
    batch, update = share_out(power_of_two(count / 8, gpus, max(gpus, most)), gpus, 4, count)
    rate, base = 1e-3 if arch == 'tiny' else 1e-4, most
    epochs, reason = length(epochs, *LENGTHS[arch], count, update)
    root = os.path.commonpath([absolute(place) for one in found.values() for place in (one.folder, one.path)])
    if root in {absolute(one.path) for one in found.values()}:
        root = os.path.dirname(root)
    patch = backbone.get('patch_size', 32)

    def write(epochs: int) -> str:
        every, warm = max(1, epochs // 20), min(250, max(1, epochs * count // update // 20))
        settings = backbone_settings(backbone, patch, pretrained)
        neck = ''
        if patch == 16:  # stages 3 and 4 have one stride: the pyramid takes the last of them
            settings.insert(0, 'out_indices=(0, 1, 3)')
            neck = f'    neck=dict(in_channels={[WIDTHS[arch][stage] for stage in (0, 1, 3)]}),'
        metric = '' if masks else ", metric=['bbox']"
        evaluated = 'None' if split else f'data_root + {literal("/" + os.path.relpath(absolute(val), root))}'
        return lines([
            *beginning(f'Mask R-CNN{"" if masks else ", its boxes alone,"} with DyViT-{arch} at {size} px on '
                       f'{many(len(classes), "class")}, {"pre-trained" if pretrained else "from scratch"}',
                       BASES[arch], root, split),
            assign('classes', classes),
            f'size = {size}',
            f'update = {update}  # images of an update, on any number of GPUs',
            f'epochs = {epochs}',
            f'pretrained = {literal(absolute(pretrained))}' if pretrained else '',
            BLANK,
            split,
            *_pipelines(arch, masks, bool(split)),
            BLANK,
            'model = dict(',
            '' if arch == 'tiny' else
            "    data_preprocessor=dict(batch_augments=[dict(type='BatchFixedSizePad', size=(size, size), pad_mask=True)]),",
            f'    backbone=dict({", ".join(settings)}),',
            neck,
            '    roi_head=dict(bbox_head=dict(num_classes=len(classes)), mask_head='
            f'{"dict(num_classes=len(classes))" if masks else "None"}))',
            *_loader('train', own, root, loading(arch, batch), split),
            *_loader('val', found.get('val', own), root, '', split),
            'test_dataloader = val_dataloader',
            *(['# Without a file the metric compares with what the data set has, which is a part of one.'] * bool(split)),
            f'val_evaluator = dict(ann_file={evaluated}{metric})',
            'test_evaluator = val_evaluator',
            '' if arch == 'tiny' else f'param_scheduler = [dict(_base_.warmup, end={warm}), _base_.steps]',
            *ending(every, rate, base, layer_decay(arch, pretrained)),
        ])

    return Draft(what=what, model=f'{"Mask R-CNN" if masks else "boxes by Mask R-CNN"} with DyViT-{arch} at {size} px',
                 images=count, update=update, batch=batch, gpus=gpus, rate=scaled(rate, update, base), epochs=epochs,
                 reason=reason, write=write, notes=notes)


def _pipelines(arch: str, masks: bool, split: bool) -> list[str]:
    steps = ['Resize=dict(scale=(size, size))'] if arch == 'tiny' else [
        f'{kind}=dict({key}=(size, size))' for kind, key in (
            ('RandomResize', 'scale'), ('RandomCrop', 'crop_size'), ('Resize', 'scale'))]
    if not masks:
        steps.append('LoadAnnotations=dict(with_mask=False)')
    rows = [f'changes = dict(\n    {", ".join(steps)})',
            "train_pipeline = [dict(step, **changes.get(step['type'], {})) for step in _base_.train_pipeline]",
            "test_pipeline = [dict(step, **changes.get(step['type'], {})) for step in _base_.test_pipeline]"]
    return [*rows, "test_pipeline[-1]['meta_keys'] += ('instances', )  # for the metric"] if split else rows


def _loader(name: str, coco: Coco, root: str, batch: str, split: str) -> list[str]:
    file, folder = (literal(os.path.relpath(absolute(place), root)) for place in (coco.path, coco.folder))
    indices = f'filter_cfg=None, indices={name}_images, ' if split else ''
    return [f'{name}_dataloader = dict({batch}dataset=dict(',
            f'    data_root=data_root, ann_file={file}, data_prefix=dict(img={folder}),',
            f'    metainfo=dict(classes=classes), {indices}pipeline={"train" if name == "train" else "test"}_pipeline))']


def read_coco(path: str, images: str, option: str) -> Coco:
    """Read a COCO file, and find its images.

    Args:
        path (str): The file.
        images (str): The folder of the images, or one with folders of images.
        option (str): That names the file, for messages.

    Returns:
        Coco: What it says.

    Raises:
        UserError: If it is not as COCO's are, has no categories, or images are missing.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f'{option} {path}: no such file; expected COCO annotations')
    if not os.path.isdir(images):
        raise MissingFileError(f'--images {images}: no such folder')
    coco = open_coco(path, option)
    names = [str(image['file_name']) for image in coco.dataset['images']]
    folder = folder_of(names, images, path)
    by_id = {one['id']: str(one['name']) for one in coco.dataset['categories']}
    annotations = [one for one in coco.dataset['annotations'] if one['category_id'] in by_id and not one.get('ignore')]
    return Coco(
        path, folder, [os.path.join(folder, name) for name in names], list(by_id.values()),
        Counter(by_id[one['category_id']] for one in annotations), sum(not has_mask(one) for one in annotations),
        len(names) - len({one['image_id'] for one in annotations}))


def open_coco(path: str, option: str = '') -> CheckedCOCO:
    """Open a COCO file that has images and categories; `option` names it in messages.

    Raises:
        UserError: If it is not as COCO's are, or lacks either.
    """
    with redirect_stdout(io.StringIO()):  # pycocotools tells how far it is
        coco = CheckedCOCO(path)
    where = f'{option} {path}'.lstrip()
    if not coco.dataset['categories']:
        raise UserError(f'{where} has no categories; expected their ids and names, as in '
                        '"categories": [{"id": 1, "name": "cat"}]')
    if not coco.dataset['images']:
        raise UserError(f'{where} names no image')
    return coco


def folder_of(names: list[str], images: str, path: str) -> str:
    """The folder that the names of images are relative to: the one given, that of the file itself, or one in the first."""
    gone = missing_files([os.path.join(images, name) for name in names])
    if not gone:
        return images
    inside = sorted(entry.path for entry in os.scandir(images) if entry.is_dir())
    own = os.path.dirname(path) or '.'
    fitting = [folder for folder in [own, *inside] if os.path.exists(os.path.join(folder, names[0]))
               and not missing_files([os.path.join(folder, name) for name in names])]
    if own in fitting or len(fitting) == 1:
        return fitting[0]
    stem = os.path.splitext(os.path.basename(path))[0]
    if len(named := [folder for folder in fitting if os.path.basename(folder) in stem]) == 1:
        return named[0]
    if fitting:
        raise UserError(f'the images that {path} names are in {first_names(fitting)} alike; name the right folder by '
                        '--images')
    raise UserError(f'{many(len(gone), "file")} of the {len(names)} that {path} names are not in {images}: '
                    f'{first_names(os.path.relpath(one, images) for one in gone)}; give the folder that these names are '
                    'relative to as --images')
