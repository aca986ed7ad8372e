"""Samples of any bands: opening them in the pipeline, and the rules for all files of a data set."""
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from numbers import Real

from coma_mm.errors import BadImageError, NoDataError, UserError, choice
from coma_mm.ranges import SHARE

from .encoded import read_encoded
from .reading import BandImage, open_bands
from .reading.base import DEPTHS
from .reading.choice import Bands, check_choice


class BandReading:
    """How the steps that load images read bands.

    Args:
        bands (int | Sequence[int | str]): How many bands the files have, or those to read, by index from 0 or by name.
        nodata (float, optional): The value that stands for no data, beside NaN. Defaults to what a file says of itself.
        pages (bool): Whether the pages of a TIFF are bands. Defaults to False.
        max_nodata (float): Which share of an image may be without data. Defaults to 1.
        depth (str, optional): The type that the values must have, as the moments were measured on it. Defaults to that of
            the first file.

    Raises:
        UserError: Something that is none of these.
    """

    def __init__(self, bands: Bands, nodata: float | None = None, pages: bool = False, max_nodata: float = 1,
                 depth: str | None = None):
        self.bands = check_choice(bands)
        SHARE.check('max_nodata', max_nodata)
        if nodata is not None and (isinstance(nodata, bool) or not isinstance(nodata, Real)):
            raise UserError(f'nodata={nodata!r}: expected the number that stands for no data, as -9999')
        if depth is not None:
            choice('depth', depth, DEPTHS)
        self.nodata, self.pages, self.max_nodata, self.depth = nodata, pages, max_nodata, depth
        self._first: tuple[str, str] | None = None

    @contextmanager
    def open(self, sample: dict) -> Iterator[BandImage]:
        """Open the file of a sample, which may be in a pack (see `read_encoded`).

        Raises:
            BadImageError: If its values are not of the type `depth`.
            UserError: If its values are of another type than those of the first file that was opened here: the same number
                would mean something else, and one mean and standard deviation cannot fit both.
        """
        path = sample['img_path']
        with open_sample(sample, self.bands, self.nodata, self.pages) as image:
            depth = image.info.dtype
            if self.depth not in (None, depth):
                raise BadImageError(f'the image {path} holds {depth} values, and the moments are of {self.depth}: '
                                    'convert it, or measure images of its kind alone')
            self._first = self._first or (depth, path)
            if depth != self._first[0]:
                raise UserError(f'the image {path} is of {depth}, and {self._first[1]} is of {self._first[0]}; expected '
                                'images of one depth: convert those of one kind, or train on each kind by itself')
            yield image

    def check(self, gaps: float, sample: dict, what: str = '') -> None:
        """Raise a NoDataError if the share of an image that is without data is more than `max_nodata`."""
        if gaps > self.max_nodata:
            raise NoDataError(f'the image {sample["img_path"]} has no data for {gaps:.0%} of its values{what}; expected at '
                              f'most {self.max_nodata:.0%} (max_nodata)')


def open_sample(sample: dict, bands: Bands, nodata: float | None = None,
                pages: bool = False) -> AbstractContextManager[BandImage]:
    """`open_bands` for a sample, which may be in a pack (see `read_encoded`)."""
    return open_bands(sample['img_path'], bands, nodata, pages, read_encoded(sample) if 'shard' in sample else None)
