"""The scenes of CoMA-Shapes: textured shapes that overlap, among clutter, under uneven light.

A scene is a function of (seed, split, index), level and image side alone. Class, texture, colours, pose and light are
drawn independently of one another, so neither colour nor texture tells the class; the outline does. Coordinates are
fractions of the image side, x to the right, y down. Everything is drawn `SUPERSAMPLING` times too large and averaged
down, and an instance's mask is the set of output pixels of which it covers the largest visible share.
"""
from dataclasses import dataclass, replace

import cv2
import numpy as np

# All classes; a level has some of them. Alphabetical, so that folder order, COCO's category order and the segmentation
# index agree.
CLASSES = ('arrow', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'ring', 'square', 'star', 'triangle')
PALETTE = ((230, 80, 60), (70, 130, 230), (245, 200, 60), (90, 190, 110), (225, 100, 170), (150, 100, 215),
           (250, 145, 50), (60, 195, 200), (190, 220, 90), (165, 120, 85))
# With a near-infrared band two classes more, of the outline of a square, which that band alone tells apart: like plants the
# one is bright in it, the other dark.
NAMES = ('red', 'green', 'blue', 'nir')
INFRARED = {'field': (0.7, 0.95), 'roof': (0.05, 0.3)}
REPLACED = {'field': 'star', 'roof': 'square'}  # whose colours they have, too
WHITE = 10_000  # of 16 bits, as satellites' reflectances are scaled
SPLITS = ('unlabelled', 'train', 'val', 'test')

SUPERSAMPLING = 3
DOMINANCE = 2  # visible area of the dominant object over that of any other, at least
MIN_VISIBLE_SHARE = 0.5  # of an object's own area, what lies outside of the image included
MIN_VISIBLE_SHARE_DOMINANT = 0.75
MIN_VISIBLE_AREA = 0.004  # of the image

Range = tuple[float, float]


@dataclass(frozen=True)
class Level:
    """How hard the scenes are. Ranges are (low, high); lengths are fractions of the image side.

    Attributes:
        classes (tuple[str, ...]): Its classes, alphabetical.
        same_area (float): How outlines of one reach are sized: 0 gives them the same circumscribed circle, 1 the same area.
        dominant, others (Range): Reach of the dominant object, and of the others.
        numbers (tuple[float, ...]): Probability that 0, 1, 2, … others are tried.
        clutter (int): Pieces of clutter, at most.
        dark, light (Range): Brightness (HSV's value, 0 to 1) of the background's colours, and of the things' on it.
        unlike (float): Distance between the mean colours of a thing and of the background, at least, in RGB of 0 to 1.
        lighter (float): By how much a thing's luminance is above the background's, at least; -1: it may be darker.
        background, surface (Range): Contrast of the textures, as in `_Surface`.
        angle, stretch, shear (float): Largest turn in radians, log of the stretch, and shear, either way.
        slope (float): Largest fall of the light across the image.
        shadow (float): Probability of a shadow from outside of the image.
        noise (float): Largest standard deviation of the pixels' noise, in colours of 0 to 1.
    """
    classes: tuple[str, ...]
    same_area: float
    dominant: Range
    others: Range
    numbers: tuple[float, ...]
    clutter: int
    dark: Range
    light: Range
    unlike: float
    lighter: float
    background: Range
    surface: Range
    angle: float
    stretch: float
    shear: float
    slope: float
    shadow: float
    noise: float

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """RGB by class."""
        return tuple(PALETTE[CLASSES.index(REPLACED.get(name, name))] for name in self.classes)

    def of_bands(self, bands: int) -> 'Level':
        """The level for images of so many bands, 3 or 4."""
        if bands == 3:
            return self
        return replace(self, classes=tuple(sorted({*self.classes, *INFRARED} - {*REPLACED.values()})))


