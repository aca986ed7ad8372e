"""Values that stand for no data: found, counted and filled."""
import numpy as np

from .base import kept_type


def fill_gaps(values: np.ndarray, nodata: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Give values without data the mean of their band's others, and all values the type in which they are handed on.

    Args:
        values (np.ndarray): Of any type, as a file has them, (H, W, C).
        nodata (float, optional): The value that stands for no data. What is not finite always does.

    Returns:
        tuple[np.ndarray, np.ndarray]: The values, uint8, uint16 or float32; of a band without any data 0. And the share of
        each band's values that were filled, float64 (C, ).
    """
    kept = kept_type(values.dtype)
    gaps = _gaps(values, nodata)
    if gaps is None or not gaps.any():
        # Steps may write into it.
        return values.astype(kept, order='C', copy=not values.flags.writeable), np.zeros(values.shape[2])
    with np.errstate(over='ignore'):  # float64's lowest value, where it means no data
        filled = values.astype(kept)
    shares = gaps.mean(axis=(0, 1))
    for band in np.flatnonzero(shares):
        here = gaps[..., band]
        valid = values[..., band][~here]
        mean = valid.mean(dtype=np.float64) if valid.size else 0
        filled[..., band][here] = mean if kept.kind == 'f' else round(mean)
    return filled, shares


def _gaps(values: np.ndarray, nodata: float | None) -> np.ndarray | None:
    """Where no data are, bool (H, W, C); None if nowhere."""
    if values.dtype.kind == 'f':
        with np.errstate(over='ignore'):  # what float32 cannot hold would be infinite
            gaps = ~np.isfinite(values.astype(np.float32, copy=False))
        if nodata is not None and np.isfinite(nodata):
            with np.errstate(over='ignore'):
                gaps |= values == values.dtype.type(nodata)
        return gaps
    if nodata is None or values.dtype.kind not in 'iu' or nodata != int(nodata if np.isfinite(nodata) else 0):
        return None
    limits = np.iinfo(values.dtype)
    return values == int(nodata) if limits.min <= nodata <= limits.max else None
