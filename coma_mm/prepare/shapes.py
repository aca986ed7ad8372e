"""Write CoMA-Shapes to disk: one set of scenes in the layouts of ImageNet, ADE20K and COCO at once.

Each picture is encoded once; the three layouts share it through hard links (copies where the file system has none).
The same parameters give the same bytes, for any number of workers, and picture i of a split does not depend on how
many there are. See docs/shapes.md for the layout.
"""
import io
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from coma_mm.errors import UserError, choice
from coma_mm.files import remove_empty, write_whole
from coma_mm.locks import NAME, locked
from coma_mm.processes import pool_map

from .shape_scenes import LEVELS, NAMES, SPLITS, WHITE, Level, Scene, render_scene

VERSION = 1  # to be raised by every change that changes a written byte
MARKER = 'coma_shapes.json'
MIN_SIZE = 32
JPEG_QUALITY = 92
ADE_FOLDERS = {'train': 'training', 'val': 'validation', 'test': 'test'}
LABELLED = tuple(ADE_FOLDERS)
FOLDERS = ('unlabelled', 'imagenet', 'ade20k', 'coco')
OWN = re.compile(rf'({"|".join(SPLITS)})_\d{{6,}}\.(jpg|png|tif)|instances_({"|".join(LABELLED)})\.json')  # in these folders
# Shares of the splits in a data set of which only the total is given.
SHARES = {'unlabelled': 0.75, 'train': 0.15, 'val': 0.05, 'test': 0.05}


def split_counts(images: int, **counts) -> dict:
    """Number of pictures of each split.

    Args:
        images (int): Total that is shared out as `SHARES` says, what rounding leaves over going to `unlabelled`.
        **counts (int | None): Numbers given by split name, which replace that split's share.

    Returns:
        dict: Count by split name, in the order of `SPLITS`.

    Raises:
        UserError: A count is negative, or there is nothing to write.
    """
    for name, count in dict(images=images, **counts).items():
        if count is not None and count < 0:
            raise UserError(f'--{name} is {count}; expected 0 or more pictures')
    shares = {split: int(images * SHARES[split]) for split in SPLITS}
    shares['unlabelled'] += images - sum(shares.values())
    shares.update({split: count for split, count in counts.items() if count is not None})
    if not any(shares.values()):
        raise UserError('no pictures to write: all splits are empty; expected a positive count of at least one')
    return shares


def write_shapes(out, counts: dict, size: int = 128, seed: int = 0, workers: int = 1, overwrite: bool = False,
                 progress: bool = True, level: str = 'hard', bands: int = 3) -> bool:
    """Write the data set, or find it already there.

    Args:
        out (str | Path): Folder to write to: absent, empty, or one that this function made.
        counts (dict): Number of pictures by split, as `split_counts` returns it.
        size (int): Side of the pictures in pixels, at least 32. Defaults to 128.
        seed (int): Seed, 0 or more. Defaults to 0.
        workers (int): Processes that draw. Does not change a byte. Defaults to 1.
        overwrite (bool): Replace a data set of other parameters that this function made. Defaults to False.
        progress (bool): Show a progress bar. Defaults to True.
        level (str): How hard the scenes are, 'easy' or 'hard'. Defaults to 'hard'.
        bands (int): 3: 8-bit RGB, as JPEG. 4: near infrared as well, 16 bits, as GeoTIFF; two classes differ in that band
            alone. Defaults to 3.

    Returns:
        bool: False if the same data set was there, complete, and nothing was done.

    Raises:
        UserError: A bad parameter, or a folder that cannot be written, must not be overwritten, or is being written.
    """
    if size < MIN_SIZE:
        raise UserError(f'--size is {size}; expected at least {MIN_SIZE} pixels (the shapes are not to be told apart '
                        'below)')
    if seed < 0:
        raise UserError(f'--seed is {seed}; expected 0 or more')
    if workers < 1:
        raise UserError(f'--workers is {workers}; expected 1 or more')
    choice('--level', level, LEVELS)
    choice('--bands', bands, (3, 4))
    out = Path(out)
    parameters = dict(seed=seed, level=level, size=size, counts={split: counts[split] for split in SPLITS},
                      **(dict(bands=bands) if bands != 3 else {}))
    if _is_there(out, parameters, overwrite):
        return False
    with locked(out):
        if _is_there(out, parameters, overwrite):  # by another process, meanwhile
            return False
        _write(out, parameters, workers, progress)
    return True


