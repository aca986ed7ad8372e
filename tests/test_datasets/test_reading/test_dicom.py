"""DICOM gives values in their unit, clipped to the window, with high values bright."""
import numpy as np
import pytest

from coma_mm.datasets.reading import image_info, read_image
from coma_mm.errors import BadImageError

pydicom = pytest.importorskip('pydicom')
STORED = np.random.default_rng(0).integers(0, 4096, (20, 30), np.uint16)


def write(path, pixels=STORED, **tags):
    """Write a DICOM file without compression."""
    data = pydicom.dataset.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = '1.2.840.10008.5.1.4.1.1.7'
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = '1.2.3'
    frames = pixels.ndim == 3 and pixels.shape[-1] != 3
    data.Rows, data.Columns = pixels.shape[1:] if frames else pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    if frames:
        data.NumberOfFrames = len(pixels)
    data.PhotometricInterpretation = 'RGB' if data.SamplesPerPixel == 3 else 'MONOCHROME2'
    data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * pixels.itemsize
    data.BitsStored = 12 if pixels.itemsize == 2 else 8
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == 'i')
    for tag, value in tags.items():
        setattr(data, tag, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)
    return str(path)


def test_slope_window_padding_and_inversion(tmp_path):
    path = tmp_path / 'image.dcm'
    for tags, expected in (
        ({}, STORED),
        (dict(PhotometricInterpretation='MONOCHROME1'), 4095 - STORED),
        (dict(RescaleSlope=2, RescaleIntercept=-1024), STORED * 2. - 1024),
        (dict(RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 9]),
         np.clip(STORED - 1024., -160, 240)),
        (dict(RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400,
              PhotometricInterpretation='MONOCHROME1'), 80 - np.clip(STORED - 1024., -160, 240)),
        (dict(WindowCenter=2000, WindowWidth=1000), np.clip(STORED, 1500, 2500)),
    ):
        read = read_image(write(path, **tags))
        assert read.dtype == (np.uint16 if expected.dtype == np.uint16 else np.float32), tags
        assert (read[..., 0] == expected).all() and image_info(str(path))[:4] == (20, 30, 1, read.dtype.name), tags
    padded = read_image(write(path, PixelPaddingValue=int(STORED[0, 0])))[..., 0]
    there = STORED != STORED[0, 0]
    assert (padded[there] == STORED[there]).all() and np.allclose(padded[0, 0], STORED[there].mean())


def test_signed_values_colours_and_frames(tmp_path):
    path = tmp_path / 'image.dcm'
    signed = STORED.astype(np.int16) - 2048
    assert (read_image(write(path, signed))[..., 0] == signed).all()
    colours = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    assert (read_image(write(path, colours)) == colours).all() and image_info(str(path)).names == ('red', 'green', 'blue')
    frames = np.stack([STORED, STORED // 2])
    with pytest.raises(BadImageError, match='it has 2 frames; expected one image, or set pages=True'):
        read_image(write(path, frames))
    assert (read_image(str(path), pages=True) == np.moveaxis(frames, 0, -1)).all()
