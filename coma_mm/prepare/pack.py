"""Packing: the images of a folder, resized once, into a few large files (see `packed_images` for what is in them)."""
import hashlib
import io
import json
import os
import tarfile
import zlib
from functools import partial
from pathlib import Path

from PIL import Image

from coma_mm.datasets.encoded import read_encoded
from coma_mm.datasets.image_folder import ImageFolder
from coma_mm.datasets.loading import read_image
from coma_mm.datasets.packed_images import INDEX, VERSION, read_index, shard_name
from coma_mm.datasets.random_resized_crop import read_jpeg_header
from coma_mm.errors import BadImageError, UserError
from coma_mm.files import is_full, write_whole
from coma_mm.locks import locked
from coma_mm.processes import pool_map

SKIPPED = 'skipped.txt'


def pack(source, out, short_side, quality=95, shard_size=4096, workers=1, skip_broken=False):
    """Pack a folder of images, or go on with it.

    It grows in `<out>.partial`, file by file, and gets its name when it is whole. Meanwhile `<out>.lock` keeps others out.

    Args:
        source (str): The folder, as `ImageFolder` reads it.
        out (str): The pack: a folder that does not exist, or is empty.
        short_side (int): Shorter side of the packed images in px. Images are never enlarged: a JPEG that is no larger, and
            needs no conversion, is taken byte for byte.
        quality (int): Of the JPEGs. Defaults to 95.
        shard_size (int): Images in a file. Defaults to 4096.
        workers (int): Processes. Defaults to 1.
        skip_broken (bool): Leave out images that cannot be read and list them in `SKIPPED`. Defaults to False: stop.

    Returns:
        dict: The content of `INDEX`, and `written`: False if this very pack was there, whole.

    Raises:
        UserError: A bad setting, an image that cannot be read, another pack or anything else in the place of this one,
            another process that packs it, no space. What is at `out` is as it was.
    """
    for name, value, low, high in (('short-side', short_side, 8, 65535), ('quality', quality, 1, 100),
                                   ('shard-size', shard_size, 1, 10**9), ('workers', workers, 1, 10**4)):
        if not low <= value <= high:
            raise UserError(f'--{name} is {value}; expected {low} to {high}')
    source = os.path.normpath(source)
    names = [os.path.relpath(info['img_path'], source)
             for info in ImageFolder(data_root=source, lazy_init=True).load_data_list()]
    plan = dict(version=VERSION, short_side=short_side, quality=quality, shard_size=shard_size,
                names=hashlib.sha256('\n'.join(names).encode('utf-8', 'surrogateescape')).hexdigest())
    out = Path(os.path.abspath(out))
    if found := _find(out, plan):
        return dict(found, written=False)
    with locked(out, f'{out}.lock'):
        if found := _find(out, plan):  # by another process, meanwhile
            return dict(found, written=False)
        return dict(_write(source, out, plan, names, workers, skip_broken), written=True)


def _write(source, out, plan, names, workers, skip_broken):
    """Write a pack; returns the content of `INDEX`."""
    partial_folder = out.with_name(f'{out.name}.partial')
    try:
        _begin(partial_folder, plan)
        size = plan['shard_size']
        shards = [names[start:start + size] for start in range(0, len(names), size)]
        todo = [(number, shard) for number, shard in enumerate(shards)
                if not (partial_folder / shard_name(number, 'json')).exists()]
        work = partial(_write_shard, str(partial_folder), source, plan['short_side'], plan['quality'], skip_broken)
        for _ in pool_map(work, todo, workers, 'packing', completed=len(shards) - len(todo), unit='files'):
            pass
        index = _finish(partial_folder, plan, names, len(shards))
        os.replace(partial_folder, out)
    except OSError as error:
        hint = 'free some space, and run the same command again: it goes on where it stopped' if is_full(error) else (
            'choose another folder')
        raise UserError(
            f'cannot write {error.filename or partial_folder}: {error.strerror or error}; {hint}') from error
    return index


def verify(folder, workers=1):
    """Compare the check sums of all images in a pack.

    Args:
        folder (str): The pack.
        workers (int): Processes. Defaults to 1.

    Returns:
        dict: The content of `INDEX`.

    Raises:
        UserError: If it is no pack, or naming the images that differ.
    """
    index, images = read_index(folder)
    shards = [[] for _ in index['shards']]
    for image in images:
        shards[image['shard']].append(image)
    found = pool_map(partial(_differing, folder), list(enumerate(shards)), workers, 'verifying', unit='files')
    bad = [name for names in found for name in names]
    if bad:
        raise UserError(f'{len(bad)} of {len(images)} images in the pack {folder} are not what was packed: '
                        f'{", ".join(bad[:5])}{", …" if len(bad) > 5 else ""}; copy or pack it anew')
    return index


