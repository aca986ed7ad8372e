"""Makes the OpenMMLab libraries importable, complete and quiet without compiled operators.

`install()` runs on `import coma_mm`, before any `*.models` module is imported. It mends, and only where needed:

- mmcv without compiled operators: `mmcv._ext` comes from `coma_mm.compat.mmcv_ext`, and modules of `mmcv.ops` that
  need an operator that is not there refuse to be built;
- transformers 5 and newer, beside which `mmpretrain.models` cannot be imported;
- environment variables in configs, which are values there, whatever is in them, and not part of the code;
- reading whole files, which waits for no pipe;
- config inheritance from mmsegmentation (`_base_ = 'mmseg::...'`), and from our configs (`'coma_mm::...'`);
- lines that the libraries print on import and that no user can act upon.
"""
import functools
import importlib.abc
import importlib.machinery
import importlib.metadata
import importlib.util
import os.path as osp
import sys
import warnings

from coma_mm.errors import UserError, nearest, printable
from coma_mm.files import CONFIGS, read_regular

__all__ = ['config_path', 'install']

_MMCV_EXT = osp.join(osp.dirname(__file__), 'mmcv_ext.py')


def install() -> None:
    """Prepares the OpenMMLab libraries for import. Calling it again changes nothing."""
    if any(isinstance(finder, _MmcvExtFinder) for finder in sys.meta_path):
        return
    # Last in the list: a compiled `mmcv._ext` is found by Python's own finders, and this one is never asked.
    sys.meta_path.append(_MmcvExtFinder())
    sys.meta_path.insert(0, _MmcvOpsFinder())
    _silence_import_noise()
    _map_configs()
    _substitute_environment()
    _read_regular_files()
    _skip_multimodal_models_beside_transformers_5()


class _MmcvExtFinder(importlib.abc.MetaPathFinder):
    """Finds the torchvision-backed `mmcv._ext` where mmcv has no compiled one."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != 'mmcv._ext':
            return None
        return importlib.util.spec_from_file_location(fullname, _MMCV_EXT)


class _MmcvOpsFinder(importlib.abc.MetaPathFinder):
    """Finds `mmcv.ops` as Python does, and has its modules looked at when it is imported."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != 'mmcv.ops':
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            from mmcv import _ext
            if getattr(_ext, '__file__', '') == _MMCV_EXT:
                from .operators.absent import refuse_modules
                refuse_modules(module, _ext.__all__)

        spec.loader.exec_module = exec_module
        return spec


def _silence_import_noise() -> None:
    # Python 3.12 and newer report invalid escape sequences when they first compile these libraries' files.
    warnings.filterwarnings(
        'ignore', category=SyntaxWarning, module=r'.*[\\/](mmcv|mmdet|mmengine|mmpretrain|mmseg|imaug|imgaug)[\\/]')
    warnings.filterwarnings('ignore', r'``MultiScaleDeformableAttention`` has been moved', ImportWarning)
    warnings.filterwarnings('ignore', 'faster_coco_eval is not installed', UserWarning)

    # The libraries "log" one line at debug level without a logger, which mmengine turns into a bare print().
    import mmengine.logging
    print_log = mmengine.logging.print_log

    @functools.wraps(print_log)
    def print_log_but_onedl(msg, *args, **kwargs):
        if not str(msg).startswith('Could not import OneDL'):
            print_log(msg, *args, **kwargs)

    mmengine.logging.print_log = print_log_but_onedl


def _map_configs() -> None:
    from mmengine.config import Config, config
    from mmengine.config.utils import MODULE2PACKAGE

    # mmengine looks for the distribution 'mmsegmentation'; the maintained one has another name, the module has not.
    MODULE2PACKAGE.update(mmseg='mmseg', coma_mm='coma_mm')
    get_cfg_path = Config._get_cfg_path

    @functools.wraps(get_cfg_path)
    def find(path, filename):
        # mmengine would put the scope coma_mm, which no registry has, on what is inherited.
        return (config_path(path), None) if path.startswith('coma_mm::') else get_cfg_path(path, filename)

    Config._get_cfg_path = staticmethod(find)
    search = config._get_external_cfg_path

    def find_file(package: str, name: str) -> str:
        # mmengine looks for the name in all of the library's metafiles first, which takes a second.
        path = osp.join(package, '.mim', 'configs', name)
        return path if osp.isfile(path) else search(package, name)

    config._get_external_cfg_path = find_file


def _substitute_environment() -> None:
    # mmengine puts the value of {{$NAME:default}} into the config's code as it is.
    import mmengine.logging
    from mmengine.config import Config

    from .environment import substitute

    def write_substituted(filename, temp_config_name):
        with open(filename, encoding='utf-8') as file:
            text = file.read()
        text, used = substitute(text, filename)
        for name, value in used.items():
            mmengine.logging.print_log(f'Using env variable `{name}` with value of {printable(value)} to replace item in '
                                       'config.', logger='current')
        with open(temp_config_name, 'w', encoding='utf-8') as file:
            file.write(text)
        return used

    Config._substitute_env_variables = staticmethod(write_substituted)


def _read_regular_files() -> None:
    # What the libraries read whole: images, segmentation maps, annotations, lists of names.
    from mmengine.fileio import LocalBackend
    LocalBackend.get = lambda self, filepath: read_regular(filepath)
    LocalBackend.get_text = lambda self, filepath, encoding='utf-8': read_regular(filepath).decode(encoding)


def config_path(name: str) -> str:
    """The file of one of our configs, of this very package, installed or not.

    Args:
        name (str): For example 'coma_mm::coma/coma_dyvit-base_8xb512-amp-coslr-300e_in1k.py'.

    Returns:
        str: Its path.

    Raises:
        UserError: If there is no such config.
    """
    path = CONFIGS / name.removeprefix('coma_mm::')
    if not path.is_file():
        names = [f'coma_mm::{path.relative_to(CONFIGS)}' for path in CONFIGS.glob('**/*.py')]
        close = nearest(name, names)
        raise UserError(f'no config {name}; ' + (f'did you mean {close}?' if close else
                                                  'expected coma_mm:: and a path below configs/'))
    return str(path)


def _skip_multimodal_models_beside_transformers_5() -> None:
    # mmpretrain's multi-modal models need transformers 4 and fail to import beside a newer one; coma_mm uses none.
    try:
        major = int(importlib.metadata.version('transformers').split('.')[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return
    if major >= 5:
        import mmpretrain.utils.dependency
        mmpretrain.utils.dependency.WITH_MULTIMODAL = False
