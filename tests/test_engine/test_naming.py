"""What was being built or read when an error was raised is noted on it, whatever the functions of mmengine are called."""
import pytest
from mmdet.datasets import BaseDetDataset
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from coma_mm.engine.explain import explain
from coma_mm.engine.naming import buildings, install, reading

install()  # once more, as mmdetection may have been imported here first

OUTER, INNER = Registry('outer', scope='mmengine'), Registry('inner', scope='mmengine')


@OUTER.register_module()
class Frame:

    def __init__(self, picture, width=1, registry=INNER):
        self.picture, self.width = registry.build(picture), width


@INNER.register_module()
class Picture:

    def __init__(self, error=None, height=1):
        self.height = height
        if error:
            raise error


@INNER.register_module()
def sketch(error):
    raise error


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmengine'):
        yield


def failed(cfg, registry=OUTER, **kwargs):
    """Exception: What building a config raises."""
    with pytest.raises(Exception) as caught:
        registry.build(cfg, **kwargs)
    return caught.value


def started(error):
    """str: The line for an error before an iteration was done."""
    error.at_start = True
    return explain(error)


def test_what_builds_without_an_error_is_unchanged():
    cfg = dict(type='Frame', picture=dict(type='Picture', height=3))
    frame = OUTER.build(cfg, default_args=dict(width=2))
    assert (frame.width, frame.picture.height) == (2, 3)
    assert cfg == dict(type='Frame', picture=dict(type='Picture', height=3))
    assert (Registry.build.__name__, Runner.build_dataloader.__name__) == ('build', 'build_dataloader')


@pytest.mark.parametrize('kind, built', [('Picture', Picture), ('sketch', sketch), (Picture, Picture)])
def test_the_innermost_object_is_named_first_and_its_error_is_the_same_object(kind, built):
    error = ValueError('made elsewhere')
    assert failed(dict(type='Frame', picture=dict(type=kind, error=error), width=7)) is error
    inner, outer = buildings(error)
    assert (inner.built, inner.settings, inner.registry) == (built, dict(error=error), INNER)
    assert (outer.built, outer.registry, outer.settings['width']) == (Frame, OUTER, 7)


def test_an_error_without_frames_is_explained():
    """The notes alone tell; whatever the traceback holds."""
    error = failed(dict(type='Frame', picture=dict(type='Picture', height=5, error=ValueError('no such thing'))))
    error.__traceback__ = None
    line = started(error)
    assert line.startswith('Picture cannot be built with its settings (height=5): ValueError: no such thing (in ?); ')


def test_settings_are_those_of_the_config_with_the_defaults_of_its_builder():
    cfg = dict(type='Picture', error=ValueError('no'), _scope_='mmengine')
    error = failed(cfg, INNER, default_args=dict(height=4, error=None))
    assert started(error).startswith('Picture cannot be built with its settings (height=4): ')
    assert cfg.keys() == {'type', 'error', '_scope_'}


def test_a_config_that_names_nothing_is_noted_by_what_is_built_around_it():
    for picture in (dict(type=[1]), 5, dict(height=5), None):
        error = failed(dict(type='Frame', picture=picture, width=2))
        line = started(error)
        if isinstance(picture, dict) and 'type' not in picture:
            assert line.startswith('a config needs the key type: ')
        else:
            assert line.startswith('Frame cannot be built with its settings (') and 'width=2): TypeError: ' in line


def test_a_module_in_the_place_of_a_class_is_named():
    error = failed(dict(type='Frame', picture=dict(type='abc', height=5)))
    assert started(error).startswith("abc cannot be built with its settings (height=5): TypeError: 'module' object is not")


def test_a_misspelt_type_or_key_is_named_with_what_the_registry_and_the_class_have():
    for cfg, expected in (
        (dict(type='Frame', picture=dict(type='Pictur')), "type='Pictur': there is no inner of that name; did you mean "
         "'Picture'?"),
        (dict(type='Farme'), "type='Farme': there is no outer of that name; did you mean 'Frame'?"),
        (dict(type='Frame', picture=dict(type='Picture', heigth=1)), "Picture has no key 'heigth'; did you mean 'height'?"),
        (dict(type='Frame', picture=dict(type='sketch')), "sketch needs the key 'error', which its config lacks"),
        (dict(type='Frame', wdith=1, picture=None), "Frame has no key 'wdith'; did you mean 'width'?")):
        assert explain(failed(cfg)) == expected


def test_a_wrong_call_in_the_code_is_no_fault_of_the_config():
    def call():
        raise TypeError("other() got an unexpected keyword argument 'key'")

    INNER.register_module('call', module=lambda: call(), force=True)
    assert explain(failed(dict(type='Frame', picture=dict(type='call')))) is None


def test_installing_twice_is_harmless():
    methods = [Registry.build, Runner.build_dataloader, BaseDataset.full_init, BaseDetDataset.full_init]
    install()
    assert [Registry.build, Runner.build_dataloader, BaseDataset.full_init, BaseDetDataset.full_init] == methods
    assert len(buildings(failed(dict(type='Picture', error=ValueError('no')), INNER))) == 1


def test_a_data_loader_is_named_with_its_own_settings():
    cfg = dict(dataset=[1, 2], sampler=None, num_workers='x', batch_size=2)
    with pytest.raises(Exception) as caught:
        Runner.build_dataloader(cfg)
    assert started(caught.value).startswith("DataLoader cannot be built with its settings (num_workers='x', batch_size=2): ")
    with pytest.raises(TypeError) as caught:
        Runner.build_dataloader(dict(dataset=[1, 2], sampler=None, num_worker=1))
    assert explain(caught.value) == "DataLoader has no key 'num_worker'; did you mean 'num_workers'?"
    assert isinstance(Runner.build_dataloader(dict(dataset=[1, 2], sampler=None)), DataLoader)


@pytest.mark.parametrize('parent', [BaseDataset, BaseDetDataset])
def test_a_data_set_is_named_and_whether_it_was_read(parent):
    class Letters(parent):
        found = ValueError('not\n a list')

        def load_data_list(self):
            if isinstance(self.found, Exception):
                raise self.found
            return self.found

    def line():
        with pytest.raises(Exception) as caught:
            Letters(ann_file='a.txt')
        assert reading(caught.value).dataset.ann_file == 'a.txt'
        return explain(caught.value)

    assert line() == 'Letters cannot read a.txt: ValueError: not a list'
    Letters.found = []
    assert line().startswith('Letters finds no sample in a.txt; expected files')
    Letters.found = [dict(letter='a')]
    assert len(Letters(ann_file='a.txt')) == 1


def test_other_errors_carry_no_notes():
    error = ValueError('no')
    assert buildings(error) == [] and reading(error) is None and explain(error) is None
