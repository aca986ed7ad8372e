"""What the parts of `make gpu` share: commands in this process and in others, and data that is made once."""
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import cv2

from coma_mm import commands
from coma_mm.datasets.image_folder import ImageFolder
from coma_mm.files import write_whole
from coma_mm.prepare.shape_scenes import render_scene
from coma_mm.prepare.shapes import write_shapes
from coma_mm.processes import pool_map

from .scale import ROOT, RUNS, Scale


def command(*args: object, codes: Sequence[int] = (0, )) -> None:
    """Run `coma-mm` in this process.

    Raises:
        RuntimeError: Its exit code is none of `codes`.
    """
    code, sys.argv = 0, ['coma-mm', *map(str, args)]
    try:
        commands.main()
    except SystemExit as leaving:
        code = leaving.code or 0
    if code not in codes:
        raise RuntimeError(f'coma-mm {" ".join(sys.argv[1:3])} … ended with exit code {code}')


def side_by_side(given: Scale, lines: dict[str, list]) -> dict[str, int]:
    """dict: Exit codes of several `coma-mm` commands in processes of their own, whose output is in OUT/.runs/NAME.log."""

    def run(name):
        with open(given.path(RUNS, f'{name}.log'), 'wb') as log:
            return subprocess.run([sys.executable, '-m', 'coma_mm', *map(str, lines[name])], cwd=ROOT, stdout=log,
                                  stderr=log, env={**os.environ, 'PYTHONPATH': str(ROOT)}).returncode

    given.path(RUNS).mkdir(exist_ok=True)
    with ThreadPoolExecutor(given.together) as pool:
        return dict(zip(lines, pool.map(run, lines), strict=True))


def shapes(given: Scale) -> Path:
    """The folder of CoMA-Shapes, drawn if it is not there."""
    folder = given.path('data', 'shapes')
    with _alone(given):
        write_shapes(folder, dict(unlabelled=given.shapes, train=4, val=4, test=4), size=64, progress=False,
                     workers=min(8, given.workers))
    return folder


def pictures(given: Scale) -> Path:
    """A folder of JPEGs, so many by links that an epoch takes a while; made if it is not there."""
    folder, source = given.path('data', 'pictures'), given.path('data', 'jpegs')
    with _alone(given):
        if given.images:
            source = Path(given.images).resolve()
        elif not source.exists():
            source.mkdir(parents=True)
            for _ in pool_map(partial(_draw, str(source)), range(given.drawn), min(8, given.workers), 'drawing',
                              disable=True):
                pass
        folder.mkdir(parents=True, exist_ok=True)
        number = len(ImageFolder(str(source)))
        for index in range(-(-given.pictures // number)):
            with suppress(FileExistsError):
                (folder / f'{index:06d}').symlink_to(source, target_is_directory=True)
    return folder


def _draw(folder: str, index: int) -> None:
    image = render_scene(0, 'unlabelled', index, 448).image
    _, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    write_whole(Path(folder, f'{index}.jpg'), data.tobytes())


@contextmanager
def _alone(given: Scale) -> Iterator[None]:
    """Within this block no other part makes data."""
    given.path('data').mkdir(parents=True, exist_ok=True)
    with open(given.path('data', '.lock'), 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
