"""Weights that come with the package, by name; cards beside them say what they were trained on, and how well."""
from pathlib import Path

FOLDER = Path(__file__).parent


def list_models() -> dict[str, str]:
    """What weights come with the package.

    Returns:
        dict[str, str]: By name what they are, in one line, from their card. `coma_mm.load` takes the names of classifiers,
        segmentors and detectors, `coma_mm.load_backbone` all of them.
    """
    cards = {path.stem: Path(f'{path}.md') for path in sorted(FOLDER.glob('*.safetensors'))}
    return {name: card.read_text(encoding='utf-8').splitlines()[2] for name, card in cards.items()}


def released(source: str) -> str:
    """The file of released weights of a name; any other text as it is."""
    path = FOLDER / f'{source}.safetensors'
    return str(path) if source and '/' not in source and path.is_file() else source
