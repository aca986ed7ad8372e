"""mmpretrain's random crops, of images of any bands and depth."""
import numpy as np
from mmpretrain.datasets.transforms import RandomResizedCrop as _RandomResizedCrop
from mmpretrain.registry import TRANSFORMS

from .random_resized_crop import resize_any


def is_picture(image: np.ndarray) -> bool:
    """Whether an image is one that Pillow can resize: of 8 bits, grey or of three colours."""
    return image.dtype == np.uint8 and (image.ndim == 2 or image.shape[2] in (1, 3))


def resize_bands(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """`resize_any`, where a step for pictures may name an interpolation that has no antialiasing: then bilinearly."""
    return resize_any(image, size, interpolation if interpolation in ('bicubic', 'bilinear') else 'bilinear')


@TRANSFORMS.register_module(force=True)
class RandomResizedCrop(_RandomResizedCrop):
    """mmpretrain's `RandomResizedCrop`; images that are no 8-bit pictures are resized by torch, with antialiasing."""

    def transform(self, results: dict) -> dict:
        """Crop and resize; the same crops from the same random numbers."""
        image = results['img']
        if is_picture(image):
            return super().transform(results)
        top, left, height, width = self.rand_crop_params(image)
        crop = image[top:top + height, left:left + width]
        results['img'] = resize_bands(crop, self.scale, self.interpolation)
        results['img_shape'] = results['img'].shape[:2]
        return results
