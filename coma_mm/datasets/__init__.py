"""Data sets and data pipelines."""
from .masking import PackMaskedImage, PatchMask

__all__ = ['PackMaskedImage', 'PatchMask']
