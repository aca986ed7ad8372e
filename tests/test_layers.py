"""The house has floors: a module imports from its own floor or a lower one (see CONTRIBUTING.md)."""
import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / 'coma_mm'
LAYERS = (
    ('errors', 'files', 'locks', 'markdown', 'config_tree', 'progress', 'processes', 'notices', 'program', 'ranges',
     'compat', 'version'),
    ('datasets', ),
    ('config', 'prepare'),
    ('weights', 'runs'),
    ('models', 'engine'),
    ('evaluation', 'visualization', 'inference'),
    ('benchmark', ),
    ('commands', 'api', '__main__'),
)
"""From the ground up; the package's own `__init__`, which registers everything, stands with those at the top."""
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}


def imports(path):
    """Iterator[tuple]: The modules of the package that a file names in its imports, and the line."""
    own = ['coma_mm', *path.relative_to(PACKAGE).with_suffix('').parts]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = '.'.join(own[:-node.level]) if node.level else ''
            module = '.'.join(filter(None, [above, node.module]))
            found = [f'{module}.{alias.name}' for alias in node.names]
        else:
            continue
        yield from ((name.split('.'), node.lineno) for name in found if name.split('.')[0] == 'coma_mm')


def test_no_import_runs_upward():
    wrong = []
    for path in sorted(PACKAGE.rglob('*.py')):
        own = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
        if own == '__init__':
            continue
        for name, line in imports(path):
            floor = FLOOR.get(name[1], len(LAYERS)) if len(name) > 1 else len(LAYERS) - 1
            if floor > FLOOR[own]:
                wrong.append(f'{path.relative_to(PACKAGE.parent)}:{line} imports {".".join(name)}')
    assert not wrong, '\n'.join(wrong)


def test_every_room_has_a_floor():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == '.py' or (path / '__init__.py').is_file()}
    assert rooms - {'__init__'} <= FLOOR.keys()
