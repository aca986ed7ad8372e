"""CoMA pre-training of DyViT-B at 224 px on any folder of images (IMAGE_ROOT), on one GPU."""
_base_ = './coma_dyvit-base_8xb512-amp-coslr-300e_folder.py'
update = 128  # images
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * update / 256))
auto_scale_lr = dict(base_batch_size=update)
