"""Runs of configs made small: data in the layouts of the real data sets, and the one function that shrinks a config."""
import json

import cv2
import numpy as np
from mmdet.datasets import CocoDataset
from mmpretrain.models import VisionTransformer
from PIL import Image
from pycocotools import mask as coco_mask

from coma_mm.config_tree import walk
from coma_mm.models.dyvit import ARCHS
from coma_mm.prepare.shape_scenes import render_scene
from coma_mm.prepare.shapes import write_shapes

COUNTS = dict(train=8, val=4)
COCO_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def scenes(split):
    """Iterator[tuple]: Images, RGB uint8 of 72×96 and 96×72 px, each with its instance map and its objects' classes."""
    for index in range(COUNTS[split]):
        scene = render_scene(0, split, index, 96)
        part = np.s_[12:84] if index % 2 else np.s_[:, 12:84]
        yield scene.image[part], scene.instances[part], scene.classes


def write_data(folder):
    """Write CoMA-Shapes in the layouts that all configs expect below their default folder `data`.

    Args:
        folder (Path): The folder.
    """
    write_imagenet(folder / 'imagenet')
    write_segmentation(folder / 'ade/ADEChallengeData2016', highest=150)
    write_coco(folder / 'coco')
    write_coco(folder / 'coco-mini')
    write_segmentation(folder / 'coco-mini/semseg', highest=80)
    for name, level in (('shapes', 'hard'), ('shapes-easy', 'easy')):
        write_shapes(folder / name, dict(unlabelled=10, train=8, val=4, test=4), size=64, progress=False, level=level)
    for index, (image, *_) in enumerate(scenes('train')):
        save(image, folder / f'images/album{index % 2}/{index}.png')
    save(image, folder / 'images/0.JPG')


def write_imagenet(folder):
    """<split>/<wnid>/*.JPEG, with a folder for each of 1000 classes; one image is grey, as some of ImageNet are."""
    for split in COUNTS:
        for index in range(1000):
            (folder / split / f'n{index:08d}').mkdir(parents=True)
        for index, (image, *_) in enumerate(scenes(split)):
            save(image.mean(-1).astype(np.uint8) if index == 1 else image,
                 folder / split / f'n{index // 2 * 300:08d}' / f'ILSVRC2012_{split}_{index:08d}.JPEG', 'JPEG')


