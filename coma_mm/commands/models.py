"""List the weights that come with the package; `predict`, `export` and `coma_mm.load` take their names."""
import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace) -> None:
    """List them."""
    from coma_mm.weights.released import list_models
    found = list_models()
    width = max(map(len, found), default=0)
    for name, what in found.items():
        print(f'{name:{width}}  {what}')
