"""What the packages offer is what their `__all__` says, and it is documented."""
import importlib
import inspect
import re
from types import ModuleType

import pytest

PACKAGES = ('datasets', 'engine', 'evaluation', 'inference', 'visualization')


@pytest.fixture(params=PACKAGES)
def package(request):
    return importlib.import_module(f'coma_mm.{request.param}')


def test_all_is_exactly_what_can_be_imported(package):
    names = [name for name, value in vars(package).items() if not name.startswith('_') and not isinstance(value, ModuleType)]
    assert sorted(package.__all__) == sorted(names)


def test_what_is_offered_says_what_it_takes_and_gives(package):
    for name in package.__all__:
        offered = getattr(package, name)
        text = inspect.getdoc(offered)
        assert offered.__doc__ and callable(offered), name
        if inspect.isclass(offered) and '__init__' not in vars(offered):  # the parent's arguments
            continue
        signature = inspect.signature(offered)
        if signature.parameters:
            assert re.search(r'^(Args|Attributes):$', text, re.MULTILINE), name
            if not inspect.isclass(offered) and signature.return_annotation is not None:
                assert re.search(r'^Returns:$', text, re.MULTILINE), name