LEVELS = {
    'easy': Level(
        classes=('circle', 'cross', 'square', 'star', 'triangle'), same_area=1., dominant=(0.21, 0.28),
        others=(0.09, 0.13), numbers=(.4, .35, .25), clutter=2, dark=(0.1, 0.55), light=(0.6, 1.), unlike=0.35,
        lighter=0.2, background=(0.02, 0.15), surface=(0.02, 0.2), angle=np.pi / 12, stretch=0.1, shear=0.08, slope=0.3,
        shadow=0.1, noise=0.012),
    'hard': Level(
        classes=CLASSES, same_area=0.5, dominant=(0.19, 0.265), others=(0.08, 0.15),
        numbers=(.28, .28, .2, .12, .07, .05), clutter=3, dark=(0.3, 1.), light=(0.3, 1.), unlike=0.35, lighter=-1.,
        background=(0.1, 0.4), surface=(0.1, 0.7), angle=np.pi / 8, stretch=0.15, shear=0.12, slope=0.8, shadow=0.35,
        noise=0.035),
}
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green and blue (BT.601)


@dataclass
class Scene:
    """One rendered scene.

    Attributes:
        image (np.ndarray): RGB, uint8, (S, S, 3); with a near-infrared band uint16, (S, S, 4).
        instances (np.ndarray): uint8, (S, S); 0 is background and clutter, k is the object `classes[k - 1]`.
        classes (list[int]): Index among its level's classes of each object. The first object is the dominant one: its
            visible area is at least `DOMINANCE` times any other's.
    """
    image: np.ndarray
    instances: np.ndarray
    classes: list

    @property
    def label(self) -> int:
        """Index among its level's classes of the dominant object."""
        return self.classes[0]

    @property
    def semantic(self) -> np.ndarray:
        """uint8 (S, S): 0 where there is no object, 1 + class index where there is one."""
        lookup = np.array([0] + [c + 1 for c in self.classes], np.uint8)
        return lookup[self.instances]


def render_scene(seed: int, split: str, index: int, size: int, level: str = 'hard', bands: int = 3) -> Scene:
    """Draw the scene `index` of `split`.

    Args:
        seed (int): Non-negative seed of the data set.
        split (str): One of `SPLITS`.
        index (int): Number of the scene in its split, from 0.
        size (int): Side of the square image in pixels, at least 32.
        level (str): One of `LEVELS`. Defaults to 'hard'.
        bands (int): 3: RGB. 4: near infrared as well, and classes that it alone tells apart, see `INFRARED`. Defaults to 3.
    """
    setting = LEVELS[level].of_bands(bands)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    label = dominant_class(seed, split, index, level)
    background = _Surface(rng, period=(0.08, 0.3), contrast=setting.background, value=setting.dark)
    elements, instances, classes = _lay_out(rng, setting, label, size)

    side = size * SUPERSAMPLING
    light = rng.uniform(0, 2 * np.pi)
    canvas = background.paint(_grid(side, (0, 0, side, side)))
    for element in elements:
        _draw(rng, setting, canvas, element, background.colour, light)
    image = _expose(rng, setting, cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), light)
    if bands == 3:
        return Scene(np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8), instances, classes)
    infrared = _infrared(np.random.default_rng([seed, SPLITS.index(split), index, bands]), setting, elements, size)
    image = np.dstack([image, infrared])
    return Scene(np.clip(image * WHITE + 0.5, 0, 2**16 - 1).astype(np.uint16), instances, classes)


def _infrared(rng, level: Level, elements, size: int) -> np.ndarray:
    """The near-infrared band, float (S, S): of an object it says nothing, but of the classes in `INFRARED`."""
    side = size * SUPERSAMPLING
    band = rng.uniform(0.4, 0.6) + _Surface(rng, (0.08, 0.3), level.background, (0, 0.1)).paint(
        _grid(side, (0, 0, side, side)))[..., 0]
    for element in elements:
        name = level.classes[element.class_id] if element.class_id >= 0 else ''
        band[element.mask] = rng.uniform(*INFRARED.get(name, (0.05, 0.95)))
    band = cv2.resize(band, (size, size), interpolation=cv2.INTER_AREA)
    return band + np.float32(rng.uniform(0, level.noise)) * rng.standard_normal((size, size), np.float32)


