"""The same at 1024 px."""
_base_ = './coco_lsj-768px.py'
image_size = (1024, 1024)
batch_augments = [dict(type='BatchFixedSizePad', size=image_size, pad_mask=True)]
sizes = dict(RandomResize=dict(scale=image_size), RandomCrop=dict(crop_size=image_size), Resize=dict(scale=image_size))

train_pipeline = [dict(step, **sizes.get(step['type'], {})) for step in _base_.train_pipeline]
test_pipeline = [dict(step, **sizes.get(step['type'], {})) for step in _base_.test_pipeline]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
