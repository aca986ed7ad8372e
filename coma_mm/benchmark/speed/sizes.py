"""What is measured by default. Nothing is imported here, so that a command line is read at once."""
# Images, by device and group. For inference at 224 px: as many pixels at other sizes.
BATCHES = dict(
    cpu={'pretrain': 8, 'inference': 8, 'upernet': 2, 'mask-rcnn': 2},
    cuda={'pretrain': 256, 'inference': 128, 'upernet': 8, 'mask-rcnn': 8})
SIZES = {'pretrain': [224], 'inference': [224, 512, 768], 'upernet': [512], 'mask-rcnn': [768]}  # px, by group
