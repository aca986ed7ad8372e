"""The page on messages quotes what the code says, so it cannot go stale."""
import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS, LIBRARIES = (ROOT / 'docs/troubleshooting.md').read_text().split('## What the libraries say')
MESSAGES = [quoted for row in re.findall(r'^\| (`.*?) \| ', OURS, re.MULTILINE) for quoted in re.findall('`([^`]+)`', row)]


@cache
def said():
    """str: All texts in the code, each on a line of its own, with … for what is put into them."""
    texts = []
    for path in (ROOT / 'coma_mm').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append(''.join(part.value if isinstance(part, ast.Constant) else '…' for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return '\n'.join(text.replace('\n', ' ') for text in texts)


def test_there_are_25_messages_or_more():
    assert len(re.findall(r'^\| `', OURS + LIBRARIES, re.MULTILINE)) >= 25


@pytest.mark.parametrize('message', MESSAGES)
def test_a_message_of_ours_is_in_the_code(message):
    parts = [part for part in message.split('…') if len(part.strip(' :;,.()=?')) > 3]
    assert parts and [part for part in parts if part.rstrip() not in said()] == []
