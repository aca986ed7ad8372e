"""The Python examples of some pages are run as they stand there, and print what stands below them."""
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from coma_mm.models import DyViT
from tests.helpers.keys import make_keys

DOCS = Path(__file__).resolve().parents[2] / 'docs'
BLOCK = re.compile(r'^```python\n(.*?)^```\n\n```text\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, in which a file with weights is."""
    monkeypatch.chdir(tmp_path)
    save_file(DyViT('tiny', out_indices=(0, 1, 2, 3)).state_dict(), 'dyvit-tiny.safetensors')
    return tmp_path


def check_examples(page):
    """Run the examples of a page, one after the other, as one program."""
    text = (DOCS / page).read_text(encoding='utf-8')
    blocks = BLOCK.findall(text)
    assert len(blocks) == text.count('```python')
    names = {}
    torch.manual_seed(0)
    for code, expected in blocks:
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        lines = printed.getvalue().splitlines(keepends=True)
        assert ''.join(line for line in lines if ' - mmengine - INFO - ' not in line) == expected


def test_elsewhere(folder):
    pytest.importorskip('segmentation_models_pytorch', reason="needs the extra 'test'")
    check_examples('elsewhere.md')


def test_signing(folder):
    pytest.importorskip('model_signing', reason="needs the extra 'signing'")
    private, public = make_keys(folder)
    private.rename('key.pem')
    public.rename('public.pem')
    check_examples('signing.md')
