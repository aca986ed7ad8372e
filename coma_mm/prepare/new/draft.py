"""What is known of a config before it is written, and how its values are written as Python."""
import os
import random
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from coma_mm.datasets.encoded import open_image
from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, walk_files
from coma_mm.datasets.image_kinds import why_not_8_bit
from coma_mm.errors import UserError
from coma_mm.files import check_folder, open_regular

WIDTH = 120
"""Of the lines that are written."""
BLANK = ' '
"""An empty line of a config, among its parts."""
SAMPLE = 200
"""Images whose size is looked at."""
FEW = 20
"""Images of which the whole file is read, to see their depth."""
MOST_HELD_OUT = 50_000
"""Images of a data set that is split by its config, in which the number of each image that is trained on is written."""


VALIDATION = ('val', 'valid', 'validation')
"""Names of the folder of validation beside one that is called train or training."""


@dataclass
class Draft:
    """A config but for the length of its run.

    Attributes:
        what (str): The data, in words: '950 images, every 20th held out'.
        model (str): What is trained, in words.
        images (int): Images of an epoch.
        update (int): Images of an update.
        batch (int): Images of a batch on each GPU.
        gpus (int): How many there are.
        rate (str): The learning rate and its rule, in words.
        epochs (int): The length of the run.
        reason (str): Why it has this length.
        write (Callable): Gives the config's text for a number of epochs.
        notes (list[str]): What else there is to say, each a sentence without its full stop.
    """
    what: str
    model: str
    images: int
    update: int
    batch: int
    gpus: int
    rate: str
    epochs: int
    reason: str
    write: Callable[[int], str]
    notes: list[str] = field(default_factory=list)


def literal(value: Any) -> str:
    """A value as Python, which mmengine's templates in configs leave as it is."""
    return repr(value).replace('{{', '{\\x7b')


def lines(parts: Iterable[str]) -> str:
    """The text of a config; empty parts are left out."""
    return ''.join(f'{part.rstrip()}\n' for part in parts if part)


def beginning(about: str, base: str, data_root: str, split: str = '') -> list[str]:
    """The first lines of a config: its docstring, what it inherits, and where its data are; `split` is of `held_out`."""
    return [f'"""{about}."""', *(['import random', BLANK] if split else ''), f"_base_ = 'coma_mm::{base}'",
            f'data_root = {literal(data_root)}']


def ending(every: int, rate: float, base: int, decay: str = '') -> list[str]:
    """The last lines of a config: the optimiser, and after how many epochs or iterations it validates and saves.

    Args:
        every (int): Epochs or iterations.
        rate (float): The learning rate.
        base (int): Images of an update that it is for.
        decay (str): See `layer_decay`. Defaults to none.

    Returns:
        list[str]: The lines.
    """
    return [f"optim_wrapper = dict(accumulative_counts='auto', {decay}optimizer=dict(lr={rate:g} * update / {base}))",
            'auto_scale_lr = dict(base_batch_size=update)', f'train_cfg = dict(val_interval={every})',
            f'default_hooks = dict(checkpoint=dict(interval={every}))']


def assign(name: str, values: Iterable) -> str:
    """An assignment of a tuple, over as many lines as it takes."""
    items = [f'{literal(value)},' for value in values]
    line = f'{name} = ({" ".join(items).removesuffix(",") if len(items) > 1 else " ".join(items)})'
    if len(line) <= WIDTH:
        return line
    rows, own = [], '   '
    for item in items:  # not by textwrap: a name may hold blanks
        if len(own) + 1 + len(item) > WIDTH and own.strip():
            rows.append(own)
            own = '   '
        own += f' {item}'
    return '\n'.join([f'{name} = (', *rows, own, ')'])


def held_out(count: int) -> tuple[str, int]:
    """Lines of a config that split a data set by a seed into `train_images` and `val_images`.

    Args:
        count (int): Images of the data set.

    Returns:
        tuple[str, int]: The lines, and how many images are held out.

    Raises:
        UserError: If there are too many to be written down one by one, or too few.
    """
    if count > MOST_HELD_OUT:
        raise UserError(f'{count} images in one set: a config can split up to {MOST_HELD_OUT}; give the images of '
                        'validation as a set of their own (--val, or folders train and val)')
    number = max(1, round(count * 0.1))
    if count < 2:
        raise UserError(f'{count} image: expected more, as some are held out for validation')
    return textwrap.dedent(f'''\
        # A tenth of the images is held out for validation, by chance; the seed makes it the same tenth in every run.
        val_images = sorted(random.Random(0).sample(range({count}), {number}))
        train_images = sorted(set(range({count})) - set(val_images))
        '''), number


def shared(count: int, val: int | None) -> tuple[str, int, str]:
    """Share a data set out to training and validation.

    Args:
        count (int): Images of the data set.
        val (int, optional): Images of validation, if they are a set of their own.

    Returns:
        tuple[str, int, str]: The lines of `held_out`, or ''; how many images are trained on; and in words what is not.

    Raises:
        UserError: See `held_out`.
    """
    if val is not None:
        return '', count, f'and {val} for validation'
    split, number = held_out(count)
    return split, count - number, f'{number} held out by a seed'


def list_images(folder: str, option: str, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> list[str]:
    """The images in a folder and below it.

    Args:
        folder (str): The folder.
        option (str): That names it, for messages.
        suffixes (Sequence[str]): Of images. Defaults to all that can be read.

    Returns:
        list[str]: Their paths, sorted.

    Raises:
        UserError: If there is no such folder, or no image in it.
    """
    check_folder(folder, 'a folder of images', option)
    files = list(walk_files(folder))
    images = sorted(path for path in files if path.lower().endswith(tuple(suffixes)))
    if not images:
        raise UserError(f'no image in {option} {folder} ({len(files)} other files in it and below); expected files that end '
                        f'in {", ".join(suffixes)}')
    return images


def short_side(paths: Sequence[str]) -> int:
    """The shorter side in px that three quarters of some images have at least, of which a sample is looked at.

    Args:
        paths (Sequence[str]): The images. Those that cannot be opened are passed over: the run says which they are.

    Returns:
        int: In px.

    Raises:
        UserError: If none of the sample can be opened.
    """
    sides, sample = [], random.Random(0).sample(sorted(paths), min(SAMPLE, len(paths)))
    for path in sample:
        try:
            with open_regular(path) as file, open_image(file) as image:
                sides.append(min(image.size))
        except Exception:  # on broken data Pillow raises many types
            continue
    if not sides:
        raise UserError(f'none of {len(sample)} images can be opened, e.g. {sample[0]}; coma-mm check_data says why')
    return sorted(sides)[len(sides) // 4]


def depth_notes(paths: Sequence[str]) -> list[str]:
    """A sentence on the first of a few images that a run would refuse for its depth or bands, if there is one."""
    for path in random.Random(0).sample(sorted(paths), min(FEW, len(paths))):
        try:
            with open_regular(path) as file:
                why = why_not_8_bit(file.read())
        except (OSError, UserError):  # the run says which files cannot be read
            continue
        if why:
            held = why.partition(', and what is read')[0]
            return [f'A run refuses images like {os.path.basename(path)}, as {held}, unless it has --bands (docs/bands.md)']
    return []


def absolute(path: str) -> str:
    """Where a file or folder is, whatever the working directory of the run."""
    return os.path.abspath(os.path.expanduser(path))
