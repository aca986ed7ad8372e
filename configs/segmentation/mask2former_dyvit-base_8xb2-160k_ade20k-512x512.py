"""Mask2Former for semantic segmentation with DyViT-B on ADE20K at 512×512, from PRETRAINED."""
_base_ = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'
custom_imports = dict(imports=['coma_mm'], allow_failed_imports=False)
data_root = '{{$DATA_ROOT:data}}/ade/ADEChallengeData2016'
pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-base_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.DyViT',
        arch='base',
        out_indices=(0, 1, 2, 3),
        drop_path_rate=0.3,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    decode_head=dict(in_channels=[112, 224, 448, 896]))

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
optim_wrapper = dict(accumulative_counts='auto', optimizer=dict(fused=True))
randomness = dict(seed=0)
