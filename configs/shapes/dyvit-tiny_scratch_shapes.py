_base_ = ['../_base_/small/dyvit-tiny.py', '../_base_/datasets/shapes.py']
model = dict(data_preprocessor=dict(num_classes=10), head=dict(num_classes=10))
data_root = {{_base_.imagenet_root}}
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
