"""One training step and one prediction of a model."""

import copy

import numpy as np
import torch
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.logging import MessageHub
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from coma_mm.models import DyViT
from tests.campaigns.heads.adapt import LIBRARIES


def build(config, library):
    """nn.Module: A config's model, initialised; SyncBN is BN, as mmengine has it in one process."""
    with DefaultScope.overwrite_default_scope(library):
        model = LIBRARIES[library].registry.MODELS.build(config.model)
        model.init_weights()
    return revert_sync_batchnorm(model)


def detection_batch(size, stride=1):
    """dict: Two images with boxes, masks, a map of classes and proposals."""
    data = demo_mm_inputs(2, [[3, size, size]] * 2, num_items=[3, 2], num_classes=2, with_mask=True, with_semantic=True,
                          sem_seg_output_strides=stride)
    proposals = demo_mm_proposals([[3, size, size]] * 2, 20)
    for sample, own in zip(data['data_samples'], proposals, strict=True):
        sample.proposals = own
        sample.gt_instances.labels.zero_()  # some configs have one class
        sample.set_metainfo(dict(batch_input_shape=(size, size), pad_shape=(size, size)))
    return data


def box_batch(size, stride=1):
    """dict: Two images with boxes alone."""
    data = detection_batch(size, stride)
    for sample in data['data_samples']:
        del sample.gt_instances.masks
    return data


def track_batch(size, stride=1):
    """dict: A video of two frames."""
    return demo_track_inputs(1, 2, key_frames_inds=[0], image_shapes=(3, size, size), num_classes=2, num_items=[3],
                             with_mask=True)


def semi_batch(size, stride=1):
    """dict: Two images with boxes, and two without for teacher and student."""
    data = detection_batch(size, stride)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(homography_matrix=np.eye(3, dtype=np.float32)))
    branches = 'sup', 'unsup_teacher', 'unsup_student'
    return {name: {branch: copy.deepcopy(value) for branch in branches} for name, value in data.items()}


def segmentation_batch(size, stride=1, classes=2):
    """dict: Two images with a map of classes."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), pad_shape=(size, size)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, classes, (1, size, size), generator=generator))
        sample.gt_edge_map = PixelData(data=torch.randint(0, 2, (1, size, size), generator=generator))
        samples.append(sample)
    images = torch.randint(0, 256, (2, 3, size, size), generator=generator, dtype=torch.uint8)
    return dict(inputs=list(images), data_samples=samples)


def check(model, batch):
    """One step of SGD, in which the loss is finite and the backbone learns, and one prediction.

    Raises:
        AssertionError: If the loss or a gradient is not finite, or the backbone gets none.
        Exception: Whatever the model raises.
    """
    torch.manual_seed(0)
    np.random.seed(0)
    model.train()
    for name, value in dict(iter=0, max_iters=10, epoch=0, max_epochs=1).items():  # as a runner says
        MessageHub.get_current_instance().update_info(name, value)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    loss, log = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    optimizer.zero_grad()
    loss.backward()
    assert loss.isfinite(), f'the loss is not finite: {log}'
    ours = [module for module in model.modules() if isinstance(module, DyViT)]
    gradients = [p.grad for module in ours for p in module.parameters() if p.grad is not None]
    assert gradients and any(grad.abs().sum() > 0 for grad in gradients), 'the backbone does not learn'
    assert all(grad.isfinite().all() for grad in gradients), 'a gradient is not finite'
    optimizer.step()
    with torch.no_grad():
        model.eval()
        if isinstance(batch['inputs'], dict):  # half-supervised: in use there are images alone
            batch = {name: value['sup'] for name, value in batch.items()}
            model = model.teacher
        batch = {name: value[:1] for name, value in batch.items()}  # some take one image alone
        found = model(**model.data_preprocessor(batch, False), mode='predict')
    assert found, 'no prediction'
