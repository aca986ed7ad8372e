"""A fixed, balanced choice of the images in folders of classes: some to learn the classes from, some to ask for."""
import os
from dataclasses import dataclass
from random import Random

from coma_mm.datasets.image_folder import IMAGE_SUFFIXES, is_folder, walk_files
from coma_mm.errors import MissingFileError, UserError, first_names

PER_CLASS = 10
"""Images to learn a class from; where there would be fewer, some of the classes are chosen."""
EXPECTED = 'expected a folder of images for each class, {0}/<class>/*.jpg, or {0}/train/<class> and {0}/val/<class>'


@dataclass(frozen=True)
class ClassFolders:
    """Images and their classes.

    Args:
        root (str): The folder that they are in.
        classes (list[str]): Names of the classes that were chosen, sorted; their places are the class ids.
        known (int): How many classes there are.
        train (list[tuple[str, int]]): Path and class id of each image to learn from.
        test (list[tuple[str, int]]): The same of those to ask for.
    """
    root: str
    classes: list[str]
    known: int
    train: list[tuple[str, int]]
    test: list[tuple[str, int]]

    def __str__(self):
        chosen = f'{len(self.classes)} classes' + (f' of {self.known}' if self.known > len(self.classes) else '')
        return f'{len(self.test)} images of {chosen} by {len(self.train)} others of {self.root}'


def choose_images(root: str, train_images: int = 1000, test_images: int = 500, k: int = 20, seed: int = 0,
                  suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> ClassFolders:
    """Choose images of each class, equally many where there are so many.

    Those to ask for are of the folder `val`, or else `test`, where there is one beside a folder `train` and both hold
    folders; else a third of each class is held out.

    Args:
        root (str): The folder.
        train_images (int): How many images to learn from, at most. Of classes there are a tenth of it at most. Defaults to
            1000.
        test_images (int): How many to ask for, at most. Defaults to 500.
        k (int): Neighbours that each is compared with. Defaults to 20.
        seed (int): Of the choice. Defaults to 0.
        suffixes (tuple[str]): Of image files, in small letters. Defaults to those of ordinary pictures.

    Returns:
        ClassFolders: The same on every machine.

    Raises:
        UserError: If the folder does not hold images of two classes or more, or fewer than k to learn from.
    """
    root = root.rstrip('/') or root
    if not os.path.isdir(root):
        kind, state = (UserError, 'is not a folder') if os.path.exists(root) else (MissingFileError, 'does not exist')
        raise kind(f'probe_root {root} {state}; {EXPECTED.format(root)}')
    asked = next((os.path.join(root, name) for name in ('val', 'test') if _folders(os.path.join(root, name))), None)
    train = _images(os.path.join(root, 'train') if asked else root, suffixes)
    if not train and asked:
        asked, train = None, _images(root, suffixes)
    test = _images(asked, suffixes) if asked else {}
    if not train:
        raise UserError(f'probe_root {root} holds no folder with images in it; {EXPECTED.format(root)}, of files '
                        f'that end in {", ".join(suffixes)}')
    if len(train) < 2:
        raise UserError(f'probe_root {root} holds images of one class, {next(iter(train))}, so nothing can be told apart; '
                        'expected folders of two classes or more')
    if strange := sorted(test.keys() - train.keys()):
        raise UserError(f'probe_root: {asked} has classes that {root}/train has no images of: {first_names(strange)}')
    classes = sorted(train)
    if len(classes) > max(2, train_images // PER_CLASS):
        classes = sorted(Random(seed).sample(classes, max(2, train_images // PER_CLASS)))
    chosen = dict(train=[], test=[])
    for number, name in enumerate(classes):
        generator = Random(f'{seed} {name}')
        paths = generator.sample(train[name], len(train[name]))
        most = -(-test_images // len(classes))
        if asked:
            held_out = generator.sample(test.get(name, []), min(most, len(test.get(name, []))))
        else:
            held_out = paths[:min(most, max(1, len(paths) // 3)) if len(paths) > 1 else 0]
            paths = paths[len(held_out):]
        chosen['test'] += [(path, number) for path in held_out]
        chosen['train'] += [(path, number) for path in paths[:max(1, train_images // len(classes))]]
    if not chosen['test']:
        raise UserError(f'probe_root {root} has one image of each class, so none is left to ask for; '
                        f'{EXPECTED.format(root)}')
    if len(chosen['train']) < k:
        raise UserError(f'k={k} is more than the {len(chosen["train"])} images of probe_root {root} to compare with; take a '
                        'smaller k of OnlineProbeHook (default_hooks.probe.k, where the config has default_hooks.probe), or '
                        'put more images in')
    return ClassFolders(root, classes, len(train), **chosen)


def _folders(folder: str) -> list[str]:
    """The names of the folders in a folder, hidden ones apart, sorted; none where there is no folder."""
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith('.') and is_folder(entry))


def _images(folder: str, suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """The sorted images in each folder of a folder that has some."""
    found = {name: sorted(path for path in walk_files(os.path.join(folder, name)) if path.lower().endswith(suffixes))
             for name in _folders(folder)}
    return {name: paths for name, paths in found.items() if paths}
