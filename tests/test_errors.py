"""What a person reads who chose a name that there is not, or a file."""
import pytest

from coma_mm.commands import exit_with
from coma_mm.datasets import ImageFolder
from coma_mm.datasets.loading import read_image
from coma_mm.engine.explain import explain
from coma_mm.errors import UserError, choice, shorten


@pytest.mark.parametrize('value, names, text', [
    ('frozn', ('frozen', 'full'), "CoMA: complement='frozn': expected one of frozen, full; did you mean 'frozen'?"),
    ('x', dict(frozen=1, full=2), "CoMA: complement='x': expected one of frozen, full"),
    (None, ['full'], 'CoMA: complement=None: expected one of full'),
    (['full'], ['full'], "CoMA: complement=['full']: expected one of full; did you mean 'full'?"),
])
def test_a_choice_that_there_is_not_names_those_that_there_are_and_the_nearest(value, names, text):
    with pytest.raises(UserError) as error:
        choice('CoMA: complement', value, names)
    assert str(error.value) == text


def test_a_choice_that_there_is_is_returned():
    assert choice('x', 'b', iter('abc')) == 'b'


def test_a_file_that_is_missing_is_also_pythons_own_error():
    with pytest.raises(FileNotFoundError, match='cannot open the image no.png: No such file') as caught:
        read_image('no.png')
    assert isinstance(caught.value, UserError) and explain(caught.value) == str(caught.value)
    with pytest.raises(FileNotFoundError, match='data_root nowhere does not exist'):
        ImageFolder(data_root='nowhere')


def test_of_an_endless_text_a_line_has_the_beginning_and_the_end(capfd):
    def fail():
        raise UserError(f'no file {"x" * 100_000}; choose another')

    with pytest.raises(SystemExit, match='2'):
        exit_with(fail)
    line, = capfd.readouterr().err.splitlines()
    assert line.startswith('error: no file xxx') and line.endswith('xxx; choose another') and len(line) < 2100
    assert shorten('short') == 'short'
