"""CoMA whose decoder sees every stage, as in the paper: what Mask R-CNN starts from at the easy level.

Mask R-CNN, whose pyramid reads the fine stages, gains from it, and not from the last stage alone (docs/results/study.md).
"""
_base_ = './coma_dyvit-tiny-p16_shapes-easy.py'
model = dict(backbone=dict(out_indices=(0, 1, 2, 3)))
