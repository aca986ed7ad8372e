#!/usr/bin/env python
"""Write docs/recipes.md from the configs and docs/recipes.yaml."""
import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from mmengine.logging import MMLogger  # noqa: E402

from coma_mm.benchmark.paper import recipes  # noqa: E402
from coma_mm.engine import cli  # noqa: E402
from coma_mm.errors import UserError  # noqa: E402


def main():
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='only see whether it is up to date; exit code 2 if not')
    check = parser.parse_args().check
    # What building a model or a pipeline has to say is not about this page.
    MMLogger.get_current_instance().setLevel('ERROR')
    warnings.simplefilter('ignore')
    text = recipes.page()
    if not check:
        recipes.PAGE.write_text(text)
    elif not recipes.PAGE.exists() or recipes.PAGE.read_text() != text:
        raise UserError('docs/recipes.md is out of date; run python tools/make_recipes.py')


if __name__ == '__main__':
    cli.main(main)