def dominant_class(seed: int, split: str, index: int, level: str = 'hard') -> int:
    """Class of a scene's dominant object: a fresh permutation of all classes for each run of as many scenes."""
    classes = len(LEVELS[level].classes)
    block, position = divmod(index, classes)
    rng = np.random.default_rng([seed, SPLITS.index(split), block, classes])
    return int(rng.permutation(classes)[position])


# ---------------------------------------------------------------------------------------------------------------------
# Outlines
# ---------------------------------------------------------------------------------------------------------------------
def _arc(start: float, end: float, radius: float = 1.0, centre: float = 0.0, points: int = 40) -> np.ndarray:
    angle = np.linspace(start, end, points)
    return np.stack([centre + radius * np.cos(angle), radius * np.sin(angle)], 1)


def _crescent() -> np.ndarray:
    shift, radius = 0.5, 0.78  # the disc that is cut out of the unit disc
    x = (1 + shift**2 - radius**2) / (2 * shift)  # where the two circles meet
    outer, inner = np.arccos(x), np.arctan2(np.sqrt(1 - x**2), x - shift)
    return np.concatenate([_arc(outer, 2 * np.pi - outer), _arc(2 * np.pi - inner, inner, radius, shift)])


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([16 * np.sin(t)**3, y], 1)


def _star() -> np.ndarray:
    angle = -np.pi / 2 + np.arange(10) * np.pi / 5
    radius = np.where(np.arange(10) % 2, 0.42, 1.0)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _outlines() -> dict:
    """Closed contours of each class, centred on the bounding box, in a circumscribed circle of radius 1.

    Where contours lie within each other, what is inside an even number of them is outside of the shape (the ring).
    """
    a = 0.33
    contours = {
        'arrow': [[(-1, -.27), (.1, -.27), (.1, -.75), (1, 0), (.1, .75), (.1, .27), (-1, .27)]],
        'circle': [_arc(0, 2 * np.pi)],
        'crescent': [_crescent()],
        'cross': [[(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a), (a, 1), (-a, 1), (-a, a), (-1, a), (-1, -a),
                   (-a, -a)]],
        'heart': [_heart()],
        'hourglass': [[(-.8, -1), (.8, -1), (.15, 0), (.8, 1), (-.8, 1), (-.15, 0)]],
        'ring': [_arc(0, 2 * np.pi), _arc(0, 2 * np.pi, 0.56)],
        'square': [[(-1, -1), (1, -1), (1, 1), (-1, 1)]],
        'star': [_star()],
        'triangle': [_arc(-np.pi / 2, 1.5 * np.pi, points=4)],
    }
    outlines = {}
    for name, parts in contours.items():
        parts = [np.asarray(part, float) for part in parts]
        low, high = parts[0].min(0), parts[0].max(0)
        parts = [part - (low + high) / 2 for part in parts]
        reach = np.linalg.norm(parts[0], axis=1).max()
        outlines[name] = [part / reach for part in parts]
    return outlines


def _area(parts) -> float:
    """Area of the first contour less that of the others (holes)."""
    areas = [abs(np.sum(p[:, 0] * np.roll(p[:, 1], 1) - p[:, 1] * np.roll(p[:, 0], 1))) / 2 for p in parts]
    return areas[0] - sum(areas[1:])


OUTLINES = _outlines()


# ---------------------------------------------------------------------------------------------------------------------
# Layout: what is where, and what of it is visible
# ---------------------------------------------------------------------------------------------------------------------
@dataclass
class _Element:
    """Something to draw: an object (`class_id` >= 0) or clutter (-1). `mask` is bool at the supersampled side."""
    class_id: int
    mask: np.ndarray
    area: float  # in supersampled pixels, the part outside of the image included
    reach: float  # radius, a fraction of the image side


