#!/usr/bin/env python
"""The same as `coma-mm small_study`, without an installation."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.commands import main  # noqa: E402

if __name__ == '__main__':
    main('small_study')
