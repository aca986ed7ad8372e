"""CoMA with DyViT-B and a ConvNeXt decoder (Fig. 5); its depth by --cfg-options model.decoder.depth=N."""
_base_ = '../coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k.py'
model = dict(decoder=dict(_delete_=True, type='ConvNeXtDecoder', embed_dims=512, depth=8))
