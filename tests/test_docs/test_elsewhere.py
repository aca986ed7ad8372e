"""The examples of docs/elsewhere.md are run as they stand there, and print what stands below them."""
import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from coma_mm.models import DyViT

PAGE = Path(__file__).resolve().parents[2] / 'docs/elsewhere.md'


def test_the_examples_print_what_the_page_says(tmp_path, monkeypatch):
    pytest.importorskip('segmentation_models_pytorch', reason="needs the extra 'test'")
    monkeypatch.chdir(tmp_path)
    save_file(DyViT('tiny', out_indices=(0, 1, 2, 3)).state_dict(), 'dyvit-tiny.safetensors')
    blocks = re.findall(r'^```python\n(.*?)^```\n\n```text\n(.*?)^```$', PAGE.read_text(encoding='utf-8'),
                        re.MULTILINE | re.DOTALL)
    assert len(blocks) == PAGE.read_text(encoding='utf-8').count('```python') == 3
    names = {}
    torch.manual_seed(0)
    for code, expected in blocks:
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        lines = printed.getvalue().splitlines(keepends=True)
        assert ''.join(line for line in lines if ' - mmengine - INFO - ' not in line) == expected
