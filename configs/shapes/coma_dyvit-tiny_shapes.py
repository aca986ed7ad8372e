_base_ = ['../_base_/small/coma_dyvit-tiny.py', '../_base_/datasets/shapes.py']
data_root = {{_base_.unlabelled_root}}
# The frozen branch, which teaches nothing, is computed in every tenth update alone. The weights are the same, bit for bit,
# and pre-training takes about a quarter less time.
custom_hooks = [dict(type='EvaluationModelHook', interval=10)]
train_dataloader = dict(batch_size=32, dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=7.5e-4))
