from functools import partial

import pytest

from tests.helpers.own_data import write_coco, write_photo


@pytest.fixture
def photo(tmp_path):
    """Writes an image: (name, seed, size) -> its path."""
    return partial(write_photo, tmp_path)


@pytest.fixture
def coco(tmp_path):
    """Writes a COCO file with images in photos: (name, {image: seed}, objects) -> its path."""
    return partial(write_coco, tmp_path)
