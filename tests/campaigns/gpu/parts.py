"""The parts of `make gpu` in the order of their value: what comes last is left out first."""
from .runner import Part

ALL = ('coma-frozen', 'coma-none', 'mae-dyvit', 'mae-vit')
OURS = ALL[:2]
PARTS = (
    Part('environment', 'The card, and what it can do at best', 'look_around', 10, 40),
    Part('smoke', 'What must hold, at tiny size', 'smoke', 60, 120),
    Part('speed', 'Steps of pre-training, eager', 'pretraining', 55, 100, options=dict(names=ALL)),
    Part('end-to-end', 'Training from JPEGs', 'end_to_end', 55, 90, prepare='pictures'),
    Part('compiled', 'Steps of pre-training, compiled', 'pretraining', 130, 200, options=dict(names=OURS, compiled=True)),
    Part('inference', 'Dense inference', 'inference', 40, 80),
    Part('upernet', 'Steps of UperNet', 'upernet', 20, 60),
    Part('mask-rcnn', 'Steps of Mask R-CNN', 'mask_rcnn', 25, 60),
    Part('resume', 'A run, repeated and resumed', 'resume', 40, 90, alone=False, prepare='shapes',
         options=dict(deterministic=False)),
    Part('resume-deterministic', 'The same with deterministic kernels', 'resume', 45, 90, alone=False, prepare='shapes',
         options=dict(deterministic=True), env=dict(CUBLAS_WORKSPACE_CONFIG=':4096:8')),
    Part('losses', 'Losses of bf16, TF32 and compiled code', 'losses', 70, 150, alone=False, prepare='shapes'),
    Part('determinism', 'Operators without deterministic kernels', 'determinism', 25, 60, alone=False),
    Part('tests', 'pytest -m gpu', 'tests', 60, 120, alone=False),
    Part('attention', "A step with PyTorch's flash kernel instead of cuDNN's attention", 'pretraining', 20, 60,
         options=dict(names=OURS[:1]), env=dict(TORCH_CUDNN_SDPA_DEPRIORITIZED='1')),
    Part('data', 'Loading on all cores', 'data_path', 35, 80, prepare='pictures'),
    Part('speed-smaller', 'The same steps with smaller batches', 'pretraining', 40, 90,
         options=dict(names=OURS, smaller=True)),
    Part('upernet-compiled', 'Steps of UperNet, compiled', 'upernet', 80, 150, options=dict(compiled=True)),
    Part('compiled-smaller', 'Smaller batches, compiled', 'pretraining', 200, 300,
         options=dict(names=OURS, smaller=True, compiled=True)),
)
"""Seconds are estimates, made before any of it ran on a GPU."""