def _lay_out(rng, level: Level, label: int, size: int):
    """Choose the elements, back to front, and the instance map.

    Objects are added one by one at a random depth and kept only if every object then stays recognisable and the
    dominant one stays dominant, so a scene never shows an object that is not annotated.
    """
    side = size * SUPERSAMPLING
    elements = [_clutter(rng, side) for _ in range(rng.integers(0, level.clutter + 1))]
    dominant = _object(rng, level, side, label, reach=rng.uniform(*level.dominant), margin=0.15)
    objects = [dominant]
    elements.insert(rng.integers(0, len(elements) + 1) if rng.random() < 0.25 else len(elements), dominant)
    if not _acceptable(elements, objects, size):  # clutter hides too much
        elements = [e for e in elements if e is not dominant] + [dominant]
    for _ in range(rng.choice(len(level.numbers), p=level.numbers)):
        class_id = int(rng.integers(len(level.classes)))
        candidate = _object(rng, level, side, class_id, reach=rng.uniform(*level.others), margin=0.03)
        trial = list(elements)
        trial.insert(rng.integers(0, len(trial) + 1), candidate)
        if len(objects) < 5 and _acceptable(trial, objects + [candidate], size):
            elements = trial
            objects.append(candidate)
    return elements, _instance_map(elements, objects, size), [o.class_id for o in objects]


def _acceptable(elements, objects, size: int) -> bool:
    areas = np.bincount(_instance_map(elements, objects, size).ravel(), minlength=len(objects) + 1)[1:]
    whole = np.array([o.area for o in objects]) / SUPERSAMPLING**2
    share = np.full(len(objects), MIN_VISIBLE_SHARE)
    share[0] = MIN_VISIBLE_SHARE_DOMINANT
    return bool((areas >= share * whole).all() and (areas >= MIN_VISIBLE_AREA * size**2).all()
                and (areas[0] >= DOMINANCE * areas[1:]).all())


def _instance_map(elements, objects, size: int) -> np.ndarray:
    """Output pixels by the object that covers the largest visible share of each; 0 where none does."""
    number = {id(o): k for k, o in enumerate(objects, 1)}
    fine = np.zeros((size * SUPERSAMPLING,) * 2, np.uint8)
    for element in elements:
        fine[element.mask] = number.get(id(element), 0)
    cells = fine.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING)
    votes = np.stack([(cells == k).sum((1, 3), dtype=np.uint8) for k in range(len(objects) + 1)])
    return votes.argmax(0).astype(np.uint8)


def _object(rng, level: Level, side: int, class_id: int, reach: float, margin: float) -> _Element:
    angle = rng.uniform(-level.angle, level.angle)
    stretch, shear = np.exp(rng.uniform(-level.stretch, level.stretch)), rng.uniform(-level.shear, level.shear)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    pose = reach * turn @ np.array([[stretch, shear], [0, 1 / stretch]])
    mirrored = rng.random() < 0.5
    low = margin + 0.8 * reach if margin > 0.1 else margin
    centre = rng.uniform(low, 1 - low, 2)
    name = level.classes[class_id]
    outline = OUTLINES['square' if name in INFRARED else name]
    scale = (np.pi / _area(outline))**(level.same_area / 2)
    parts = [part * scale * ((-1, 1) if mirrored else (1, 1)) @ pose.T + centre for part in outline]
    return _Element(class_id, _fill(parts, side), _area(parts) * side**2, reach)


def _clutter(rng, side: int) -> _Element:
    """A scribble, a bunch of straight strokes or a lumpy blob: nothing that has a class."""
    kind = rng.integers(3)
    mask = np.zeros((side, side), np.uint8)
    start = rng.uniform(0, 1, 2)
    if kind == 0:
        steps = rng.normal(0, 1, (6, 2)).cumsum(0) * rng.uniform(0.06, 0.14)
        knots = start + steps
        t = np.linspace(0, 5, 60)
        path = np.stack([np.interp(t, np.arange(6), knots[:, k]) for k in range(2)], 1)
        path = np.stack([np.convolve(np.pad(path[:, k], 6, 'edge'), np.ones(13) / 13, 'valid') for k in range(2)], 1)
        _stroke(mask, path, rng.uniform(0.012, 0.03))
    elif kind == 1:
        angle, gap = rng.uniform(0, np.pi), rng.uniform(0.04, 0.08)
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        for k in range(rng.integers(1, 5)):
            ends = np.array([-1, 1])[:, None] * along * rng.uniform(0.05, 0.2) + start + k * gap * across
            _stroke(mask, ends, 0.016)
    else:
        angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        # Elongated and rippled: with waves 3 and 4 instead it would now and then pass for a heart or a star.
        radius = 1 + sum(a * np.sin(k * angle + rng.uniform(0, 7)) for k, a in ((2, 0.35), (5, 0.15), (7, 0.12)))
        points = np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None] * rng.uniform(0.03, 0.11)
        mask = _fill([points + start], side)
    return _Element(-1, mask.astype(bool), float(mask.sum()), 0.06)


