"""HTML pages of one file, from templates."""
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2

from coma_mm.errors import printable
from coma_mm.files import write_whole


def write_page(path: str | Path, template: str, package: str = 'coma_mm.visualization',
               filters: dict[str, Callable] | None = None, **values: Any) -> None:
    """Write a page; what is put into the template is text, whatever a file's name or content brought into it.

    Args:
        path (str | Path): Where to; its folder is made. Replaced whole or not at all.
        template (str): Name of the template.
        package (str): Whose folder `templates` has it. Defaults to this one.
        filters (dict[str, Callable], optional): Of the template, by their names. Defaults to jinja's own.
        **values: What the template shows.
    """
    env = jinja2.Environment(
        loader=jinja2.PackageLoader(package), autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=_visible,
        undefined=jinja2.StrictUndefined)
    env.filters.update(filters or {})
    html = env.get_template(template).render(values)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, html)


def _visible(value: Any) -> Any:
    """A text without what is no text in a page: control characters, and those that turn the direction of writing."""
    if not isinstance(value, str) or hasattr(value, '__html__'):
        return value
    return re.sub('[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]',
                  lambda match: printable(match[0]), value)
