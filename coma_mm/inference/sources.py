"""What is to be predicted: image files, folders, patterns, lists on standard input, and the frames of videos."""
import glob
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import cv2
import numpy as np

from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, walk_files
from coma_mm.datasets.loading import read_image
from coma_mm.errors import UserError, shorten

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.avi', '.mkv', '.webm', '.mpg', '.mpeg', '.wmv')


@dataclass(frozen=True)
class Source:
    """An image file, or a video.

    Args:
        path (str): Absolute.
        name (str): What it is called in the results: its path in the folder that was given, or its own name. No two have the
            same, whatever their suffixes.
    """
    path: str
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.lower().endswith(VIDEO_SUFFIXES)


@dataclass
class Item:
    """An image, or a frame of a video.

    Args:
        key (str): Its path, for a frame with '#' and its number.
        name (str): What it is called in the results.
        path (str | None): The file, if it is one of its own.
        stamp (list[int]): Size and time of the file, by which one that was changed is known.
        image (ndarray | None): uint8 (H, W, 3), BGR, or the bands that the model sees; None for one that is done, or cannot
            be read.
        error (str): Why it cannot be read. Defaults to ''.
    """
    key: str
    name: str
    path: str | None
    stamp: list[int]
    image: np.ndarray | None = None
    error: str = ''


def find_sources(arguments: Sequence[str], known: Mapping[str, str] | None = None,
                 suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Source]:
    """Find what a command line names.

    Args:
        arguments (Sequence[str]): Files, folders, patterns with `*`, `?` or `[…]`, and '-' for a list of these on standard
            input, one a line.
        known (Mapping[str, str], optional): Names by paths that were given before. Defaults to none.
        suffixes (tuple[str]): Of images in folders. Defaults to those of ordinary pictures.

    Returns:
        list[Source]: Each file once, sorted within each folder and pattern.

    Raises:
        UserError: If there is no such file, or no image in a folder.
    """
    found = {}
    for argument in arguments:
        lines = [argument]
        if argument == '-':
            lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
            if not lines:
                raise UserError('-: standard input has no line; expected a list of images, one a line')
        for line in lines:
            for path, name in _expand(line, suffixes):
                found.setdefault(os.path.abspath(path), name)
    return _named(found, known or {})


def _expand(argument: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Paths of files, and their names."""
    argument = os.path.expanduser(argument)
    if os.path.isdir(argument):
        inside = sorted(path for path in walk_files(argument) if path.lower().endswith(suffixes + VIDEO_SUFFIXES))
        if not inside:
            raise UserError(f'no image in the folder {shorten(argument, 300)}; expected files that end in '
                            f'{", ".join(suffixes)}, or in {", ".join(VIDEO_SUFFIXES)}')
        yield from ((path, os.path.relpath(path, argument)) for path in inside)
    elif os.path.exists(argument):
        yield argument, os.path.basename(argument)
    elif glob.has_magic(argument):
        paths = [path for path in sorted(glob.glob(argument, recursive=True)) if os.path.isfile(path)]
        if not paths:
            raise UserError(f'no file fits the pattern {shorten(argument, 300)}')
        yield from ((path, os.path.basename(path)) for path in paths)
    else:
        raise UserError(f'no image {shorten(argument, 300)}; expected files, folders of them, patterns, or - for a list on '
                        'standard input')


def _named(found: Mapping[str, str], known: Mapping[str, str]) -> list[Source]:
    """Give each path a name that no other one has: its own, with the folder around it, or with a number."""
    taken = {_stem(name) for name in known.values()}
    sources = []
    for path, name in found.items():
        if path in known:
            sources.append(Source(path, known[path]))
            continue
        stem, suffix = os.path.splitext(name)
        names = [name, os.path.join(PurePath(path).parent.name, os.path.basename(name))]
        number = 2
        while _stem(names[0]) in taken:
            names.pop(0)
            if not names:
                names.append(f'{stem}~{number}{suffix}')
                number += 1
        taken.add(_stem(names[0]))
        sources.append(Source(path, names[0]))
    return sources


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].casefold()  # as some disks know no capitals


def count_items(sources: Sequence[Source], every: int = 1) -> int:
    """How many images and frames there are, as far as the videos say it."""
    number = 0
    for source in sources:
        frames = 1
        if source.is_video:
            video = cv2.VideoCapture(source.path)
            frames = max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)))
            video.release()
        number += -(-frames // every) if source.is_video else 1
    return number


def read_items(sources: Iterable[Source], is_done: Callable[[Item], bool], every: int = 1,
               read: Callable[[str], np.ndarray] = read_image) -> Iterator[Item]:
    """Read the images that are not done.

    Args:
        sources (Iterable[Source]): From `find_sources`.
        is_done (Callable): Takes an item without its image.
        every (int): Of a video each so-many-th frame is taken. Defaults to 1.
        read (Callable): Reads an image file. Defaults to `read_image`.

    Yields:
        Item: All of them, also those that are done or cannot be read, which have no image.
    """
    for source in sources:
        try:
            status = os.stat(source.path)
        except OSError as error:
            yield Item(source.path, source.name, source.path, [], error=f'{source.path}: {error.strerror}')
            continue
        stamp = [status.st_size, status.st_mtime_ns]
        if source.is_video:
            yield from _frames(source, stamp, is_done, every)
            continue
        item = Item(source.path, source.name, source.path, stamp)
        if not is_done(item):
            try:
                item.image = read(source.path)
            except UserError as error:
                item.error = str(error).partition('; replace or remove')[0].partition('; check data_root')[0]
        yield item


def _frames(source: Source, stamp: list[int], is_done: Callable[[Item], bool], every: int) -> Iterator[Item]:
    video = cv2.VideoCapture(source.path)
    try:
        stem, suffix = os.path.splitext(source.name)
        number = 0
        while video.grab():
            if number % every == 0:
                item = Item(f'{source.path}#{number}', f'{stem}{suffix}/{number:06d}.png', None, stamp)
                if not is_done(item):
                    whole, item.image = video.retrieve()
                    if not whole:
                        item.image, item.error = None, f'{source.path}: frame {number} cannot be decoded'
                yield item
            number += 1
        if not number:
            yield Item(source.path, source.name, source.path, stamp,
                       error=f'cannot read the video {source.path}: OpenCV finds no frame in it')
    finally:
        video.release()


def ahead(values: Iterable, number: int = 1) -> Iterator:
    """The same values, of which up to `number` are made in a thread before they are asked for."""
    made, end, over = queue.Queue(number), object(), threading.Event()

    def put(value: Any) -> bool:
        while not over.is_set():
            try:
                made.put(value, timeout=.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for value in values:
                if not put((value, None)):
                    return
            put((end, None))
        except BaseException as error:  # to be raised where the values are used
            put((end, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            value, error = made.get()
            if error is not None:
                raise error
            if value is end:
                return
            yield value
    finally:
        over.set()
        thread.join()
