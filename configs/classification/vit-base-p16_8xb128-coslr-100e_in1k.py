"""Fine-tuning of ViT-B/16 on ImageNet-1K, from PRETRAINED (Table 4)."""
_base_ = './dyvit-base_8xb128-coslr-100e_in1k.py'
pretrained = '{{$PRETRAINED:work_dirs/coma_vit-base-p16_8xb512-amp-coslr-800e_in1k/epoch_800.pth}}'
model = dict(
    backbone=dict(
        _delete_=True,
        type='MaskedVisionTransformer',
        arch='base',
        patch_size=16,
        drop_path_rate=0.1,
        out_type='avg_featmap',
        final_norm=False,
        init_cfg=dict(type='Pretrained', checkpoint=pretrained, prefix='backbone.')),
    head=dict(in_channels=768))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
