from .masking import PackMaskedImage, PatchMask

__all__ = ['PackMaskedImage', 'PatchMask']