def _write(out: Path, parameters: dict, workers: int, progress: bool) -> None:
    try:
        # The marker says "incomplete" before the first file changes and "complete" after the last one is written.
        files, folders = _written(out)
        _write_marker(out, parameters, complete=False)
        for path in files:
            path.unlink()
        remove_empty(folders)
        _write_all(out, **parameters, workers=workers, progress=progress)
        _write_marker(out, parameters, complete=True)
    except OSError as error:
        raise UserError(f'cannot write {error.filename or out}: {error.strerror or error}; free some space or choose '
                        'another folder') from error


def contact_sheet(scenes: list, level: str, columns: int = 4, min_side: int = 128) -> np.ndarray:
    """Pictures, near infrared where there is some, and annotations: instance masks and boxes in the colour of the class, the
    label below.

    Args:
        scenes (list[Scene]): Scenes of one size.
        level (str): Their level.
        columns (int): Scenes per row. Defaults to 4.
        min_side (int): Pictures smaller than this are enlarged by a whole factor, in pixels. Defaults to 128.

    Returns:
        np.ndarray: RGB, uint8.
    """
    level = LEVELS[level].of_bands(scenes[0].image.shape[2])
    cells = [_annotated(scene, level, -(-min_side // len(scene.image))) for scene in scenes]
    blank = np.full_like(cells[0], 255)
    rows = [cells[i:i + columns] for i in range(0, len(cells), columns)]
    rows = [np.hstack(row + [blank] * (min(columns, len(cells)) - len(row))) for row in rows]
    return np.vstack(rows)


def _is_there(out: Path, parameters: dict, overwrite: bool) -> bool:
    """Whether the data set is complete in `out`; raises UserError where writing it would destroy something."""
    try:
        # A first marker that was never finished is not worth keeping, and a lock is no content.
        if not out.exists() or all(path.name in (f'{MARKER}.tmp', NAME) for path in out.iterdir()):
            return False
        if not (out / MARKER).exists():
            raise UserError(f'{out} is not empty and was not made by this tool (it has no {MARKER}); choose another '
                            'folder, it is left as it is')
        marker = json.loads((out / MARKER).read_text())
        complete, version, found = marker['complete'], marker['version'], dict(marker['parameters'])
        found.setdefault('level', 'hard')  # which was the only one once
        in_words = f'version {version}, {_in_words(found)}'
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f'{out} cannot be used: {type(error).__name__}: {error}; expected a folder to write to, '
                        'absent, empty or made by this tool') from error
    if (found, version) == (parameters, VERSION):
        return complete and _has_all_files(out, parameters['counts'], _suffix(parameters.get('bands', 3)))
    if not overwrite:
        raise UserError(f'{out} holds CoMA-Shapes with other parameters ({in_words}; asked for version {VERSION}, '
                        f'{_in_words(parameters)}); pass --overwrite to replace it')
    return False


def _in_words(parameters: dict) -> str:
    counts = ', '.join(f'{count} {split}' for split, count in parameters['counts'].items())
    bands = f', {parameters["bands"]} bands' if 'bands' in parameters else ''
    return f'{counts}, {parameters["size"]} px, {parameters["level"]}{bands}, seed {parameters["seed"]}'


def _suffix(bands: int) -> str:
    """Of the pictures."""
    return '.jpg' if bands == 3 else '.tif'


def _has_all_files(out: Path, counts: dict, suffix: str) -> bool:
    """Whether each layout has as many files as it should."""

    def count(pattern):
        return sum(1 for _ in out.glob(pattern))

    for split in LABELLED:
        patterns = [f'imagenet/{split}/*/*{suffix}', f'ade20k/images/{ADE_FOLDERS[split]}/*{suffix}',
                    f'ade20k/annotations/{ADE_FOLDERS[split]}/*.png', f'coco/{split}/*{suffix}']
        if any(count(pattern) != counts[split] for pattern in patterns):
            return False
        if not (out / f'coco/annotations/instances_{split}.json').exists():
            return False
    return count(f'unlabelled/*{suffix}') == counts['unlabelled']


def _write_marker(out: Path, parameters: dict, complete: bool) -> None:
    level = LEVELS[parameters['level']].of_bands(parameters.get('bands', 3))
    content = dict(name='CoMA-Shapes', version=VERSION, complete=complete, parameters=parameters,
                   classes=level.classes, palette=level.palette)
    write_whole(out / MARKER, json.dumps(content, indent=1) + '\n')


def _written(out: Path) -> tuple[list[Path], list[Path]]:
    """The files that were written before, and their folders, inner ones first; raises UserError for anything else."""
    own = [out / name for name in FOLDERS]
    found = [*own, *(path for folder in own for path in folder.rglob('*'))]
    files = [path for path in found if path.is_symlink() or path.is_file()]
    for path in files:
        if path.is_symlink() or not OWN.fullmatch(path.name):
            raise UserError(f'{path} is not of this tool, which is to write its folder anew; move it away')
    folders = [path for path in reversed(found) if path.is_dir()]
    return files + [path for path in (out / 'preview.png', ) if path.exists()], folders


def _write_all(out: Path, counts: dict, size: int, seed: int, level: str, workers: int, progress: bool,
               bands: int = 3) -> None:
    classes = LEVELS[level].of_bands(bands).classes
    for split in LABELLED:
        # Every class has its folder, also where a small split has no picture of it: libraries number the classes by
        # the folders they find.
        for name in classes:
            (out / 'imagenet' / split / name).mkdir(parents=True)
        for kind in ('images', 'annotations'):
            (out / 'ade20k' / kind / ADE_FOLDERS[split]).mkdir(parents=True)
        (out / 'coco' / split).mkdir(parents=True)
    (out / 'coco' / 'annotations').mkdir()
    (out / 'unlabelled').mkdir()

    tasks = [(split, index) for split in SPLITS for index in range(counts[split])]
    write = partial(_write_scene, out, seed, size, level, bands)
    records = {split: [] for split in LABELLED}
    results = pool_map(write, tasks, workers, 'CoMA-Shapes', 16, unit='pictures', disable=not progress)
    for (split, _), record in zip(tasks, results, strict=True):
        if split in LABELLED:
            records[split].append(record)
    for split in LABELLED:
        path = out / 'coco' / 'annotations' / f'instances_{split}.json'
        path.write_text(json.dumps(_coco(records[split], size, classes), separators=(',', ':')))
    split = next(split for split in ('val', 'train', 'test', 'unlabelled') if counts[split])
    scenes = [render_scene(seed, split, index, size, level, bands) for index in range(min(12, counts[split]))]
    sheet = Image.fromarray(contact_sheet(scenes, level))
    # 256 colours, dithered, are enough to look at and a quarter of the size.
    sheet.quantize(palette=sheet.quantize(256)).save(out / 'preview.png', optimize=True)


def _write_scene(out: Path, seed: int, size: int, level: str, bands: int, task: tuple) -> dict | None:
    """Draw one scene and write its files; returns its part of the COCO annotations, None for `unlabelled`."""
    split, index = task
    scene = render_scene(seed, split, index, size, level, bands)
    name, suffix = f'{split}_{index:06d}', _suffix(bands)
    image = scene.image
    encoded = _encode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]) if bands == 3 else _geotiff(image)
    if split == 'unlabelled':
        (out / 'unlabelled' / f'{name}{suffix}').write_bytes(encoded)
        return None
    picture = out / 'coco' / split / f'{name}{suffix}'
    picture.write_bytes(encoded)
    label = LEVELS[level].of_bands(bands).classes[scene.label]
    _link(picture, out / 'imagenet' / split / label / f'{name}{suffix}')
    _link(picture, out / 'ade20k' / 'images' / ADE_FOLDERS[split] / f'{name}{suffix}')
    (out / 'ade20k' / 'annotations' / ADE_FOLDERS[split] / f'{name}.png').write_bytes(_encode('.png', scene.semantic))
    return dict(file_name=f'{name}{suffix}', objects=[_coco_object(scene, k) for k in range(len(scene.classes))])


