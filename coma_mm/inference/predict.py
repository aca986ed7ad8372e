"""The job of `coma-mm predict`: images in, predictions in a folder out."""
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coma_mm.datasets.image_folder import BAND_SUFFIXES, IMAGE_SUFFIXES
from coma_mm.errors import UserError, first_names, printable, shorten
from coma_mm.files import write_whole
from coma_mm.locks import locked
from coma_mm.progress import Progress, duration
from coma_mm.weights.load import weights_sha256

from . import drawing, results
from .gallery import write_gallery
from .load import Usable, batched, load_described, shape_of
from .sources import Item, Source, ahead, count_items, find_sources, read_items
from .tiles import detect_tiles, segment_tiles, slice_boxes

JOURNAL = 'journal.jsonl'
"""What was done so far, one image a line, after a first line on the run."""
FILES = ('predictions.json', 'coco.json', 'gallery.html')
FOLDERS = ('maps', 'overlays', 'thumbs')
FILE_KEYS = ('map', 'overlay', 'thumb', 'map_thumb')
"""Of a record: the files that were written of an image."""


@dataclass
class Settings:
    """What results depend on, beside the model.

    Args:
        score_threshold (float, optional): See `results`. Defaults to 0.3 for detection, and to 0 else.
        top_k (int, optional): The most classes or objects of an image. Defaults to 5 classes of a classification, and to all
            else.
        amp (bool): Compute in bf16. Defaults to False.
        tta (bool): Augment images. Defaults to False.
        tile (int, optional): Sides of tiles in px. Defaults to whole images.
        overlap (int): Of neighbouring tiles in px. Defaults to 128.
        every (int): Of a video each so-many-th frame is taken. Defaults to 1.
    """
    score_threshold: float | None = None
    top_k: int | None = None
    amp: bool = False
    tta: bool = False
    tile: int | None = None
    overlap: int = 128
    every: int = 1


@dataclass
class Outcome:
    """What came of a job.

    Args:
        predicted (int): Images that were predicted now.
        before (int): Those that an earlier run had done.
        failed (list[str]): A line for each that could not be read.
        seconds (float): How long it took.
    """
    predicted: int
    before: int
    failed: list[str]
    seconds: float


class Journal:
    """The records of an output folder, on the disk as soon as they are made.

    Args:
        folder (Path): The folder, which is there.
        facts (dict): What the run is: a folder of another run is refused.
        overwrite (bool): Whether an earlier run's records and files go instead.

    Raises:
        UserError: If the folder is of another run, or holds other files.
    """

    def __init__(self, folder: Path, facts: dict[str, Any], overwrite: bool):
        self.path, self.records = folder / JOURNAL, {}
        lines = self.path.read_text().split('\n')[:-1] if self.path.is_file() else []  # a last line without an end is torn
        try:
            first, *rest = [json.loads(line) for line in lines] or [None]
        except ValueError as error:
            raise UserError(f'{self.path} is damaged; remove it, or choose another --out') from error
        if overwrite:
            _remove(folder, rest)
        elif first is None and (others := [path.name for path in folder.iterdir() if path.name != '.lock']):
            raise UserError(f'{folder} holds other files ({first_names(sorted(others))}); choose a new folder as --out, or '
                            'write among them with --overwrite')
        elif first is not None and first != facts:
            raise UserError(f'{folder} holds predictions of another run, with {_difference(first, facts)}; choose another '
                            '--out, or --overwrite')
        else:
            self.records = {one['key']: one for one in rest}
        head = [json.dumps(one) for one in (facts, *self.records.values())]
        write_whole(self.path, '\n'.join(head) + '\n')
        self.file = open(self.path, 'a')

    def add(self, record: dict[str, Any]) -> None:
        """Note what was found in an image."""
        self.records[record['key']] = record
        self.file.write(json.dumps(record) + '\n')
        self.file.flush()

    def next_id(self) -> int:
        """The number of the next new image."""
        return 1 + max((one['id'] for one in self.records.values()), default=0)


