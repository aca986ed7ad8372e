_base_ = ['../_base_/small/upernet_dyvit-tiny.py', '../_base_/datasets/shapes.py']
model = dict(decode_head=dict(num_classes=10), auxiliary_head=dict(num_classes=10))
# As in ADE20K, 0 in the PNGs is not a class: background takes no part in loss and metric.
metainfo = {{_base_.shapes_metainfo}}
data_root = {{_base_.ade20k_root}}
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation')))
test_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        reduce_zero_label=True,
        data_prefix=dict(img_path='images/test', seg_map_path='annotations/test')))
