_base_ = './mask-rcnn_dyvit-tiny_scratch_shapes.py'
# Boxes are 12 to 55 px wide. With patches of 16 px stages 3 and 4 have one stride: the pyramid takes the last of them.
strides = [4, 8, 16]
# For speed on a CPU: 32 RoIs an image, and one sample of each of RoIAlign's bins, which are hardly wider than a cell.
roi_extractor = dict(featmap_strides=strides, finest_scale=16, roi_layer=dict(sampling_ratio=1))
model = dict(
    backbone=dict(patch_size=16, pos_scale=0.25, out_indices=(0, 1, 3), drop_path_rate=0.),
    neck=dict(in_channels=[32, 64, 256], num_outs=3),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor, bbox_head=dict(num_classes=5),
        mask_roi_extractor=roi_extractor, mask_head=dict(num_classes=5)),
    train_cfg=dict(rcnn=dict(sampler=dict(num=32))))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(64, 64), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
metainfo = {{_base_.easy_metainfo}}
train_dataloader = dict(dataset=dict(metainfo=metainfo, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(metainfo=metainfo, pipeline=test_pipeline))
optim_wrapper = dict(optimizer=dict(lr=1e-3))
