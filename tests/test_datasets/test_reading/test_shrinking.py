"""A large window is read by strips, and is what resizing all of it at once would make of it."""
import numpy as np
import pytest

from coma_mm.datasets.random_resized_crop import resize_any
from coma_mm.datasets.reading import open_bands, shrinking


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_a_large_window_is_averaged_by_strips(tmp_path, monkeypatch, dtype):
    path, rng = str(tmp_path / 'scene.npy'), np.random.default_rng(0)
    smooth = resize_any(rng.uniform(50, 200, (8, 10, 5)).astype(np.float32), (330, 403))
    np.save(path, smooth.astype(dtype))
    with open_bands(path, 5) as image:
        window, read = (3, 2, 321, 399), []
        whole, _ = image.read(window)
        assert shrinking.read_for(image, window, (20, 20))[0].shape == whole.shape  # it is small
        monkeypatch.setattr(shrinking, 'LARGE', 20000)
        monkeypatch.setattr(image, 'read', lambda window: read.append(window) or type(image).read(image, window))
        shrunk, gaps = shrinking.read_for(image, window, (20, 20))
        assert shrunk.shape == (40, 49, 5) and shrunk.dtype == dtype and not gaps
        assert len(read) > 3 and max(height * width for *_, height, width in read) <= 20000
        assert read[0][0] == 3 and sum(height for *_, height, _ in read) == 320
        mean = whole[:320, :392].reshape(40, 8, 49, 8, 5).mean((1, 3))
        assert np.abs(shrunk - mean).max() <= (.51 if dtype != np.float32 else 1e-3)