def write_segmentation(folder, highest):
    """images/<split>/*.jpg and annotations/<split>/*.png, where 0 is no class and class ids go up to `highest`."""
    for split, name in (('train', 'training'), ('val', 'validation')):
        for index, (image, instances, classes) in enumerate(scenes(split)):
            ids = np.uint8([0] + [(c + 1) * highest // 10 for c in classes])
            save(image, folder / 'images' / name / f'ADE_{split}_{index:08d}.jpg')
            save(ids[instances], folder / 'annotations' / name / f'ADE_{split}_{index:08d}.png')


def write_coco(folder):
    """<split>2017/*.jpg and annotations/instances_<split>2017.json: polygons, and run lengths for a crowd."""
    categories = [dict(id=i, name=name) for i, name in zip(COCO_IDS, CocoDataset.METAINFO['classes'], strict=True)]
    for split in COUNTS:
        images, annotations = [], []
        for image_id, (image, instances, classes) in enumerate(scenes(split), 9):
            images.append(dict(id=image_id, file_name=f'{image_id:012d}.jpg', height=len(image), width=len(image[0])))
            save(image, folder / f'{split}2017' / f'{image_id:012d}.jpg')
            for k, c in enumerate(classes, 1):
                mask = np.asfortranarray(instances == k, np.uint8)
                contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
                polygons = [contour.ravel().tolist() for contour in contours if len(contour) > 2]
                if not polygons:
                    continue
                crowd = k > 1 and image_id % 2
                runs = coco_mask.encode(mask)
                annotations.append(dict(
                    id=len(annotations) + 1, image_id=image_id, category_id=COCO_IDS[c * 8], area=int(mask.sum()),
                    bbox=coco_mask.toBbox(runs).tolist(), iscrowd=int(crowd),
                    segmentation=dict(runs, counts=runs['counts'].decode()) if crowd else polygons))
        path = folder / 'annotations' / f'instances_{split}2017.json'
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def save(array, path, form=None):
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, form)


WIDTHS = {
    'channels', 'conv_out_channels', 'decoder_embed_dim', 'embed_dim', 'embed_dims', 'fc_out_channels', 'feat_channels',
    'feedforward_channels', 'in_channels', 'input_features', 'out_channels'
}
DEPTHS = {'decoder_depth', 'depth', 'num_layers'}
SIZES = {'crop_size', 'max_size', 'scale', 'scales', 'size'}
NUMBERS = {'max_per_image', 'max_per_img', 'nms_pre', 'num'}  # of boxes


def shrink(cfg):
    """Make a config of any of the libraries small: model, images, batch, times; what it does stays as it is.

    - Every width is divided by 16; the backbones keep four stages, or get four layers; the decoders one.
    - Every image side is divided by 8, to a multiple of 32 px, 64 px at least; strides of sliding windows alike.
    - Batches of 2 without workers, two of them accumulated where a config accumulates.
    - A 16th of the boxes that a detector samples and keeps, 8 at least; no score is too low.
    - Warm-up, milestones and end of the schedule follow each other at intervals of an epoch or two iterations.

    Args:
        cfg (Config): Changed in place.
    """
    backbone, others = cfg.model.backbone, [cfg.model.get(key) for key in cfg.model if key != 'backbone']
    change(others, smaller_part)
    if cfg.model.type == 'DINO':
        cfg.model.num_queries = 8
        cfg.model.bbox_head.embed_dims = cfg.model.neck.out_channels  # by default 256
    if backbone.type.endswith('DyViT'):
        backbone.arch = dict(
            dims=narrow(ARCHS[backbone.arch]['dims']), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4))
    else:
        width = narrow(VisionTransformer.arch_zoo[backbone.arch]['embed_dims'])
        backbone.arch = dict(embed_dims=width, num_layers=4, num_heads=4, feedforward_channels=2 * width)
    if backbone.type == 'MAEViT':  # its positions are not resized
        backbone.img_size = 64
        cfg.model.neck.num_patches = (64 // 16)**2

    loaders = [cfg[key] for key in ('train_dataloader', 'val_dataloader', 'test_dataloader') if cfg.get(key)]
    for loader in loaders:
        loader.update(batch_size=min(2, loader.batch_size), num_workers=0)
        for key in ('persistent_workers', 'prefetch_factor'):  # torch refuses these without workers
            loader.pop(key, None)
    if 'auto_scale_lr' in cfg:
        cfg.auto_scale_lr.base_batch_size = 4
    test_cfg = cfg.model.get('test_cfg') or {}
    change([cfg.model.get('train_cfg'), test_cfg], lambda key, value: narrow(value) if key in NUMBERS else value)
    if 'rcnn' in test_cfg:
        test_cfg.rcnn.score_thr = 0.
    if 'score_thr' in test_cfg:
        test_cfg.score_thr = 0.
    change([loaders, cfg.get('tta_pipeline'), cfg.model.get('data_preprocessor'), test_cfg],
           lambda key, value: smaller(value) if key in SIZES else value)
    if 'stride' in test_cfg:
        test_cfg.stride = tuple(side // 8 for side in test_cfg.stride)
    if 'ConcatStages' in str(cfg.model.get('neck')):  # narrowed one by one, the stages have another sum
        cfg.model.head.in_channels = sum(backbone.arch['dims'])
    shorten(cfg)


def change(cfg, function):
    """Replace every value in nested dicts and lists by a function of its key and itself."""
    for one in walk(cfg):
        for key, value in one.items():
            one[key] = function(key, value)


def smaller_part(key, value):
    """A setting of neck, decoder or head made small."""
    if key in WIDTHS or key == 'num_points' and value > 100:  # of a mask, not of attention
        return narrow(value)
    if key in ('num_dn_queries', 'num_queries'):  # no more than there are tokens
        return 8
    if key == 'num_feats':  # half of a width
        return narrow(2 * value) // 2
    return 1 if key in DEPTHS else 4 if key == 'num_groups' else value


def narrow(width):
    """A 16th of a number of channels, or of several; 8 at least."""
    return max(8, width // 16) if isinstance(width, int) else type(width)(map(narrow, width))


def smaller(side):
    """An 8th of a side in px, or of several, up to a multiple of 32; 64 at least."""
    return max(64, -(-side // 256) * 32) if isinstance(side, int) else type(side)(map(smaller, side))


def shorten(cfg):
    """Number the times at which schedules change, and the end, instead of counting epochs or iterations to them."""
    times = {True: {0}, False: {0}}  # in epochs, in iterations
    for schedule in cfg.param_scheduler:
        times[schedule.by_epoch] |= {schedule.begin, schedule.end, *schedule.get('milestones', ())}
    for by_epoch, key in ((True, 'max_epochs'), (False, 'max_iters')):
        times[by_epoch] |= {cfg.train_cfg[key]} if key in cfg.train_cfg else set()
    short = {}
    for by_epoch, points in times.items():
        step = 1 if by_epoch and len(points) > 2 else 2  # two epochs at least
        if not by_epoch and len(points) == 2 and 'max_iters' in cfg.train_cfg:  # four iterations at least
            step = 4
        short[by_epoch] = {time: step * number for number, time in enumerate(sorted(points))}
    for schedule in cfg.param_scheduler:
        new = short[schedule.by_epoch]
        schedule.update(begin=new[schedule.begin], end=new[schedule.end])
        if 'milestones' in schedule:
            schedule.milestones = [new[time] for time in schedule.milestones]
        if 'T_max' in schedule:
            schedule.T_max = schedule.end - schedule.begin
    for by_epoch, key in ((True, 'max_epochs'), (False, 'max_iters')):
        if key in cfg.train_cfg:
            cfg.train_cfg[key] = short[by_epoch][cfg.train_cfg[key]]


def types(cfg):
    """Iterator: All values of `type` in nested dicts and lists, in order."""
    return (one['type'] for one in walk(cfg) if 'type' in one)
