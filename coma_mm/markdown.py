"""Tables in Markdown, and pages that hold them."""
import re

from coma_mm.errors import UserError


def markdown_table(header, rows, numbers=0, aligned=False):
    """A table in Markdown.

    Args:
        header (list[str]): Titles of the columns.
        rows (list[list[str]]): Cells.
        numbers (int): How many of the last columns hold numbers, which are aligned at the right. Defaults to 0.
        aligned (bool): Pad the cells, for a terminal. Defaults to False.

    Returns:
        str: Its lines.
    """
    texts = len(header) - numbers
    rule = ['---'] * texts + ['---:'] * numbers
    lines = [header, rule, *rows]
    if aligned:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines = [[cell.ljust(width, fill) if i < texts else cell.rjust(width, fill)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True))]
                 for line, fill in zip(lines, [' ', '-'] + [' '] * len(rows), strict=True)]
    return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def fill(page, mark, parts):
    """Renew what stands between `<!-- MARK:NAME -->` and `<!-- /MARK -->` in a page.

    Args:
        page (str): The page.
        mark (str): MARK.
        parts (dict[str, str]): What belongs there, by NAME.

    Returns:
        str: The page.

    Raises:
        UserError: If there is no part of that name.
    """

    def renew(match):
        if match[1] not in parts:
            raise UserError(f'no part {match[1]!r} for a marker <!-- {mark}:… -->; expected one of {", ".join(parts)}')
        return f'<!-- {mark}:{match[1]} -->\n{parts[match[1]]}<!-- /{mark} -->'

    return re.sub(rf'<!-- {mark}:([\w-]+) -->\n.*?<!-- /{mark} -->', renew, page, flags=re.DOTALL)
