"""Write docs/recipes.md from the configs and docs/recipes.yaml."""
import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('--check', action='store_true', help='only see whether it is up to date; exit code 2 if not')


def run(args: argparse.Namespace) -> None:
    """Write the page, or check it."""
    import warnings

    from mmengine.logging import MMLogger

    from coma_mm.benchmark.paper import recipes
    from coma_mm.errors import UserError

    # What building a model or a pipeline has to say is not about this page.
    MMLogger.get_current_instance().setLevel('ERROR')
    warnings.simplefilter('ignore')
    text = recipes.page()
    if not args.check:
        recipes.PAGE.write_text(text)
    elif not recipes.PAGE.exists() or recipes.PAGE.read_text() != text:
        raise UserError('docs/recipes.md is out of date; run python tools/make_recipes.py')
