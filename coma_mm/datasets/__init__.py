"""Data sets, transforms and samplers; importing the package registers them."""
from .image_folder import ImageFolder
from .loading import LoadImage, read_image
from .long_images import ResizeEdge
from .maps import MapClassIds
from .mask_samplers import BlockMaskSampler, ColorNoiseMaskSampler, UniformMaskSampler
from .masking import PackMaskedImage, PatchMask, RandomHorizontalFlip, draw_masks
from .packed_images import PackedImages
from .random_resized_crop import LoadRandomResizedCrop
from .seeding import SampleIndex, SeededDataset, SeededInfiniteSampler, SeededSampler, seed_dataloader

__all__ = [
    'BlockMaskSampler', 'ColorNoiseMaskSampler', 'ImageFolder', 'LoadImage', 'LoadRandomResizedCrop', 'MapClassIds',
    'PackMaskedImage', 'PackedImages', 'PatchMask', 'RandomHorizontalFlip', 'ResizeEdge', 'SampleIndex', 'SeededDataset',
    'SeededInfiniteSampler', 'SeededSampler', 'UniformMaskSampler', 'draw_masks', 'read_image', 'seed_dataloader'
]
