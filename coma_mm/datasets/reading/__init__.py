"""Reading images of any bands, depth and format: windows of them, and what files say of themselves."""
from .base import ImageInfo
from .read import BandImage, image_info, open_bands, read_image

__all__ = ['BandImage', 'ImageInfo', 'image_info', 'open_bands', 'read_image']