_SHIFT = 4  # cv2 takes points in 1/16 of a pixel


def _fixed_point(points, side: int) -> np.ndarray:
    return np.round((np.asarray(points) * side - 0.5) * 2**_SHIFT).astype(np.int32)


def _fill(parts, side: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [_fixed_point(part, side) for part in parts], 1, shift=_SHIFT)
    return mask.astype(bool)


def _stroke(mask: np.ndarray, path: np.ndarray, width: float) -> None:
    side = len(mask)
    cv2.polylines(mask, [_fixed_point(path, side)], False, 1, max(1, round(width * side)), shift=_SHIFT)


# ---------------------------------------------------------------------------------------------------------------------
# Surfaces and light
# ---------------------------------------------------------------------------------------------------------------------
def _grid(side: int, box):
    """Coordinates of the pixel centres of box (x0, y0, x1, y1) as float32 x (1, W) and y (H, 1), in image sides."""
    x0, y0, x1, y1 = box
    x = (np.arange(x0, x1, dtype=np.float32) + 0.5) / side
    y = (np.arange(y0, y1, dtype=np.float32) + 0.5) / side
    return x[None, :], y[:, None]


def _random_colour(rng, value: Range) -> np.ndarray:
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.1, 0.95), rng.uniform(*value)
    ramp = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * (1 - ramp))


class _Surface:
    """Two colours mixed by a texture.

    Args:
        rng (np.random.Generator): Source of all choices.
        period (tuple): Range of the texture's period, a fraction of the image side.
        contrast (tuple): Range of the share of the second colour, 0 to 1.
        value (tuple): Range of the brightness of both.
        unlike (np.ndarray, optional): RGB colour that the mean colour must differ from, so that outlines show.
        distance (float): By how much, as a Euclidean distance. Defaults to 0.
        lighter (float): By how much its luminance is higher, at least. Defaults to -1: it may be lower.
    """

    def __init__(self, rng, period, contrast, value, unlike=None, distance=0., lighter=-1.):
        contrast = rng.uniform(*contrast)
        for _ in range(20):
            self.first, second = _random_colour(rng, value), _random_colour(rng, value)
            self.second = self.first + contrast * (second - self.first)
            self.colour = (self.first + self.second) / 2
            if unlike is None:
                break
            difference = self.colour - unlike
            if np.linalg.norm(difference) > distance and LUMINANCE @ difference > lighter:
                break
        self.texture = rng.choice(['stripes', 'checks', 'dots', 'waves', 'noise', 'gradient', 'plain'])
        self.period = np.exp(rng.uniform(*np.log(period)))
        self.angle = rng.uniform(0, np.pi)
        self.phase = rng.uniform(0, 1, 2).astype(np.float32)
        self.duty = rng.uniform(-0.3, 0.3)
        self.lattice = rng.random((16, 16), np.float32)  # of the value noise
        self.grain = rng.uniform(0.02, 0.08)

    def paint(self, grid) -> np.ndarray:
        """Colours (H, W, 3), float32, of the pixels at `grid`."""
        x, y = grid
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        u = (c * x + s * y) / np.float32(self.period) + self.phase[0]
        v = (c * y - s * x) / np.float32(self.period) + self.phase[1]
        mix = getattr(self, f'_{self.texture}')(u, v)
        mix = mix + np.float32(self.grain) * (self._noise(4 * u, 4 * v) - np.float32(0.5))
        colour = np.empty(mix.shape + (3,), np.float32)
        for channel in range(3):
            first, second = self.first[channel], self.second[channel]
            np.multiply(mix, np.float32(second - first), out=colour[..., channel])
            colour[..., channel] += np.float32(first)
        return colour

    def _step(self, wave):
        return np.clip(0.5 + 4 * (wave + np.float32(self.duty)), 0, 1)

    def _stripes(self, u, v):
        return self._step(np.sin(2 * np.pi * u))

    def _checks(self, u, v):
        return np.clip(0.5 + 4 * np.sin(np.pi * u) * np.sin(np.pi * v), 0, 1)

    def _dots(self, u, v):
        return self._step(np.cos(2 * np.pi * u) + np.cos(2 * np.pi * v) - 0.8)

    def _waves(self, u, v):
        return self._step(np.sin(2 * np.pi * u + 1.5 * np.sin(2.2 * v)))

    def _noise(self, u, v):
        return cv2.remap(self.lattice, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)

    def _gradient(self, u, v):
        return 0.5 + 0.5 * np.sin(u * np.float32(2 * self.period / 0.3))

    def _plain(self, u, v):
        return 0.3 * self._noise(u / 2, v / 2)


