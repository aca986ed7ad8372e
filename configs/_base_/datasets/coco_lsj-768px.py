"""COCO with large-scale jitter at 768 px; models of it pad their batches by `batch_augments`."""
_base_ = 'mmdet::_base_/datasets/coco_instance.py'
data_root = '{{$DATA_ROOT:data}}/coco/'
val_file = data_root + 'annotations/instances_val2017.json'
image_size = (768, 768)
# All images of a batch are of one size: the windows of the jitter.
batch_augments = [dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)]

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_type='absolute_range', crop_size=image_size, recompute_bbox=True,
         allow_negative_crop=True),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=image_size, keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    batch_sampler=None,  # windows have one aspect ratio
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=val_file)
test_evaluator = val_evaluator
