"""Mask R-CNN and Faster R-CNN as one program, with NMS and RoIAlign as operators.

mmdetection's own code branches on how many boxes there are, which no exported program can. Here the same steps are written
for any number of them, zero included.
"""
import math

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from mmdet.models import BBoxHead, FCNMaskHead, RPNHead, SingleRoIExtractor, StandardRoIHead, TwoStageDetector
from mmdet.models.task_modules import DeltaXYWHBBoxCoder
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from torch import nn
from torchvision.ops import nms, roi_align

from coma_mm.errors import UserError

from .exportable import Exportable, cannot_export


class ExportableDetector(Exportable):
    """The boxes of a two-stage detector, best first, with their masks where it has any.

    One image at a time. Boxes are in the pixels of the image given. A mask is what the mask head gives for its box,
    28×28 probabilities as a rule, that are stretched over the box.

    Args:
        model (nn.Module): A TwoStageDetector with an RPN and a plain RoI head.

    Raises:
        UserError: A part of it works in another way than what is written here.
    """
    batch = False

    def __init__(self, model: nn.Module):
        super().__init__(model)
        rpn, roi = getattr(self.model, 'rpn_head', None), getattr(self.model, 'roi_head', None)
        if type(rpn) is not RPNHead or type(roi) is not StandardRoIHead or not isinstance(model, TwoStageDetector):
            raise cannot_export(model)
        _expect(BBoxHead, isinstance(roi.bbox_head, BBoxHead), roi.bbox_head)
        _expect(FCNMaskHead, not roi.with_mask or type(roi.mask_head) is FCNMaskHead, getattr(roi, 'mask_head', None))
        for head in (rpn, roi.bbox_head):
            coder = head.bbox_coder
            _expect(DeltaXYWHBBoxCoder, type(coder) is DeltaXYWHBBoxCoder and not coder.add_ctr_clamp, coder)
        extractors = [roi.bbox_roi_extractor, *([roi.mask_roi_extractor] if roi.with_mask else [])]
        for extractor in extractors:
            _expect(SingleRoIExtractor, type(extractor) is SingleRoIExtractor, extractor)
            for layer in extractor.roi_layers:
                _expect(RoIAlign, isinstance(layer, RoIAlign) and layer.pool_mode == 'avg', layer)
        if roi.with_shared_head:
            raise cannot_export(roi.shared_head)
        for settings in (rpn.test_cfg, roi.test_cfg):
            if settings.nms.get('type', 'nms') != 'nms' or settings.nms.keys() - {'type', 'iou_threshold', 'class_agnostic'}:
                raise UserError(f'cannot export NMS as {dict(settings.nms)}: ONNX has the plain one, type=\'nms\', alone')
        self.outputs = dict(boxes='(objects, 4): x1, y1, x2, y2 in pixels of the input', scores='(objects): best first',
                            labels='(objects): indices of classes')
        if roi.with_mask:
            self.outputs['masks'] = '(objects, rows, columns): probability of the object at points spread over its box'

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(1, C, H, W) -> boxes (N, 4), scores (N, ), labels (N, ), and masks (N, rows, columns)."""
        height, width = images.shape[-2:]
        divisor = self.model.data_preprocessor.pad_size_divisor
        right, bottom = ((side + divisor - 1) // divisor * divisor - side for side in (width, height))
        images = F.pad(images, (0, right, 0, bottom), value=float(self.model.data_preprocessor.pad_value))
        maps = self.model.extract_feat(images)
        limits = torch.stack([torch.scalar_tensor(side, device=images.device) for side in (width, height)]).repeat(2)
        boxes, scores, labels = self._classify(maps, self._propose(maps, limits), limits)
        if not self.model.roi_head.with_mask:
            return boxes, scores, labels
        head = self.model.roi_head.mask_head
        cut, (boxes, scores, labels) = _cut(self.model.roi_head.mask_roi_extractor, maps, boxes, scores, labels)
        masks = head(cut).sigmoid()
        if head.class_agnostic:
            masks = masks[:, 0]
        else:
            masks = masks.gather(1, labels[:, None, None, None].expand(-1, 1, *masks.shape[-2:]))[:, 0]
        scores, order = scores.sort(descending=True)
        return boxes[order], scores, labels[order], masks[order]

    def _propose(self, maps: tuple[torch.Tensor, ...], limits: torch.Tensor) -> torch.Tensor:
        """The RPN's proposals: (P, 4), best first."""
        head, settings = self.model.rpn_head, self.model.rpn_head.test_cfg
        found = []
        outputs = head(maps)
        anchors = head.prior_generator.grid_priors([one.shape[-2:] for one in outputs[0]], device=limits.device)
        for level, (logits, deltas, priors) in enumerate(zip(*outputs, anchors, strict=True)):
            logits = logits[0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
            scores = logits.sigmoid()[:, 0] if head.use_sigmoid_cls else logits.softmax(-1)[:, 0]
            scores, order = scores.sort(descending=True)
            if settings.get('nms_pre', -1) > 0:
                scores, order = scores[:settings.nms_pre], order[:settings.nms_pre]
            boxes = _decode(head.bbox_coder, priors[order], deltas[0].permute(1, 2, 0).reshape(-1, 4)[order], limits)
            found.append((boxes, scores, torch.full_like(scores, level)))
        boxes, scores, levels = map(torch.cat, zip(*found, strict=True))
        if settings.get('min_bbox_size', -1) >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > settings.min_bbox_size).all(1).nonzero()[:, 0]
            boxes, scores, levels = boxes[large], scores[large], levels[large]
        return boxes[_keep(boxes, scores, levels, settings.nms, limits)[:settings.max_per_img]]

    def _classify(self, maps: tuple[torch.Tensor, ...], proposals: torch.Tensor, limits: torch.Tensor
                  ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes (N, 4), scores (N, ) and labels (N, ), best first."""
        roi = self.model.roi_head
        head, settings = roi.bbox_head, roi.test_cfg
        cut, (proposals, ) = _cut(roi.bbox_roi_extractor, maps, proposals)
        logits, deltas = head(cut)
        scores = head.loss_cls.get_activation(logits) if head.custom_cls_channels else logits.softmax(-1)
        scores = scores[:, :head.num_classes]
        classes = 1 if head.reg_class_agnostic else head.num_classes
        proposals = proposals[:, None].expand(-1, classes, 4).reshape(-1, 4)
        boxes = _decode(head.bbox_coder, proposals, deltas.reshape(-1, 4), limits)
        boxes = boxes.reshape(-1, classes, 4).expand(-1, head.num_classes, 4).reshape(-1, 4)
        labels = torch.arange(head.num_classes, device=scores.device).expand_as(scores).reshape(-1)
        scores = scores.reshape(-1)
        likely = (scores > settings.score_thr).nonzero()[:, 0]
        boxes, scores, labels = boxes[likely], scores[likely], labels[likely]
        kept = _keep(boxes, scores, labels, settings.nms, limits)
        if settings.max_per_img > 0:
            kept = kept[:settings.max_per_img]
        return boxes[kept], scores[kept], labels[kept]

    @staticmethod
    def by_library(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Boxes, scores, labels and masks of one image, by mmdetection."""
        height, width = images.shape[-2:]
        divisor = model.data_preprocessor.pad_size_divisor
        padded = F.pad(images, (0, -width % divisor, 0, -height % divisor), value=float(model.data_preprocessor.pad_value))
        sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1., 1.),
                                             pad_shape=tuple(padded.shape[-2:])))
        roi, maps = model.roi_head, model.extract_feat(padded)
        proposals = model.rpn_head.predict(maps, [sample], rescale=False)
        found, = roi.predict_bbox(maps, [sample.metainfo], proposals, roi.test_cfg)
        result = found.bboxes, found.scores, found.labels
        if not roi.with_mask:
            return result
        masks = roi._mask_forward(maps, bbox2roi([found.bboxes]))['mask_preds'].sigmoid()
        return *result, masks[torch.arange(len(masks)), 0 if roi.mask_head.class_agnostic else found.labels]


