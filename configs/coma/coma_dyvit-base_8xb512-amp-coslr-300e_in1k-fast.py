"""As coma_dyvit-base_8xb512-amp-coslr-300e_in1k, with the frozen branch, which teaches nothing, in every tenth update only.

The weights are the same, to the last bit where a run repeats itself; `loss` in the log is a mean over updates of both kinds,
so compare `mse_adaptive`.
"""
_base_ = './coma_dyvit-base_8xb512-amp-coslr-300e_in1k.py'
custom_hooks = [dict(type='EvaluationModelHook', interval=10)]
