"""Mask2Former for panoptic segmentation, as small as that for instances; CoMA-Shapes has no panoptic annotations.

It is to build, and to train on data of one's own: the five shapes are things, and what is around them one class of stuff,
in COCO's format below SHAPES_ROOT. Reading and evaluating such data needs panopticapi.
"""
_base_ = ['./mask2former_dyvit-tiny-p16_coma_shapes-easy.py']
model = dict(
    data_preprocessor=dict(
        pad_seg=True, batch_augments=[dict(type='BatchFixedSizePad', size=(64, 64), pad_mask=True, pad_seg=True)]),
    panoptic_head=dict(num_stuff_classes=1, loss_cls=dict(class_weight=[1.0] * 6 + [0.1])),
    panoptic_fusion_head=dict(num_stuff_classes=1),
    test_cfg=dict(panoptic_on=True))

metainfo = dict(
    classes=_base_.easy_classes + ('ground', ), thing_classes=_base_.easy_classes, stuff_classes=('ground', ),
    palette=[(220, 20, 60), (119, 11, 32), (0, 0, 142), (0, 0, 230), (106, 0, 228), (128, 128, 128)])
load = dict(type='LoadPanopticAnnotations')
train_pipeline = [load if step['type'] == 'LoadAnnotations' else step for step in _base_.easy_det_train]
test_pipeline = [load if step['type'] == 'LoadAnnotations' else step for step in _base_.easy_det_test]
train_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        metainfo=metainfo,
        ann_file='annotations/panoptic_train.json',
        data_prefix=dict(img='train/', seg='annotations/panoptic_train/'),
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        metainfo=metainfo,
        ann_file='annotations/panoptic_val.json',
        data_prefix=dict(img='val/', seg='annotations/panoptic_val/'),
        pipeline=test_pipeline))
test_dataloader = dict(
    dataset=dict(
        type='CocoPanopticDataset',
        metainfo=metainfo,
        ann_file='annotations/panoptic_test.json',
        data_prefix=dict(img='test/', seg='annotations/panoptic_test/'),
        pipeline=test_pipeline))
val_evaluator = dict(
    _delete_=True, type='CocoPanopticMetric', ann_file=_base_.coco_root + 'annotations/panoptic_val.json',
    seg_prefix=_base_.coco_root + 'annotations/panoptic_val/')
test_evaluator = dict(
    _delete_=True, type='CocoPanopticMetric', ann_file=_base_.coco_root + 'annotations/panoptic_test.json',
    seg_prefix=_base_.coco_root + 'annotations/panoptic_test/')
