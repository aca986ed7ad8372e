"""Linear probe of DyViT-B on ImageNet-1K, from PRETRAINED: the backbone is frozen."""
_base_ = ['mmpretrain::mae/benchmarks/vit-base-p16_8xb2048-linear-coslr-90e_in1k.py', '../_base_/runtime.py']
data_root = '{{$DATA_ROOT:data}}/imagenet'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-base_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='DyViT',
        arch='base',
        frozen_stages=3,
        out_type='avg_featmap',
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    neck=dict(input_features=896),
    head=dict(in_channels=896))

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

optim_wrapper = dict(type='AutocastOptimWrapper', accumulative_counts='auto')
randomness = dict(_delete_=True, seed=0)
auto_scale_lr = dict(base_batch_size=16384)
