"""What was found in an image, on the image."""
import colorsys
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from coma_mm.visualization.style import CLASS_COLORS, class_colors, text_color

from .results import CutMask, class_name

THUMBNAIL = 720
"""Px of the longer side of a picture in the gallery."""
Color = tuple[int, int, int]


def colors_of(classes: Sequence[str] | None, palette: Sequence[Sequence[int]] | None, number: int = 0) -> list[Color]:
    """A colour for each class, RGB from 0 to 255.

    Args:
        classes (Sequence[str] | None): Their names.
        palette (Sequence[Sequence[int]] | None): The data set's own colours, which go first.
        number (int): How many classes there are, if they have no names. Defaults to 0.

    Returns:
        list[tuple[int, int, int]]: One for each.
    """
    if palette:
        return [tuple(color) for color in palette]
    names = list(classes or map(str, range(number)))
    if len(names) <= len(CLASS_COLORS):
        chosen = class_colors(tuple(names))
    else:  # hues by the golden ratio: neighbours are far apart
        chosen = [colorsys.hsv_to_rgb(label * .618034 % 1, (.85, .55)[label // 2 % 2], (.9, .65)[label % 2])
                  for label in range(len(names))]
    return [tuple(round(255 * value) for value in color) for color in chosen]


def css(color: Color) -> str:
    """A colour as style sheets have it."""
    return '#{:02x}{:02x}{:02x}'.format(*color)


def thumbnail(image: np.ndarray, side: int = THUMBNAIL, quality: int = 82) -> tuple[bytes, tuple[int, int]]:
    """A small JPEG of an image (H, W, 3), BGR, of `side` px at its longer side at most, and its width and height."""
    height, width = image.shape[:2]
    scale = min(1, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    return jpeg(small, quality), size


def jpeg(image: np.ndarray, quality: int = 92) -> bytes:
    """An image (H, W, 3), BGR, as a JPEG file."""
    return cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def map_png(labels: np.ndarray, colors: Sequence[Color], size: tuple[int, int] | None = None,
            transparent: int | None = None) -> bytes:
    """A map of classes as a PNG file: with the palette, or of 16 bits without one.

    Args:
        labels (ndarray): (H, W), uint8 or uint16.
        colors (Sequence[tuple]): Of the classes. What is of none is white.
        size (tuple[int, int], optional): Width and height to scale it to, in px; it is then a picture for a page, where
            16 bits are shown in colour, too. Defaults to its own.
        transparent (int, optional): The label of what is seen through, of an uint8 map. Defaults to none.

    Returns:
        bytes: The file.
    """
    if size:
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    if labels.dtype == np.uint8:
        picture = Image.fromarray(labels, 'L').convert('L')
        table = np.full((256, 3), 255, np.uint8)
        table[:len(colors)] = colors[:len(table)]
        picture.putpalette(table.tobytes())
    elif size:
        table = np.array([*colors, (255, 255, 255)], np.uint8)
        picture = Image.fromarray(table[np.minimum(labels, len(colors))])
    else:
        picture = Image.fromarray(labels)
    file = io.BytesIO()
    picture.save(file, 'PNG', optimize=bool(size), **({} if transparent is None else dict(transparency=transparent)))
    return file.getvalue()


def outline(mask: CutMask, scale: float) -> str:
    """The outline of a mask as the path of an SVG drawing.

    Args:
        mask (CutMask): The mask.
        scale (float): Of the drawing, by which the image is smaller.

    Returns:
        str: 'M1,2 3,4 …Z', without parts of a few px; '' for nothing.
    """
    if not mask.part.size:
        return ''
    height, width = mask.part.shape
    fine = min(1., 2 * scale)  # than the drawing: its lines are no steps
    small = cv2.resize(mask.part.astype(np.uint8), (max(1, round(width * fine)), max(1, round(height * fine))),
                       interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(small, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, .8, True)[:, 0]
        if len(points) > 2:
            points = (points + .5) * scale / fine + np.array([mask.left, mask.top]) * scale
            parts.append('M' + ' '.join(f'{x:.4g},{y:.4g}' for x, y in points.tolist()) + 'Z')
    return ''.join(parts)


def overlay(image: np.ndarray, record: Mapping[str, Any], labels: np.ndarray | None, classes: Sequence[str] | None,
            colors: Sequence[Color]) -> np.ndarray:
    """Draw what was found on an image.

    Args:
        image (ndarray): uint8 (H, W, 3), BGR; it is left as it is.
        record (Mapping): What was found: 'scores', 'shares' or 'objects'.
        labels (ndarray | None): The map of classes, if there is one.
        classes (Sequence[str] | None): Their names.
        colors (Sequence[tuple]): Their colours.

    Returns:
        ndarray: Of the same kind.
    """
    image = image.copy()
    if labels is not None:
        for label in np.unique(labels).tolist():
            if label < len(colors):
                _tint(image, labels == label, colors[label], .5)
        return image
    if 'scores' in record:
        lines = [f'{name}  {score:.1%}' for name, score in record['scores'].items()][:5]
        return _write(image, [((0, 0), line, (20, 26, 32), number) for number, line in enumerate(lines)])
    texts = []
    line = min(5, max(1, round(min(image.shape[:2]) / 300)))
    for found in reversed(record['objects']):  # the most certain last, on top
        color = colors[found['label'] % len(colors)]
        if 'mask' in found:
            y, x, part = found['mask']
            _tint(image[y:y + part.shape[0], x:x + part.shape[1]], part, color, .4)
        left, top, width, height = found['bbox']
        cv2.rectangle(image, (round(left), round(top)), (round(left + width), round(top + height)), color[::-1], line)
        texts.append(((round(left), round(top)), f'{class_name(classes, found["label"])} {found["score"]:.2f}', color, -1))
    return _write(image, texts)


def _tint(image: np.ndarray, mask: np.ndarray, color: Color, share: float) -> None:
    """Mix a colour into the masked pixels, in place; band by band, as of a large image floats would be too many."""
    for top in range(0, len(image), 1024):
        where = mask[top:top + 1024]
        if where.any():
            band = image[top:top + 1024]
            band[where] = (band[where] * (1 - share) + np.array(color[::-1]) * share).astype(np.uint8)


def _write(image: np.ndarray, texts: Sequence[tuple[tuple[int, int], str, Color, int]]) -> np.ndarray:
    """Write texts on coloured ground: above a place (number -1), or in lines from the corner on."""
    picture = Image.fromarray(image[..., ::-1])
    draw = ImageDraw.Draw(picture)
    size = min(30, max(9, round(min(image.shape[:2]) / 32)))  # in a large image objects are small
    font, pad = _font(size), max(1, size // 5)
    for (x, y), text, color, number in texts:
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        height = bottom - top + 2 * pad
        y = max(0, y - height) if number < 0 else y + number * (size + 2 * pad)
        x = max(0, min(x, image.shape[1] - (right - left) - 2 * pad))
        draw.rectangle((x, y, x + right - left + 2 * pad, y + height), color)
        draw.text((x + pad - left, y + pad - top), text, text_color(tuple(value / 255 for value in color)), font)
    return np.ascontiguousarray(np.asarray(picture)[..., ::-1])


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), 'fonts/ttf/DejaVuSans.ttf'), size)