def _find(out, plan):
    """dict | None: The index of the pack that is to be written, if it is there; raises if something else is."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if (out / INDEX).is_file():
        index, _ = read_index(str(out))
        if index['plan'] == plan:
            return index
        raise UserError(f'{out} is a pack of other images or settings; it is left as it is: choose another folder')
    raise UserError(f'{out} exists and is no pack; it is left as it is: choose another folder')


def _begin(folder, plan):
    """Make the folder of an unfinished pack, or see that the one there is of this plan."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'plan.json'
    if not path.exists():
        if any(name for name in os.listdir(folder) if name != 'plan.json.tmp'):
            raise UserError(f'{folder} is in the way and was not made by this tool; move it')
        write_whole(path, json.dumps(plan))
    elif path.read_text() != json.dumps(plan):
        raise UserError(f'{folder} is an unfinished pack of other images or settings; remove it, or finish it with those')


def _write_shard(folder, source, short_side, quality, skip_broken, task):
    """Write one file of the pack and the list of its images; the list comes last and says that both are whole."""
    number, names = task
    path = os.path.join(folder, shard_name(number))
    images, skipped = [], []
    with tarfile.open(f'{path}.tmp', 'w') as tar:
        for name in names:
            try:
                encoded = encode(os.path.join(source, name), short_side, quality)
            except BadImageError as error:
                text = str(error).rpartition('; replace')[0]
                if not skip_broken:
                    raise UserError(f'{text}; replace it, or pass --skip-broken') from error
                skipped.append(text)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(encoded)
            tar.addfile(member, io.BytesIO(encoded))
            padded = -(-len(encoded) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            images.append((name, tar.offset - padded, len(encoded), zlib.crc32(encoded)))
    with open(f'{path}.tmp', 'rb') as file:
        os.fsync(file.fileno())
    os.replace(f'{path}.tmp', path)
    write_whole(os.path.join(folder, shard_name(number, 'json')), json.dumps(dict(images=images, skipped=skipped)))


def encode(path, short_side, quality):
    """Make of an image file the JPEG that is packed.

    Args:
        path (str): The file.
        short_side (int): Its shorter side is at most this, in px.
        quality (int): Of the JPEG.

    Returns:
        bytes: The JPEG.

    Raises:
        BadImageError: If the file cannot be decoded.
        UserError: If there is no such file.
    """
    encoded = read_encoded(dict(img_path=path))
    image = read_image(path, encoded)  # to the end, also where its bytes are taken
    height, width = image.shape[:2]
    shorter = min(height, width)
    if shorter <= short_side and read_jpeg_header(encoded):
        return encoded
    image = Image.fromarray(image[..., ::-1])
    if shorter > short_side:
        size = [max(1, round(side * short_side / shorter)) for side in (width, height)]
        image = image.resize(size, Image.Resampling.BICUBIC)
    packed = io.BytesIO()
    try:
        image.save(packed, 'JPEG', quality=quality)
    except OSError as error:
        raise BadImageError(f'cannot read the image {path}: as a JPEG it is too large ({error}); replace it') from error
    return packed.getvalue()


def _finish(folder, plan, names, count):
    """Write what comes last; returns the content of `INDEX`."""
    shards, skipped, images = [], [], 0
    for number in range(count):
        content = (folder / shard_name(number, 'json')).read_bytes()
        listed = json.loads(content)
        shards.append(dict(bytes=os.path.getsize(folder / shard_name(number)), crc32=zlib.crc32(content)))
        images += len(listed['images'])
        skipped += listed['skipped']
    if not images:
        raise UserError(f'not one image can be read (the first: {skipped[0]})')
    if skipped:
        text = ''.join(f'{line}\n' for line in skipped)
        write_whole(folder / SKIPPED, text.encode('utf-8', 'surrogateescape'))
    classes = sorted({name.partition('/')[0] for name in names if '/' in name})
    index = dict(version=VERSION, images=images, skipped=len(skipped), classes=classes, shards=shards, plan=plan)
    write_whole(folder / INDEX, json.dumps(index, indent=1))
    return index


def _differing(folder, task):
    """list[str]: Names of the images of a file whose bytes are not those that were packed."""
    number, images = task
    shard = os.path.join(folder, shard_name(number))
    bad = []
    for image in images:
        try:
            read_encoded(dict(image, img_path=os.path.join(folder, image['name']), shard=shard))
        except BadImageError:
            bad.append(image['name'])
    return bad
