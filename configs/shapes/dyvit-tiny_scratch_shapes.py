_base_ = ['../_base_/small/dyvit-tiny.py', '../_base_/datasets/shapes.py']
model = dict(data_preprocessor=dict(num_classes=10), head=dict(num_classes=10))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), backend='pillow', interpolation='bicubic'),  # scenes are square
    dict(type='PackInputs'),
]
data_root = {{_base_.imagenet_root}}
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
