"""Random damage: to bytes, and to nested values."""
import copy
import math

ODD_VALUES = (None, True, '', 'x', 'abc', -1, 0, 1, 2.5, -0.5, 1e308, math.nan, math.inf, 10**30, [], [[]], [None], [0, 0],
              {}, dict(type='x'), 'ä\n', '\0')


def damage(content, rng):
    """bytes: A file's content after one to three accidents, of a disk, a network or a program; never the same.

    Args:
        content (bytes): Not empty.
        rng (random.Random): The only source of chance.
    """
    damaged = content
    while damaged == content:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            damaged = rng.choice(_ACCIDENTS)(bytearray(damaged or b'\0'), rng)
    return bytes(damaged)


def _flip(content, rng):
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _flip_at_the_start(content, rng):
    content[rng.randrange(min(64, len(content)))] ^= 1 << rng.randrange(8)
    return content


def _cut(content, rng):
    return content[:rng.randrange(len(content))]


def _lose(content, rng):
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 512):]


def _clear(content, rng):
    start, length = rng.randrange(len(content)), rng.randrange(1, 4096)
    content[start:start + length] = bytes(len(content[start:start + length]))
    return content


def _insert(content, rng):
    start = rng.randrange(len(content))
    return content[:start] + rng.randbytes(rng.randrange(1, 64)) + content[start:]


def _number(content, rng):
    """A length or size that is absurd."""
    start = rng.randrange(len(content))
    value = rng.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
    width = rng.choice([2, 4, 8])
    content[start:start + width] = (value % 2**(8 * width)).to_bytes(width, rng.choice(['little', 'big']))
    return content


_ACCIDENTS = (_flip, _flip, _flip_at_the_start, _cut, _lose, _clear, _insert, _number)


def places(value, path=()):
    """Iterator[tuple]: The paths of everything in nested dicts and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def distort(content, rng, values=ODD_VALUES):
    """Nested dicts and lists with one to three entries removed, doubled, renamed, or of another value or type.

    Args:
        content (dict): Left as it is.
        rng (random.Random): The only source of chance.
        values (Sequence): What takes an entry's place. Defaults to `ODD_VALUES`.

    Returns:
        tuple[dict, str]: The distorted copy, and what was done.
    """
    content, done = copy.deepcopy(content), []
    for _ in range(rng.choice([1, 1, 2, 3])):
        # By depth first, or what is deepest, being most, is all that is ever touched.
        by_depth = {}
        for path in places(content):
            by_depth.setdefault(len(path), []).append(path)
        if not by_depth:
            break
        path = rng.choice(by_depth[rng.choice([*by_depth])])
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        if not isinstance(holder, (dict, list)):  # a tuple
            continue
        key, kind = path[-1], rng.choice(['value', 'value', 'value', 'remove', 'rename', 'double', 'nudge'])
        done.append(f'{kind} {".".join(map(str, path))}')
        if kind == 'remove':
            del holder[key]
        elif kind == 'rename' and isinstance(key, str):
            letter = rng.randrange(len(key) + 1)
            holder[key[:letter] + key[letter + 1:]] = holder.pop(key)
        elif kind == 'double' and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        elif kind == 'nudge' and isinstance(holder[key], (int, float)):
            holder[key] = holder[key] * rng.choice([-1, 0, 2, 1000]) + rng.choice([-1, 0, 1])
        else:
            holder[key] = copy.deepcopy(rng.choice(values))
            done[-1] += f' = {holder[key]!r}'
    return content, '; '.join(done)
