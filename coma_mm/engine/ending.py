"""How a start of a run ended, as a note in its folder of logs."""
import json
import time
from contextlib import suppress
from pathlib import Path

from mmengine.runner import Runner

from coma_mm.errors import Stopped, printable, shorten
from coma_mm.files import write_whole
from coma_mm.runs.reading import ENDING

from .explain import explain


def note_ending(runner: Runner | None, error: Exception | None = None) -> None:
    """Write how a training ended into the folder of its start, where `coma-mm runs` reads it.

    Of several processes the first that comes to an end has the word. A disk that is full keeps the note out, and no more.

    Args:
        runner (Runner, optional): The run. None, if it was not built: then nothing is noted.
        error (Exception, optional): What ended it. Defaults to None: it came to its end.
    """
    folder = Path(getattr(runner, 'log_dir', ''))
    note = folder / ENDING
    if runner is None or not folder.is_dir() or note.exists():
        return
    state, why = 'finished', ''
    if isinstance(error, Stopped):
        state, why = 'stopped', str(error)
    elif error is not None:
        state, why = 'failed', explain(error) or f'{type(error).__name__}: {error}'
    facts = dict(state=state, why=printable(shorten(' '.join(why.split()), 500)), iter=runner.iter, epoch=runner.epoch,
                 time=time.strftime('%Y-%m-%d %H:%M:%S'))
    with suppress(OSError):
        write_whole(note, json.dumps(facts, indent=2))
