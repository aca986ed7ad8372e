"""Data as people have them: a few images with boxes, masks or folders."""
import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo(tmp_path):
    """Writes an image of one's own: (name, seed, size) -> its path. Equal seeds make equal images."""

    def write(name, seed, size=(40, 30)):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def coco(tmp_path, photo):
    """Writes a COCO file, with images beside it: (name, {image: seed}, objects) -> its path."""

    def write(name, images, objects, categories=('cat', 'dog')):
        for image, seed in images.items():
            if seed is not None:
                photo(f'photos/{image}', seed)
        path = tmp_path / name
        path.write_text(json.dumps(dict(
            images=[dict(id=number, file_name=image, width=40, height=30) for number, image in enumerate(images)],
            categories=[dict(id=7 * number, name=category) for number, category in enumerate(categories, 1)],
            annotations=[dict(id=number, image_id=image, category_id=7 * label + 7, bbox=bbox, area=bbox[2] * bbox[3],
                              iscrowd=0, segmentation=[[bbox[0], bbox[1], bbox[0] + bbox[2], bbox[1], bbox[0], bbox[1] + 3]])
                         for number, (image, label, bbox) in enumerate(objects)])))
        return path

    return write
