"""Finding runs under a folder."""
import os
from pathlib import Path

from .reading import START


def find_runs(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Folders that look like runs; hidden ones are passed over, and links are followed.

    Args:
        folder (Path): Where to look, to any depth, itself included.

    Returns:
        tuple[list[Path], list[tuple[Path, str]]]: The runs' folders in order; and the uppermost folders that have none in
        them, or cannot be read, with the reason.
    """
    seen, found, skipped, places = [], [], [], set()
    for place, names, files in os.walk(folder, followlinks=True,
                                       onerror=lambda error: skipped.append((Path(error.filename), str(error)))):
        real = Path(place).resolve()
        if real in places or places and os.path.islink(place) and real.is_relative_to(folder.resolve()):
            names.clear()  # a link to what has been looked at, or will be under its own name
            continue
        places.add(real)
        starts = [name for name in names if START.fullmatch(name)]
        if starts or any(name == 'provenance.json' or name.endswith(('.log.json', '.pth')) for name in files):
            found.append(Path(place))
        elif 'runs.csv' not in files:  # where results are collected
            seen.append(Path(place))
        names[:] = sorted(name for name in {*names} - {*starts} if not name.startswith('.'))
    above = {folder, *(parent for run in found for parent in run.parents)}
    skipped += [(place, 'no run in it') for place in seen
                if place not in above and place.parent in above.difference(found)]
    return found, skipped
