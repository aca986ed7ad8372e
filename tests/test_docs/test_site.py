"""The documentation is a site: every page, every link between them and every name of the reference is there."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip('mkdocs', reason="needs the extra 'docs'")
    built = subprocess.run([sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', tmp_path], cwd=ROOT,
                           env={**os.environ, 'NO_MKDOCS_2_WARNING': '1'}, text=True, capture_output=True)
    assert built.returncode == 0, built.stderr[-3000:]
    for page in ('index.html', 'extend/index.html', 'search/search_index.json'):
        assert (tmp_path / page).is_file()
    assert 'knn_accuracy' in (tmp_path / 'api/evaluation/index.html').read_text()