def _draw(rng, level: Level, canvas: np.ndarray, element: _Element, background_colour, light: float) -> None:
    """Paint an element's shadow and surface onto the canvas (in place)."""
    side = len(canvas)
    surface = _Surface(rng, (0.045, 0.13), level.surface, level.light, background_colour, level.unlike, level.lighter)
    relief, shadow, outlined = rng.uniform(0, 1), rng.uniform(0, 0.6), rng.random() < 0.25
    rows, columns = np.flatnonzero(element.mask.any(1)), np.flatnonzero(element.mask.any(0))
    if not len(rows):
        return  # clutter beyond the frame
    throw = 0.03 if element.class_id >= 0 else 0.012  # how far the shadow falls
    margin = int(3 * throw * side)
    x0, y0 = max(columns[0] - margin, 0), max(rows[0] - margin, 0)
    x1, y1 = min(columns[-1] + 1 + margin, side), min(rows[-1] + 1 + margin, side)
    window = (slice(y0, y1), slice(x0, x1))
    mask = element.mask[window]
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), throw * side / 2)
    # Light comes from the direction `light`, shadows fall the other way.
    offset = np.array([[1, 0, -np.cos(light) * throw * side], [0, 1, -np.sin(light) * throw * side]], np.float32)
    fallen = cv2.warpAffine(soft, offset, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE)
    patch = canvas[window]
    patch *= (1 - np.float32(shadow) * fallen)[..., None]

    colour = surface.paint(_grid(side, (x0, y0, x1, y1)))
    slope = (np.float32(np.cos(light)) * cv2.Sobel(soft, -1, 1, 0)
             + np.float32(np.sin(light)) * cv2.Sobel(soft, -1, 0, 1))
    # The blurred mask rises inwards: the rim that faces the light has a slope against the light's direction.
    colour *= (1 - np.float32(relief * throw * side * 0.12) * slope)[..., None]
    if outlined:
        kernel = np.ones((3, 3), np.uint8)
        inner = cv2.erode(mask.astype(np.uint8), kernel, iterations=max(1, round(0.006 * side)))
        colour[inner == 0] *= 0.35
    np.copyto(patch, colour, where=mask[..., None])


def _expose(rng, level: Level, image: np.ndarray, light: float) -> np.ndarray:
    """Uneven light, a soft cast shadow, colour cast, blur and noise; float RGB (S, S, 3) to the same."""
    size = len(image)
    x, y = _grid(size, (0, 0, size, size))
    slope = rng.uniform(0, level.slope)
    shade = 1 + np.float32(slope) * ((x - 0.5) * np.float32(np.cos(light)) + (y - 0.5) * np.float32(np.sin(light)))
    if rng.random() < level.shadow:  # the shadow of something outside of the picture
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3)
        distance = (x - 0.5) * np.float32(np.cos(angle)) + (y - 0.5) * np.float32(np.sin(angle)) - np.float32(place)
        shade = shade * (1 - np.float32(rng.uniform(0.15, 0.4)) * np.clip(0.5 + 20 * distance, 0, 1))
    image = image * shade[..., None] * (rng.uniform(0.85, 1.1) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.8) * size / 128)
    noise = np.float32(rng.uniform(0, level.noise)) * rng.standard_normal((size, size, 3), np.float32)
    return image + noise
