"""Data sets, transforms and samplers; importing the package registers them."""
from .band_augmentations import BandDrop, BandGain, RandomRotate90, RandomVerticalFlip
from .image_folder import ImageFolder
from .loading import LoadImage, read_image
from .long_images import ResizeEdge
from .maps import MapClassIds
from .mask_samplers import BlockMaskSampler, ColorNoiseMaskSampler, UniformMaskSampler
from .masking import PackMaskedImage, PatchMask, RandomHorizontalFlip, draw_masks
from .packed_images import PackedImages
from .random_resized_crop import LoadRandomResizedCrop
from .resizing import RandomResizedCrop
from .seeding import SampleIndex, SeededDataset, SeededInfiniteSampler, SeededSampler, seed_dataloader

__all__ = [
    'BandDrop', 'BandGain', 'BlockMaskSampler', 'ColorNoiseMaskSampler', 'ImageFolder', 'LoadImage',
    'LoadRandomResizedCrop', 'MapClassIds', 'PackMaskedImage', 'PackedImages', 'PatchMask', 'RandomHorizontalFlip',
    'RandomResizedCrop', 'RandomRotate90', 'RandomVerticalFlip', 'ResizeEdge', 'SampleIndex', 'SeededDataset',
    'SeededInfiniteSampler', 'SeededSampler', 'UniformMaskSampler', 'draw_masks', 'read_image', 'seed_dataloader'
]
