"""Tables in Markdown, and pages that hold them."""
import re

from coma_mm.errors import choice, printable


def markdown_table(header: list[str], rows: list[list[str]], numbers: int = 0, aligned: bool = False) -> str:
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


def escaped(text: str) -> str:
    """A text from a file, say, as one in Markdown: in one line, and without HTML, code, links or the end of a cell."""
    return re.sub(r'[`<|]|(?<=\])[(:]', r'\\\g<0>', printable(text))


def code(text: str) -> str:
    """A text as code in Markdown, also one with backticks."""
    text = printable(text)
    fence = '`' * (1 + max(map(len, re.findall('`+', text)), default=0))
    return f'{fence} {text} {fence}' if '`' in text else f'{fence}{text}{fence}'


def fill(page: str, mark: str, parts: dict[str, str]) -> str:
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

    def renew(match: re.Match) -> str:
        part = choice(f'the part in a marker <!-- {mark}:PART -->', match[1], parts)
        return f'<!-- {mark}:{part} -->\n{parts[part]}<!-- /{mark} -->'

    return re.sub(rf'<!-- {mark}:([\w-]+) -->\n.*?<!-- /{mark} -->', renew, page, flags=re.DOTALL)
