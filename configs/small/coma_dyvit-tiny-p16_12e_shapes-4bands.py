"""CoMA pre-training on four bands of 16 bits, CoMA-Shapes with near infrared, in minutes on a CPU. Values: ours."""
_base_ = ['../shapes/coma_dyvit-tiny-p16_shapes-easy.py', '../_base_/datasets/shapes-4bands.py']
