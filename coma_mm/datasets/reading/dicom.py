"""DICOM: values in their unit (Hounsfield's, say), clipped to the file's window, with bright for much."""
from typing import Any, BinaryIO

import numpy as np

from ..libraries import need
from .base import Pixels, all_bands


def dicom_reader(file: str | BinaryIO, pages: bool, force: bool = False) -> Pixels:
    """Open a DICOM file, without decoding its pixels.

    The rescale slope and intercept are applied, values are clipped to the (first) window, and MONOCHROME1 is turned, so that
    high values are bright. Padding is no data. Values without any of it keep their 8 or 16 bits.

    Args:
        file (str | BinaryIO): Where it is, or its content.
        pages (bool): Whether its frames are bands.
        force (bool): Whether to read a file without DICOM's mark at byte 128. Defaults to False.

    Returns:
        Pixels: Open.

    Raises:
        ImportError: If pydicom is not installed.
        ValueError: If it has several frames and `pages` is not set.
    """
    pydicom = need('pydicom', 'pydicom', 'dicom', 'DICOM')
    data = pydicom.dcmread(file, force=force)
    if 'Rows' not in data or 'PixelData' not in data:
        raise ValueError('it is DICOM without an image')
    frames, samples = int(data.get('NumberOfFrames') or 1), int(data.SamplesPerPixel)
    if frames > 1 and not pages:
        raise ValueError(f'it has {frames} frames; expected one image, or set pages=True (--pages) to take each as a band')
    plain = not data.PixelRepresentation and not any(
        data.get(key) not in (None, default) for key, default in (
            ('RescaleSlope', 1), ('RescaleIntercept', 0), ('ModalityLUTSequence', None), ('PixelPaddingValue', None)))
    dtype = np.dtype(f'u{data.BitsAllocated // 8}' if plain and data.BitsAllocated in (8, 16) else np.float32)
    names = ('red', 'green', 'blue') if samples == 3 and frames == 1 else ()
    return Pixels((int(data.Rows), int(data.Columns)), dtype, all_bands(frames * samples),
                  lambda: _values(data, frames, dtype), kind='a DICOM image', names=names)


def _values(data: Any, frames: int, dtype: np.dtype) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, convert_color_space
    try:
        stored = data.pixel_array
    except (RuntimeError, NotImplementedError, AttributeError) as error:  # a compression that needs another library
        raise ValueError(f'its pixels cannot be decoded ({error}); for compressed ones: pip install pylibjpeg '
                         'pylibjpeg-libjpeg pylibjpeg-openjpeg') from error
    photometric = data.PhotometricInterpretation
    if data.SamplesPerPixel == 3:
        if photometric.startswith('YBR') and photometric not in ('YBR_RCT', 'YBR_ICT'):
            stored = convert_color_space(stored, photometric, 'RGB')
        return np.moveaxis(stored, 0, -2).reshape(*stored.shape[1:3], -1) if frames > 1 else stored
    stored = stored if frames > 1 else stored[None]
    values = apply_modality_lut(stored, data).astype(dtype)
    bits = int(data.BitsStored)
    ends = np.array([-2**(bits - 1), 2**(bits - 1) - 1] if data.PixelRepresentation else [0, 2**bits - 1])
    if 'ModalityLUTSequence' not in data:
        ends = ends * float(data.get('RescaleSlope') or 1) + float(data.get('RescaleIntercept') or 0)
    if data.get('WindowCenter') is not None and data.get('WindowWidth') is not None:
        center, width = (float(np.atleast_1d(value)[0]) for value in (data.WindowCenter, data.WindowWidth))
        ends = np.clip([center - width / 2, center + width / 2], *sorted(ends))
        values = np.clip(values, *ends.astype(values.dtype))
    if photometric == 'MONOCHROME1':
        values = (sum(ends) - values).astype(dtype)
    if data.get('PixelPaddingValue') is not None:
        values[stored == data.PixelPaddingValue] = np.nan
    return np.moveaxis(values, 0, -1)
