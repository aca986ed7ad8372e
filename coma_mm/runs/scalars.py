"""Reading the scalars that mmengine's runs write."""
import json
from collections.abc import Iterable
from pathlib import Path

from coma_mm.errors import UserError
from coma_mm.files import read_text


def read_scalars(run: str | Path) -> tuple[list[dict], list[dict]]:
    """What a run logged.

    Args:
        run (str | Path): A work_dir, whose `*/vis_data/scalars.json` are read in the order of their names, which are
            times; or one such file. Where a run was resumed, what it did twice is taken from the later file.

    Returns:
        tuple[list[dict], list[dict]]: Entries of training and of validation, each with its 'step' counted in training
        iterations (an entry of validation: those logged before it; what mmengine writes there, epochs or iterations, is
        its 'logged_step').

    Raises:
        UserError: There is no such file.
    """
    run = Path(run)
    files = [run] if run.is_file() else sorted(file for file in run.glob('*/vis_data/scalars.json') if file.is_file())
    if not files:
        raise UserError(f'no log of a run in {run}: expected a work_dir with */vis_data/scalars.json, or such a file')
    return joined(map(read_entries, files))


def read_entries(file: Path) -> list[dict]:
    """The entries that one start of a run logged, with what is a number in them.

    The last line of a killed run may be torn, as may be that of a run which is writing it; it is left out.
    """
    found = []
    for line in read_text(file).splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        # Numbers larger than a 64-bit one come from nowhere.
        entry = {key: value for key, value in entry.items() if isinstance(value, float)
                 or isinstance(value, int) and abs(value) < 2**63} if isinstance(entry, dict) else {}
        if isinstance(entry.get('step'), int):
            found.append(entry)
    return found


def is_of_training(entry: dict) -> bool:
    """Whether an entry is of training, not of a validation."""
    return 'lr' in entry or 'loss' in entry


def joined(starts: Iterable[list[dict]]) -> tuple[list[dict], list[dict]]:
    """The entries of a run's starts as those of one run, see `read_scalars`."""
    train, val = [], []
    for entries in starts:
        step = None  # of the last training entry of this start
        for entry in entries:
            if is_of_training(entry):
                if step is None:
                    train = [x for x in train if x['step'] < entry['step']]
                    val = [x for x in val if x['step'] < entry['step']]
                step = entry['step']
                train.append(entry)
            else:
                place = dict(step=train[-1]['step'] if train else 0, logged_step=entry['step'])
                # A run that is resumed makes up for a validation, which it may have made before.
                val = [x for x in val if any(x[key] != place[key] for key in place)]
                val.append({**entry, **place})
    return train, val
