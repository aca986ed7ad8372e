"""mmpretrain's own MAE of ViT-B/16 on ImageNet-1K, 800 epochs, with seeds per sample and a fixed global batch."""
_base_ = ['mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-800e_in1k.py', '../_base_/runtime.py']
data_root = '{{$DATA_ROOT:data}}/imagenet'
# Its crops, decoded faster.
train_pipeline = [
    dict(type='LoadRandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0), interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    collate_fn=dict(_delete_=True, type='default_collate'),
    dataset=dict(data_root=data_root, pipeline=train_pipeline))
optim_wrapper = dict(accumulative_counts='auto')
randomness = dict(_delete_=True, seed=0)
resume = False
