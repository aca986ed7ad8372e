_base_ = ['../_base_/small/mask-rcnn_dyvit-tiny.py', '../_base_/datasets/shapes.py']
model = dict(roi_head=dict(bbox_head=dict(num_classes=10), mask_head=dict(num_classes=10)))
metainfo = {{_base_.shapes_metainfo}}
data_root = {{_base_.coco_root}}
train_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_train.json',
        data_prefix=dict(img='train/')))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_val.json', data_prefix=dict(img='val/')))
test_dataloader = dict(
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file='annotations/instances_test.json', data_prefix=dict(img='test/')))
val_evaluator = dict(ann_file={{_base_.coco_val_file}})
test_evaluator = dict(ann_file={{_base_.coco_test_file}})