def _expect(kind: type, is_so: bool, part: nn.Module) -> None:
    if not is_so:
        raise UserError(f'cannot export {type(part).__name__} of a detector: expected {kind.__name__}')


def _decode(coder: DeltaXYWHBBoxCoder, boxes: torch.Tensor, deltas: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
    """Boxes (N, 4) moved by deltas (N, 4), inside the image: `coder.decode`, which asks how many there are."""
    deltas = deltas * deltas.new_tensor(coder.stds) + deltas.new_tensor(coder.means)
    size = boxes[:, 2:] - boxes[:, :2]
    middle = (boxes[:, :2] + boxes[:, 2:]) * 0.5 + size * deltas[:, :2]
    most = abs(math.log(16 / 1000))  # as mmdetection has it
    size = size * deltas[:, 2:].clamp(-most, most).exp()
    boxes = torch.cat([middle - size * 0.5, middle + size * 0.5], -1)
    return boxes.clamp(min=0).minimum(limits) if coder.clip_border else boxes


def _keep(boxes: torch.Tensor, scores: torch.Tensor, groups: torch.Tensor, settings: dict, limits: torch.Tensor
          ) -> torch.Tensor:
    """Indices of boxes that non-maximum suppression keeps inside each group, best first."""
    if not settings.get('class_agnostic', False):
        # Each group beside the others. (mmcv measures by the boxes, of which there may be none.)
        boxes = boxes + (groups.to(boxes.dtype) * (limits.max() + 1))[:, None]
    # torchvision says of its NMS that two boxes are left at least, and a program holds it to that: two that are the worst,
    # and apart from all, go in and out again.
    boxes = torch.cat([boxes, boxes.new_tensor([[-2, -2, -1, -1], [-4, -4, -3, -3]])])
    kept = nms(boxes, torch.cat([scores, scores.new_tensor([-1, -2])]), settings['iou_threshold'])
    return kept[:kept.shape[0] - 2]


def _cut(extractor: SingleRoIExtractor, maps: tuple[torch.Tensor, ...], boxes: torch.Tensor, *others: torch.Tensor
         ) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What each box holds of the map of its size, level after level; the boxes, and what belongs to them, in that order."""
    maps = maps[:extractor.num_inputs]
    rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)
    level_of = extractor.map_roi_levels(rois, len(maps))
    cut, order = [], []
    for level, (layer, features) in enumerate(zip(extractor.roi_layers, maps, strict=True)):
        here = (level_of == level).nonzero()[:, 0]
        cut.append(roi_align(features, rois[here], layer.output_size, layer.spatial_scale, layer.sampling_ratio,
                             layer.aligned))
        order.append(here)
    order = torch.cat(order)
    return torch.cat(cut), [one[order] for one in (boxes, *others)]
