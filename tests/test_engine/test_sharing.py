"""What the main process alone does, and the others wait for."""
import pytest

from coma_mm.engine import sharing
from coma_mm.engine.sharing import from_main_process
from coma_mm.errors import BadImageError, SharedError


def fail():
    raise BadImageError('cannot read the image a.jpg: truncated')


@pytest.fixture
def both(monkeypatch):
    """Does a job as the main process and then as another, which is sent what the first one sent."""

    def do(job):
        sent, ends = [], []
        for is_main in (True, False):
            monkeypatch.setattr(sharing, 'is_main_process', lambda is_main=is_main: is_main)
            monkeypatch.setattr(sharing, 'broadcast_object_list', lambda result, is_main=is_main: (
                sent.extend(result) if is_main else result.__setitem__(slice(None), sent)))
            try:
                ends.append(from_main_process(job))
            except Exception as error:
                ends.append(error)
        return ends

    return do


def test_all_processes_get_what_the_main_one_found(both):
    assert both(lambda: dict(a=1)) == [dict(a=1), dict(a=1)] and both(lambda: None) == [None, None]


def test_an_error_of_the_main_process_ends_the_others_in_its_words_instead_of_leaving_them_to_wait(both):
    own, other = both(fail)
    assert type(own) is BadImageError and type(other) is SharedError and str(own) == str(other)
    own, other = both(lambda: {}[0])
    assert type(own) is KeyError and type(other) is SharedError
