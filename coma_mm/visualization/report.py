"""One self-contained HTML file that reports what was run and what came out: text, tables that sort, pictures."""
import base64
import io
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from .pages import write_page

PNG_LIMIT = 400_000  # bytes; larger pictures are embedded as JPEG
DPI = 160
PX_PER_INCH = 130  # of a figure, in CSS px: its text is as large as the page's


@dataclass
class Picture:
    """A picture of the report.

    Args:
        image (Figure | str | Path): A figure of matplotlib, or an image file.
        caption (str): What one sees.
        alt (str): The same in short, for those who do not see it.
        min_width (int): In CSS px; narrower screens scroll the picture sideways. Defaults to 0.
    """
    image: Figure | str | Path
    caption: str
    alt: str
    min_width: int = 0


@dataclass
class Cell:
    """A cell of a table, where text alone is not enough.

    Args:
        text (str): Defaults to ''.
        links (dict[str, str]): Addresses by the words that link to them, after the text; relative to the report, or of a
            place in it ('#run-1'). Defaults to none.
        order (float, optional): What it is sorted by, where that is not the text or the number that it begins with.
    """
    text: str = ''
    links: dict[str, str] = field(default_factory=dict)
    order: float | None = None


@dataclass
class Table:
    """A table, which the reader sorts by a column's head.

    Args:
        columns (list[str]): Heads.
        rows (list[list[str | Cell]]): The first cell of a row names it.
        title (str): A heading above it. Defaults to ''.
        name (str): 'table2' and so on; its rows are the places '#table2-1' and so on. Defaults to ''.
        numbers (int | Collection[int]): How many of the last columns hold numbers, or which columns. Defaults to 0.
        notes (list[str]): What a reader of it must know. Defaults to none.
        bold (set[tuple[int, int]]): Row and column of cells that stand out. Defaults to none.
        code (str): The column with commands. Defaults to ''.
    """
    columns: list[str]
    rows: list[list[str | Cell]]
    title: str = ''
    name: str = ''
    numbers: int | Collection[int] = 0
    notes: list[str] = field(default_factory=list)
    bold: set = field(default_factory=set)
    code: str = ''


@dataclass
class Section:
    """A part of a report: a heading, then what there is of the rest, in this order.

    Args:
        title (str): The heading.
        text (str): Sentences. Defaults to none.
        tables (list[Table]): Defaults to none.
        facts (dict[str, str]): By their names. Defaults to none.
        pictures (list[Picture]): Defaults to none.
        notes (list[str]): Under the pictures. Defaults to none.
        folded (bool): Whether no more than the heading is seen until it is clicked. Defaults to False.
    """
    title: str
    text: str = ''
    tables: list[Table] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folded: bool = False


def write_report(path: str | Path, title: str, summary: str, sections: list[Section]) -> None:
    """Write the report: one HTML file with everything in it, to be opened without a network.

    Args:
        path (str | Path): Where to; its folder is made. Replaced whole or not at all.
        title (str): Heading.
        summary (str): What was done and what came out, in plain words; an empty line separates paragraphs.
        sections (list[Section]): The rest; their titles are the table of contents.
    """
    filters = dict(cell=_cell, data_uri=_data_uri, width=_width, paragraphs=_paragraphs, slug=_slug)
    write_page(path, 'report.html.j2', filters=filters, title=title, summary=summary, sections=sections)


def _cell(cell: str | Cell) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)


def _slug(title: str) -> str:
    """A title as the name of a place in the page."""
    return re.sub(r'\W+', '-', title.lower()).strip('-') or 'part'


def _width(image: Figure | str | Path) -> int:
    """What a picture is shown at most, in CSS px."""
    if isinstance(image, Figure):
        return round(PX_PER_INCH * image.get_figwidth())
    with Image.open(image) as picture:
        return picture.width


def _data_uri(image: Figure | str | Path) -> str:
    """A picture as a data: address, PNG where that is small, JPEG where it is not."""
    buffer = io.BytesIO()
    if isinstance(image, Figure):
        image.savefig(buffer, format='png', dpi=DPI, facecolor='white')
        buffer.seek(0)
        image = buffer
    png, jpeg = io.BytesIO(), io.BytesIO()
    with Image.open(image) as picture:
        picture = picture.convert('RGB')
    picture.save(png, 'PNG', optimize=True)
    if png.tell() <= PNG_LIMIT:
        return f'data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}'
    picture.save(jpeg, 'JPEG', quality=85, optimize=True)
    return f'data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}'


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split('\n\n') if part.strip()]
