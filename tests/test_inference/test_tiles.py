"""The results of tiles are those of the whole image where they must be."""
import sys
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from pycocotools import mask as coco_mask

from coma_mm.errors import UserError
from coma_mm.inference import load_described
from coma_mm.inference.results import class_map, objects
from coma_mm.inference.tiles import _Blend, detect_tiles, segment_tiles, slice_boxes

from ..helpers.described import write_checkpoint


class Local:
    """A model whose results depend on the pixels alone, wherever they are."""
    model = torch.nn.Identity()
    classes = 3

    def __init__(self):
        self.shapes = []

    def predict(self, images, batch_size=1):
        for image in images:
            self.shapes.append(image.shape[:2])
            yield self.result(image)

    def result(self, image):
        logits = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)
        logits = logits if self.classes == 3 else logits[torch.arange(self.classes) % 3]
        return SegDataSample(seg_logits=PixelData(data=logits), pred_sem_seg=PixelData(data=logits.argmax(0, keepdim=True)))


class Squares(Local):
    """Finds bright areas; as a detector it sees of an area at the edge what is in the image."""

    def result(self, image):
        number, regions, stats, _ = cv2.connectedComponentsWithStats((image[..., 0] > 127).astype(np.uint8))
        boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:].tolist()]
        scores = torch.tensor([.9 - .0001 * (x1 - x0) for x0, _, x1, _ in boxes])
        masks = torch.from_numpy(np.stack([regions == one for one in range(1, number)]) if boxes else
                                 np.zeros((0, *image.shape[:2]), bool))
        return DetDataSample(pred_instances=InstanceData(
            bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), scores=scores.float().reshape(-1),
            labels=torch.zeros(len(boxes), dtype=torch.long), masks=masks))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(('height', 'width', 'tile', 'overlap'), [
    (100, 100, 100, 20), (90, 300, 64, 16), (257, 129, 64, 0), (200, 200, 64, 63), (40, 500, 64, 20), (129, 65, 64, 1)])
def test_tiles_are_whole_cover_all_and_overlap_as_asked(height, width, tile, overlap):
    boxes = slice_boxes(height, width, tile, overlap)
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in boxes:
        assert (right - left, bottom - top) == (min(tile, width), min(tile, height))
        covered[top:bottom, left:right] += 1
    assert covered.min() == 1 if overlap == 0 and height % tile == width % tile == 0 else covered.min() >= 1
    lefts = sorted({box[0] for box in boxes})
    assert all(one + tile - other >= overlap for one, other in zip(lefts, lefts[1:], strict=False))
    assert len(lefts) < 3 or lefts[0] + tile - lefts[1] == overlap


@pytest.mark.parametrize(('shape', 'tile', 'overlap'), [((90, 301), 64, 16), ((64, 64), 64, 8), ((200, 130), 50, 25),
                                                        ((70, 70), 64, 40), ((129, 128), 64, 0)])
def test_a_map_by_tiles_is_that_of_the_whole_where_only_pixels_count(shape, tile, overlap):
    image, model = noise(*shape), Local()
    whole = class_map(model.result(image))
    assert np.array_equal(segment_tiles(model, image, tile, overlap), whole)
    assert max(map(max, model.shapes)) <= tile
    sure = class_map(model.result(image), .9)
    assert (sure == 255).any() and np.array_equal(segment_tiles(model, image, tile, overlap, threshold=.9), sure)


def test_logits_are_blended_and_count_less_towards_an_inner_edge():
    boxes = slice_boxes(10, 16, 10, 4)
    assert boxes == [(0, 0, 10, 10), (6, 0, 16, 10)]
    seen = {}

    class Seen(_Blend):
        def _finish(self, where, logits):
            seen[where[1].start] = logits

    blend = Seen(boxes, (10, 16), 0)
    for box, value in zip(boxes, (0., 8.), strict=True):
        blend.add(box, torch.full((2, 10, 10), value))
    assert [seen[start].shape[-1] for start in (0, 6, 10)] == [6, 4, 6]
    assert seen[0].eq(0).all() and seen[10].eq(8).all()
    torch.testing.assert_close(seen[6][0, 0], torch.tensor([1., 3., 5., 7.]))


def test_logits_are_kept_of_what_overlaps_alone():
    image, model = np.zeros((600, 600, 3), np.uint8), Local()
    model.classes = 30
    tracked = []
    add = _Blend.add

    class Watched(_Blend):
        def add(self, box, logits):
            add(self, box, logits)
            tracked.append(sum(sums.numel() for sums, _ in self.sums.values()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('coma_mm.inference.tiles._Blend', Watched)
        segment_tiles(model, image, 150, 15)
    assert tracked[-1] == 0 and max(tracked) < .06 * image.size / 3 * model.classes


def squares(shape=(300, 300)):
    """Areas up to the overlap's size, 40 px, anywhere: on one, two and four tiles' edges."""
    image = np.zeros((*shape, 3), np.uint8)
    for x, y, w, h in ((3, 5, 20, 30), (50, 40, 30, 40), (85, 90, 39, 38), (110, 10, 8, 8), (150, 150, 40, 40),
                       (210, 205, 20, 40), (60, 250, 40, 20), (275, 275, 25, 25), (255, 60, 33, 12)):
        image[y:y + h, x:x + w] = 255
    return image


def key(found):
    return sorted((one['bbox'], one['label'], one['segmentation']['counts']) for one in found)


@pytest.mark.parametrize(('tile', 'overlap'), [(100, 40), (120, 60), (300, 40), (64, 44)])
def test_objects_up_to_the_overlap_are_found_once_and_whole(tile, overlap):
    image, model = squares(), Squares()
    whole = objects(model.result(image).pred_instances, .5, None)
    found = detect_tiles(model, image, tile, overlap, threshold=.5)
    assert key(found) == key(whole) and len(found) == 9
    assert [one['score'] for one in found] == sorted((one['score'] for one in found), reverse=True)
    assert np.array_equal(sum(coco_mask.decode(one['segmentation']) for one in found), image[..., 0] // 255)
    assert len(detect_tiles(model, image, tile, overlap, top_k=4)) == 4


def test_an_image_without_objects_has_none_by_tiles():
    assert detect_tiles(Squares(), np.zeros((200, 200, 3), np.uint8), 100, 20) == []


@pytest.mark.parametrize('task', ['segmentation', 'detection'])
def test_a_single_tile_gives_the_results_of_the_image(task, tmp_path):
    usable = load_described(write_checkpoint(tmp_path / 'a.pth', task))
    image = noise(64, 64)
    result = next(usable.predict([image]))
    if task == 'segmentation':
        assert np.array_equal(segment_tiles(usable, image, 64, 16), class_map(result))
    else:
        whole, tiled = objects(result.pred_instances, .05, None), detect_tiles(usable, image, 64, 16, threshold=.05)
        assert len(whole) > 3 and key(whole) == key(tiled)


def test_masks_of_many_tiles_are_not_kept_at_the_images_size():
    image = np.zeros((1500, 1500, 3), np.uint8)
    image[10::60, 10::60] = 255
    image[11::60, 10::60] = 255
    tracemalloc.start()
    found = detect_tiles(Squares(), image, 300, 60)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 625 and peak < 60 * image.size / 3  # 625 masks would take ten times as much


def test_without_sahi_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sahi.slicing', None)
    with pytest.raises(UserError, match=r"--tile needs the package sahi.*pip install 'coma-mm\[predict\]'"):
        slice_boxes(10, 10, 5, 0)
