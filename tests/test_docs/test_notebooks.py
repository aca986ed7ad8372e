"""The notebooks run as they are, from their first cell to their last."""
import os
from pathlib import Path

import pytest

from coma_mm.files import CHECKOUT

nbformat = pytest.importorskip('nbformat')
NotebookClient = pytest.importorskip('nbclient').NotebookClient
NOTEBOOKS = sorted((CHECKOUT / 'docs/notebooks').glob('*.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    (tmp_path / 'coma-mm').write_text(f'#!/bin/sh\nexec "{os.sys.executable}" -m coma_mm "$@"\n')
    (tmp_path / 'coma-mm').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('PYTHONPATH', str(CHECKOUT))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name='python3', resources=dict(metadata=dict(path=str(tmp_path)))).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == 'code' for output in cell.outputs]
    assert any('image/png' in output.get('data', {}) for output in outputs)
    assert not [output for output in outputs if 'rror' in output.get('text', '')]
    if out := os.environ.get('COMA_MM_NOTEBOOKS'):  # to be looked at, and committed with its pictures
        nbformat.write(notebook, Path(out, path.name))


def test_there_are_some():
    assert len(NOTEBOOKS) == 2
