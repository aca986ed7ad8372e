"""Data as people have them: a few images with boxes, masks or folders."""
import json
from pathlib import Path

import numpy as np
from PIL import Image


def write_photo(folder: Path, name: str, seed: int, size: tuple[int, int] = (40, 30)) -> Path:
    """An image of noise, whose width and height are given; equal seeds make equal images."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_coco(folder: Path, name: str, images: dict, objects: list, categories: tuple = ('cat', 'dog')) -> Path:
    """A COCO file, and its images in `photos`.

    Args:
        folder (Path): Where to.
        name (str): Of the file.
        images (dict): Their names and seeds; None for one that is missing.
        objects (list): (number of the image, label, box), each with a triangle as its mask.
        categories (tuple): Names, whose ids are 7, 14, … Defaults to cat and dog.
    """
    for image, seed in images.items():
        if seed is not None:
            write_photo(folder, f'photos/{image}', seed)
    path = folder / name
    path.write_text(json.dumps(dict(
        images=[dict(id=number, file_name=image, width=40, height=30) for number, image in enumerate(images)],
        categories=[dict(id=7 * number, name=category) for number, category in enumerate(categories, 1)],
        annotations=[dict(id=number, image_id=image, category_id=7 * label + 7, bbox=bbox, area=bbox[2] * bbox[3], iscrowd=0,
                          segmentation=[[bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1], bbox[0], bbox[1] + bbox[3]]])
                     for number, (image, label, bbox) in enumerate(objects)])))
    return path