def _geotiff(image: np.ndarray) -> bytes:
    """A TIFF with the names of its bands as GDAL writes them, and a place on earth: 10 m to a pixel, in UTM zone 32."""
    import tifffile  # for this kind of set alone
    names = ''.join(f'<Item name="DESCRIPTION" sample="{index}" role="description">{name}</Item>'
                    for index, name in enumerate(NAMES))
    tags = [(33550, 'd', 3, (10., 10., 0.)), (33922, 'd', 6, (0., 0., 0., 500_000., 5_500_000., 0.)),
            (34735, 'H', 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)),
            (42112, 's', 0, f'<GDALMetadata>{names}</GDALMetadata>')]
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric='rgb', planarconfig='contig', extrasamples=['unspecified'], metadata=None,
                     extratags=[(*tag, True) for tag in tags])
    return file.getvalue()


def _encode(suffix: str, image: np.ndarray, options=()) -> bytes:
    """Compress an RGB or single-channel uint8 image."""
    return cv2.imencode(suffix, image[..., ::-1] if image.ndim == 3 else image, list(options))[1].tobytes()


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)


def _coco_object(scene: Scene, k: int) -> dict:
    """Object k of the scene as COCO writes it: box (x, y, width, height) and area in pixels, mask run-length coded."""
    mask = scene.instances == k + 1
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return dict(category_id=scene.classes[k] + 1, bbox=[x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                area=int(mask.sum()), iscrowd=0,
                segmentation=dict(size=list(code['size']), counts=code['counts'].decode('ascii')))


def _coco(records: list, size: int, classes: tuple[str, ...]) -> dict:
    images, annotations = [], []
    for image_id, record in enumerate(records, 1):
        images.append(dict(id=image_id, file_name=record['file_name'], width=size, height=size))
        for annotation in record['objects']:
            annotations.append(dict(id=len(annotations) + 1, image_id=image_id, **annotation))
    categories = [dict(id=i, name=name, supercategory='shape') for i, name in enumerate(classes, 1)]
    return dict(info=dict(description='CoMA-Shapes', version=str(VERSION)), licenses=[], images=images,
                annotations=annotations, categories=categories)


def _annotated(scene: Scene, level: Level, factor: int) -> np.ndarray:
    image = np.kron(scene.image, np.ones((factor, factor, 1), np.uint8))
    infrared = []
    if image.dtype != np.uint8:
        image = (image * (255 / WHITE)).clip(0, 255).astype(np.uint8)
        infrared, image = [image[..., 3:].repeat(3, axis=2)], np.ascontiguousarray(image[..., :3])
    instances = np.kron(scene.instances, np.ones((factor, factor), np.uint8))
    overlay = image // 2
    for k, class_id in enumerate(scene.classes, 1):
        mask = instances == k
        overlay[mask] = (0.25 * image[mask] + 0.75 * np.array(level.palette[class_id])).astype(np.uint8)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        cv2.rectangle(overlay, (int(columns[0]), int(rows[0])), (int(columns[-1]), int(rows[-1])),
                      level.palette[class_id])
    cell = np.hstack([image, *infrared, overlay])
    cell = cv2.copyMakeBorder(cell, 3, 18, 3, 3, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    place = (6, cell.shape[0] - 5)
    cv2.putText(cell, level.classes[scene.label], place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    return cell
