"""The process of a part: it imports and prepares, waits for a line on its standard input, and works."""
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from coma_mm.processes import end_with_parent  # noqa: E402


def main(name: str, scale: str, folder: str) -> None:
    """Do the part's work, unless the runner goes before its turn comes."""
    end_with_parent(signal.SIGKILL)
    import coma_mm
    coma_mm.register()
    from tests.campaigns.gpu import work
    from tests.campaigns.gpu.parts import PARTS
    from tests.campaigns.gpu.scale import Scale
    part, given = next(part for part in PARTS if part.name == name), Scale.from_text(scale)
    if part.prepare:
        getattr(work, part.prepare)(given)
    if sys.stdin.readline():
        getattr(work, part.work)(given, Path(folder), **part.options)


if __name__ == '__main__':
    main(*sys.argv[1:])
