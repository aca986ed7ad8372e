"""CoMA whose evaluation encoder teaches by its tokens, beside the pixels; docs/paper_notes.md, docs/choosing.md."""
_base_ = './coma_dyvit-tiny-p16_shapes-easy.py'
model = dict(complement='latent', momentum=0.996, end_momentum=1., latent_weight=1., pixel_weight=1.)
custom_hooks = [dict(type='EvaluationModelHook', interval=1)]  # the branch teaches, so it is computed in every update
