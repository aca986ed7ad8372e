"""What an environment variable holds is a value in a config, whatever it looks like."""
import os
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from coma_mm.compat.environment import substitute
from coma_mm.config.read import read_config
from coma_mm.errors import UserError

CONFIG = '''"""Docs that name {{$X_ROOT:data}}
in two lines."""
# and a comment: {{$X_ROOT:data}}
a = '{{$X_ROOT:data}}/images'
b = "{{ $X_ROOT : data }}"
c = r'\\d{{$X_ROOT:data}}'
d = \'\'\'one
{{$X_ROOT:data}}\\t\'\'\'
e = ['{{$X_ROOT:data}}' '/{{$X_ROOT:data}}', '{{_base_.size}}']
line = __import__('sys')._getframe().f_lineno
'''
LETTERS = st.one_of(st.sampled_from('\'"\\{}$\n\r#:;() \ta_'),
                    st.characters(exclude_characters='\0', exclude_categories=['Cs']))


def values(text, name='config.py'):
    found = {}
    exec(substitute(text, name)[0], found)
    return found


def check(root):
    found = values(CONFIG)
    assert [found[key] for key in 'abcd'] == [f'{root}/images', root, f'\\d{root}', f'one\n{root}\t']
    assert found['e'] == [f'{root}/{root}', '{{_base_.size}}'] and found['line'] == 10


@given(st.one_of(st.text(LETTERS, min_size=1), st.sampled_from([
    "'", '"""', '\\', "a'; raise SystemExit; '", '{{$X_ROOT:a}}', '{{_base_.size}}',
    '\udcff', "'''\nraise SystemExit\n'''"])))
def test_in_quotes_a_value_arrives_unchanged(value):
    with mock.patch.dict(os.environ, {'X_ROOT': value}):
        check(value)


def test_without_it_the_default_is_part_of_the_config(monkeypatch):
    monkeypatch.delenv('X_ROOT', raising=False)
    check('data')
    assert values('a = {{$X_ROOT:1+1}}')['a'] == 2
    with pytest.raises(UserError, match='X_ROOT is not set, and the config has no default'):
        substitute("a = '{{$X_ROOT:}}'", 'config.py')


def test_set_to_nothing_it_is_the_default_too(monkeypatch):
    monkeypatch.setenv('X_ROOT', '')
    check('data')
    with pytest.raises(UserError, match='X_ROOT is not set, and the config has no default'):
        substitute("a = '{{$X_ROOT:}}'", 'config.py')


@pytest.mark.parametrize('text', [
    '7', '-1.5', 'True', 'None', "'{{_base_.size}}'", '[1, (2, 3)]', '{"a": {"b": "{{"}}', '"\\""'])
def test_outside_of_quotes_it_is_a_literal(monkeypatch, text):
    monkeypatch.setenv('X_N', text)
    for config in ('a = {{$X_N:1}}', "a = dict(b={{'$X_N:80'}})['b']"):
        new = substitute(config, 'config.py')[0]
        found = {}
        exec(new, found)
        assert found['a'] == eval(text) and '{{' not in new


@pytest.mark.parametrize('config, value', [
    *(('a = {{$X_N:1}}', value) for value in ('print(1)', 'name', '1; import os', '1 +', '__import__("os")', '(' * 9999)),
    ('a{{$X_N:1}} = 2', '1'), ("a = f'{{$X_N:1}}'", 'x'), ("a = b'{{$X_N:1}}'", 'x'), ("a = rb'{{$X_N:1}}'", 'x'),
])
def test_anything_else_is_one_line(monkeypatch, config, value):
    monkeypatch.setenv('X_N', value)
    with pytest.raises(UserError, match='^the environment variable X_N is .*; the config expects [^\n]*$'):
        substitute(config, 'config.py')


def test_what_is_no_python_is_left_to_its_reader(monkeypatch):
    monkeypatch.setenv('X_N', '"; import os')
    assert 'import' not in substitute("a = '''{{$X_N:1}}", 'config.py')[0]
    for name in ('a.json', 'a.yaml'):
        with pytest.raises(UserError, match='letters, digits'):
            substitute('{"a": "{{$X_N:1}}"}', name)
    monkeypatch.setenv('X_N', 'data/x')
    assert substitute('{"a": "{{$X_N:1}}"}', 'a.json') == ('{"a": "data/x"}', {'X_N': 'data/x'})


def test_it_holds_in_what_a_config_is_based_on(tmp_path, monkeypatch):
    value = "it's \\here\n\"{{_base_.size}}\" {{$X_ROOT:no}}"
    monkeypatch.setenv('X_ROOT', value)
    monkeypatch.setenv('IMAGE_ROOT', value)
    (tmp_path / 'base.py').write_text("root = '{{$X_ROOT:a}}'\nsize = 1")
    (tmp_path / 'mine.py').write_text("_base_ = 'base.py'\nother = '{{$X_ROOT:a}}'\nroots = [{{_base_.root}}]")
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert (cfg.root, cfg.other, cfg.roots) == (value, value, [value]) and cfg.env_variables['X_ROOT'] == value
    (tmp_path / 'ours.py').write_text("_base_ = 'coma_mm::small/coma_dyvit-tiny_2e_folder-128px.py'")
    assert read_config(str(tmp_path / 'ours.py')).data_root == value
    monkeypatch.setenv('X_ROOT', 'name')
    (tmp_path / 'mine.py').write_text("a = {{'$X_ROOT:1'}}")
    with pytest.raises(UserError, match="X_ROOT is 'name'"):
        read_config(str(tmp_path / 'mine.py'))