def _difference(there: Any, here: dict[str, Any]) -> str:
    """The first thing in which two runs differ."""
    if not isinstance(there, dict) or there.keys() != here.keys():
        return 'another version of coma_mm'
    for key in here:
        if there[key] != here[key]:
            if isinstance(here[key], dict) and isinstance(there[key], dict):
                return _difference(there[key], here[key])
            if len(str(there[key])) + len(str(here[key])) > 100 or key == 'weights':
                return f'other {key}'
            return printable(f'{key}={there[key]} and not {here[key]}')
    return 'other settings'


def _remove(folder: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Remove what an earlier run has written."""
    for record in records:
        for key in FILE_KEYS:
            path = record.get(key) if isinstance(record, dict) else None
            parts = Path(path).parts if isinstance(path, str) else ()
            if parts[:1] in [(one, ) for one in FOLDERS] and '..' not in parts:
                (folder / path).unlink(missing_ok=True)
    for name in (JOURNAL, *FILES):
        (folder / name).unlink(missing_ok=True)


def predict(checkpoint: str, images: Sequence[str], out: str, settings: Settings, *, config: str | None = None,
            batch_size: int = 1, device: str | None = None, overlay: bool = False, overwrite: bool = False,
            rgb: Sequence[int | str] | None = None) -> Outcome:
    """Predict on images, and write what was found into a folder.

    Args:
        checkpoint (str): See `load_described`.
        images (Sequence[str]): See `find_sources`.
        out (str): The folder: predictions.json, maps/ for segmentation, overlays/ if asked for, gallery.html with thumbs/,
            coco.json for detection, and `JOURNAL`.
        settings (Settings): What results depend on.
        config (str, optional): See `load_described`. Defaults to what the checkpoint says.
        batch_size (int): The most images, or tiles, at a time. Defaults to 1.
        device (str, optional): Where to compute. Defaults to a GPU if there is one.
        overlay (bool): Draw what was found on the images. Defaults to False.
        overwrite (bool): Start anew in the folder. Defaults to False: go on where the same run stopped.
        rgb (Sequence[int | str], optional): Of a model that sees other bands than RGB, the three to look at. Defaults to
            those of these names, or the first ones.

    Returns:
        Outcome: How much was done.

    Raises:
        UserError: If something in it cannot be used; nothing is written then.
    """
    folder = Path(out)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    usable = load_described(checkpoint, config, device, tta=settings.tta)
    known = _known_names(folder) if not overwrite else None
    found = find_sources(images, known, BAND_SUFFIXES if usable.bands else IMAGE_SUFFIXES)
    _check(usable, settings)
    usable.amp, usable.rgb = settings.amp, rgb
    if usable.bands:
        usable.bands.rgb(rgb)
    elif rgb:
        raise UserError(f'--rgb is for models of other bands, and {checkpoint} sees red, green and blue')
    facts = dict(coma_mm='predict', version=1, checkpoint=os.path.basename(checkpoint), task=usable.task,
                 weights=weights_sha256(usable.model.state_dict()), classes=usable.classes,
                 pipeline=json.loads(json.dumps(usable.pipeline)), settings=asdict(settings))
    with locked(folder):
        for path in (folder, *(folder / name for name in FOLDERS)):
            if path.is_symlink() or path.exists() and not path.is_dir():
                raise UserError(f'{path} is no folder; choose another --out')
        job = _Job(usable, settings, folder, Journal(folder, facts, overwrite), batch_size, overlay)
        with job.journal.file:
            return job.run(found)


def _known_names(folder: Path) -> dict[str, str]:
    """Names of files by their paths, as an earlier run gave them."""
    try:
        lines = (folder / JOURNAL).read_text().split('\n')[1:-1]
        return {one['path']: one['file_name'] for one in map(json.loads, lines) if one.get('path')}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _check(usable: Usable, settings: Settings) -> None:
    """Raise a UserError if a model predicts nothing, or not so."""
    usable.check()
    if settings.tta and settings.score_threshold and usable.task == 'segmentation':
        raise UserError('--tta gives no certainty of pixels: leave out --score-threshold, or --tta')
    if settings.tile is None:
        return
    if usable.task == 'classification':
        raise UserError('--tile is for segmentation and detection: the class of an image is not put together of those of '
                        'its parts')
    if not 0 <= settings.overlap < settings.tile:
        raise UserError(f'--overlap {settings.overlap}: expected less than --tile {settings.tile}')
    slice_boxes(settings.tile, settings.tile, settings.tile, settings.overlap)  # sahi is there


class _Job:
    """Predicts image by image."""

    def __init__(self, usable: Usable, settings: Settings, folder: Path, journal: Journal, batch_size: int, overlay: bool):
        self.usable, self.settings, self.folder, self.journal = usable, settings, folder, journal
        self.batch_size, self.overlay = batch_size, overlay
        self.threshold = settings.score_threshold
        if self.threshold is None:
            self.threshold = .3 if usable.task == 'detection' else 0.
        self.colors = drawing.colors_of(usable.classes, usable.palette, 256)
        self.failed, self.before, self.next_id = [], 0, journal.next_id()

    def run(self, sources: Sequence[Source]) -> Outcome:
        """Do all of it."""
        start, done = time.monotonic(), 0
        with Progress() as bars:
            self.console = bars.console
            task = bars.add_task('Predicting', total=count_items(sources, self.settings.every), unit='images')
            self.advance = lambda: bars.advance(task)
            items = ahead(read_items(sources, self._is_done, self.settings.every, self.usable.read), max(1, self.batch_size))
            for _ in self._predicted(items):
                done += 1
                rate = done / (time.monotonic() - start)
                bars.update(task, advance=1, description=f'Predicting, {rate:.3g} images/s')
            bars.update(task, total=bars.tasks[0].completed)
        seconds = time.monotonic() - start
        self._finish()
        return Outcome(done, self.before, self.failed, seconds)

    def _is_done(self, item: Item) -> bool:
        """Whether an image is as it was when it was predicted, and all files of it are there."""
        record = self.journal.records.get(item.key)
        if record is None or record['stamp'] != item.stamp or self.overlay and 'overlay' not in record:
            return False
        return all((self.folder / record[key]).is_file() for key in FILE_KEYS if key in record)

    def _predicted(self, items: Iterator[Item]) -> Iterator[Item]:
        """Predict and note; those whose inputs have the same size go through the model together."""
        for shape, group in groupby(self._prepared(items), lambda pair: shape_of(pair[1]) if pair[1] else None):
            for batch in batched(group, self.batch_size if shape else 1):
                if shape:
                    found = self.usable.predict_samples([sample for _, sample in batch])
                else:
                    found = [None] * len(batch)
                for (item, _), result in zip(batch, found, strict=True):
                    self._note(item, result)
                    yield item

    def _prepared(self, items: Iterator[Item]) -> Iterator[tuple[Item, dict | None]]:
        """Images with their samples; without one, an image for tiles."""
        for item in items:
            if item.image is None and not item.error:
                self.before += 1
                self.advance()
                continue
            sample = None
            if self.usable.bands and not item.path and not item.error:
                item.error = f'{item.key}: frames of videos are of 8 bits in colour, and the model sees other bands'
            if not item.error and not self._in_tiles(item):
                try:
                    sample = self.usable.prepare(item.image if self.usable.takes_arrays or not item.path else item.path)
                except Exception as error:  # what the libraries' steps raise on an image of a strange size, say
                    line = ' '.join(f'{type(error).__name__}: {error}'.split())
                    item.error = f'cannot prepare the image {item.key}: {line}'
            if item.error:
                line = printable(shorten(item.error, 500))
                self.failed.append(line)
                self.console.print(f'skipped: {line}', markup=False, highlight=False, soft_wrap=True)
                self.advance()
                continue
            yield item, sample

    def _in_tiles(self, item: Item) -> bool:
        return self.settings.tile is not None and max(item.image.shape[:2]) > self.settings.tile

    def _note(self, item: Item, result: Any) -> None:
        """Write the files of an image, and then its record."""
        settings, usable = self.settings, self.usable
        height, width = item.image.shape[:2]
        known = self.journal.records.get(item.key)
        record = dict(key=item.key, path=item.path, id=known['id'] if known else self.next_id, file_name=item.name,
                      width=width, height=height, stamp=item.stamp)
        self.next_id += not known
        labels = None
        if usable.task == 'classification':
            record |= results.scores(result, usable.classes, self.threshold, settings.top_k)
        elif usable.task == 'segmentation':
            labels = results.class_map(result, self.threshold) if result is not None else segment_tiles(
                usable, item.image, settings.tile, settings.overlap, self.batch_size, self.threshold)
            record |= results.shares(labels, usable.classes, settings.top_k)
            record['map'] = self._write('maps', item, '.png', drawing.map_png(labels, self.colors))
        else:
            record['objects'] = results.objects(
                result.pred_instances, self.threshold, settings.top_k) if result is not None else detect_tiles(
                usable, item.image, settings.tile, settings.overlap, self.batch_size, self.threshold, settings.top_k)
        self._draw(item, record, labels)
        self.journal.add(record)
        item.image = None

    def _draw(self, item: Item, record: dict[str, Any], labels: np.ndarray | None) -> None:
        picture = self.usable.picture(item.image)
        small, size = drawing.thumbnail(picture)
        record.update(thumb=self._write('thumbs', item, '.jpg', small), thumb_size=list(size))
        if labels is not None:
            record['map_thumb'] = self._write('thumbs', item, '.png', drawing.map_png(labels, self.colors, size))
        if self.overlay:
            drawn = drawing.overlay(picture, record, labels, self.usable.classes, self.colors)
            record['overlay'] = self._write('overlays', item, '.jpg', drawing.jpeg(drawn))
        for found in record.get('objects', ()):
            if mask := found.pop('mask', None):
                found['outline'] = drawing.outline(mask, size[0] / item.image.shape[1])

    def _write(self, folder: str, item: Item, suffix: str, content: bytes) -> str:
        """Write a file, whole; its path in the output folder."""
        path = Path(folder, os.path.splitext(item.name)[0] + suffix)
        try:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / path, content)
        except OSError as error:
            raise UserError(f'cannot write {self.folder / path}: {error.strerror or error}; make room, and the same command '
                            'goes on, or choose another --out') from error
        return str(path)

    def _finish(self) -> None:
        """Write what is about all images."""
        records = list(self.journal.records.values())
        usable = self.usable
        if not records:
            return
        write_whole(self.folder / 'predictions.json', results.predictions_json(usable.task, records, usable.classes))
        if usable.task == 'detection':
            write_whole(self.folder / 'coco.json', results.coco_json(records, usable.classes))
        write_gallery(self.folder / 'gallery.html', usable, records, self.colors, self.threshold)


def summary(outcome: Outcome, out: str) -> str:
    """A line on what was done."""
    rate = f' ({outcome.predicted / outcome.seconds:.3g} images/s)' if outcome.predicted else ''
    line = f'{outcome.predicted} image{"s" * (outcome.predicted != 1)} predicted in {duration(outcome.seconds)}{rate}'
    if outcome.before:
        line += f', {outcome.before} were done before'
    if outcome.failed:
        line += f', {len(outcome.failed)} could not be read'
    if outcome.predicted or outcome.before:
        line += f': {out}/predictions.json and {out}/gallery.html'
    return line
