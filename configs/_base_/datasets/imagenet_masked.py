"""Masked pre-training on ImageNet-1K's training images, at 224 px; the reconstruction is validated on its val images."""
_base_ = './image_folder.py'
data_root = '{{$DATA_ROOT:data}}/imagenet'
train_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='train'), part='all'))
val_dataloader = dict(dataset=dict(data_root=data_root, data_prefix=dict(img_path='val'), part='all'))
test_dataloader = val_dataloader
