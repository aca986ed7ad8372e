"""Which values of masks are classes."""
import pytest

from coma_mm.errors import UserError
from coma_mm.prepare.new.label_values import class_names, find_labels

STREET = [f'class {n}' for n in range(11)]


@pytest.mark.parametrize('found, names, ignore, classes, ids, note', [
    (range(12), STREET, [11], STREET, {11: 255}, ''),  # void behind the classes, as in CamVid
    (range(12), STREET, [0], STREET, {0: 255, **{n: n - 1 for n in range(1, 12)}}, ''),  # before them, as in ADE20K
    (range(11), STREET, [0], STREET, {0: 255, **{n: n - 1 for n in range(1, 12)}}, 'No pixel is of class 10'),
    (range(12), [*STREET, 'Void'], None, STREET, {11: 255}, 'Void is ignored'),
    (range(3), ['background', 'a', 'b'], [0], ['a', 'b'], {0: 255, 1: 0, 2: 1}, ''),
    ([1, 2, 3], ['a', 'b', 'c'], None, ['a', 'b', 'c'], {1: 0, 2: 1, 3: 2}, ''),
    ([0, 1, 2, 255], ['a', 'b', 'c'], None, ['a', 'b', 'c'], {}, ''),
    ([0, 1, 200], ['a', 'b'], None, ['a', 'b'], {200: 255}, 'The value 200'),
    ([0, 255], None, None, ['0', '255'], {255: 1}, '255 is the second class'),
    ([0, 255], ['no', 'yes'], None, ['no', 'yes'], {255: 1}, ''),
    ([0, 7, 11, 255], None, None, ['class 0', 'class 7', 'class 11'], {7: 1, 11: 2}, 'named by their values')])
def test_values_are_classes_or_none(found, names, ignore, classes, ids, note):
    labels = find_labels(found, names, ignore)
    assert labels.names == classes and labels.ids == ids and note in ' '.join(labels.notes)
    assert labels.reduces_zero == (ids.get(1) == 0)  # the values count from 1


@pytest.mark.parametrize('found, names, ignore, message', [
    (range(12), STREET, None, '0 to 11, one more than the 11 names .*: --ignore 11 if the last one is, --ignore 0 if'),
    (range(15), STREET, None, 'the values 11, 12, 13, … beyond the 11 names .*: --ignore 11 12 13 14$'),
    ([0, 1], None, [0], 'the masks have one class only'), (range(101), None, None, 'have 101 values; .*--classes')])
def test_what_cannot_be_known_is_asked_for(found, names, ignore, message):
    with pytest.raises(UserError, match=message):
        find_labels(found, names, ignore)


def test_a_class_that_is_there_twice_is_refused_but_for_void(tmp_path):
    file = tmp_path / 'names.txt'
    file.write_text('void\nroad\ncar\n\nvoid\n')
    assert class_names(str(file)) == ['void', 'road', 'car', 'void'] and class_names(None) is None
    file.write_text('road\ncar\nroad\n')
    with pytest.raises(UserError, match=f'^--classes {file}: more than one class is called road; expected'):
        class_names(str(file))
    with pytest.raises(UserError, match='^--classes: more than one class is called road; '):
        class_names(['road', 'road'])
