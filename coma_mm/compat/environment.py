"""Environment variables in configs, `{{$NAME:default}}`, as values, never as code."""
import ast
import io
import os
import re
import tokenize

from coma_mm.errors import UserError, printable

REFERENCE = re.compile(r"""\{\{['"]?\s*\$(\w+)\s*:\s*(\S*?)\s*['"]?\}\}""")
"""mmengine's, by which its documentation writes them."""


def substitute(text: str, filename: str) -> tuple[str, dict[str, str]]:
    """Put the values of environment variables into the text of a config.

    Inside of a text in quotes a value is that text, whatever is in it: quotes, backslashes, braces, new lines. Elsewhere it
    must be a literal of Python: a number, True, None, a text in quotes, or a list of them. A default is part of the
    config, and put in as it is written; a variable that is set to nothing (`PRETRAINED=`) stands for it too.

    Args:
        text (str): Of a config, one that others are based on included.
        filename (str): By whose suffix it is Python, or JSON or YAML.

    Returns:
        tuple[str, dict[str, str]]: The text, and the values that it took from the environment.

    Raises:
        UserError: If a variable is not set and has no default, or its value fits its place as no literal does.
    """
    marks, used = {}, {}

    def mark(match: re.Match) -> str:
        name, default = match.groups()
        if not (os.environ.get(name) or default):
            raise UserError(f'the environment variable {name} is not set, and the config has no default for it; set it')
        if not os.environ.get(name):
            return default
        used[name] = os.environ[name]
        word = f'_environment_{len(marks)}_'
        while word in text:
            word += '_'
        marks[word] = name
        return word

    marked = REFERENCE.sub(mark, text)
    if not marks:
        return marked, used
    return (_into_code(marked, marks) if filename.endswith('.py') else _into_data(marked, marks)), used


def _into_code(text: str, marks: dict[str, str]) -> str:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):  # it is no Python, as whoever reads it next will say
        return text
    lines = io.StringIO(text).readlines()
    for token in reversed(tokens):
        (first, begin), (last, end) = token.start, token.end
        names = {word: name for word, name in marks.items() if word in token.string}
        if not names or token.type == tokenize.COMMENT:
            continue
        if token.type == tokenize.STRING:
            new = _text(token.string, names)
        elif token.string in names:
            new = _literal(names[token.string])
        else:  # a part of a longer name, or of a text that holds expressions
            raise _refused(next(iter(names.values())), 'to find it as a value of its own, or in plain quotes')
        lines[first - 1:last] = [lines[first - 1][:begin] + new + lines[last - 1][end:]]
    return ''.join(lines)


def _text(literal: str, names: dict[str, str]) -> str:
    """A text in quotes with values in it."""
    prefix = re.match(r'\w*', literal)[0].lower()
    if prefix not in ('', 'u', 'r'):
        raise _refused(next(iter(names.values())), f'to find it in plain quotes, without {prefix} before them')
    new = repr(ast.literal_eval(literal))
    for word, name in names.items():
        # What could end the quotes, or be more than a letter, by its number.
        new = new.replace(word, re.sub(r'[^\w./ -]', lambda match: f'\\U{ord(match[0]):08x}', os.environ[name], flags=re.A))
    return new[:-1] + '\\\n' * literal.count('\n') + new[-1]  # as many lines, for messages about those that follow


def _literal(name: str) -> str:
    try:
        value = repr(ast.literal_eval(os.environ[name].strip()))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise _refused(name, 'a literal of Python there, such as 8, True or [1, 2]') from None
    return value.replace('{{', r'{\x7b')  # in a text; in code there are no two of them


def _into_data(text: str, marks: dict[str, str]) -> str:
    for word, name in marks.items():
        if not re.fullmatch(r'[\w./~+-]*', os.environ[name]):
            raise _refused(name, 'letters, digits and ./~+- alone, unless it is a .py file')
        text = text.replace(word, os.environ[name])
    return text


def _refused(name: str, expected: str) -> UserError:
    value = printable(f'{os.environ[name][:200]!r}')
    return UserError(f'the environment variable {name} is {value}; the config expects {expected}')
