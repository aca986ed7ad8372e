"""The machine and its software: versions, GPU, cores, shared memory, open files, disk, terminal."""
import ast
import importlib
import importlib.metadata
import locale
import os
import platform
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path

from coma_mm.files import CHECKOUT
from coma_mm.version import __version__

from .finding import BAD, LOOK, OK, Finding, one_line

NAME = 'coma-mm'
SHOWN = {'torch': 'torch', 'torchvision': 'torchvision', 'onedl-mmengine': 'mmengine', 'onedl-mmcv': 'mmcv',
         'onedl-mmpretrain': 'mmpretrain', 'onedl-mmsegmentation': 'mmseg', 'onedl-mmdetection': 'mmdet'}
"""The distributions whose versions are shown, and the modules of each."""
OTHERS = {'mmengine': 'onedl-mmengine', 'mmcv': 'onedl-mmcv', 'mmcv-lite': 'onedl-mmcv', 'mmpretrain': 'onedl-mmpretrain',
          'mmsegmentation': 'onedl-mmsegmentation', 'mmdet': 'onedl-mmdetection'}
"""The distributions that are maintained no more, and those that write the same folders."""
GIB = 2**30


def requirements() -> tuple[str, list[str]]:
    """What the package asks for: of the setup.py of a checkout, or of an installation.

    Returns:
        tuple[str, list[str]]: Versions of Python, and requirements as pip reads them.
    """
    setup = CHECKOUT / 'setup.py'
    if not setup.is_file():
        facts = importlib.metadata.metadata(NAME)
        return facts['Requires-Python'], [one for one in importlib.metadata.requires(NAME) or () if 'extra ==' not in one]
    call = next(node for node in ast.walk(ast.parse(setup.read_text(encoding='utf-8')))
                if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'setup')
    values = {one.arg: one.value for one in call.keywords}
    return ast.literal_eval(values['python_requires']), ast.literal_eval(values['install_requires'])


def python() -> Finding:
    """The version of Python, against what the package asks for."""
    from packaging.specifiers import SpecifierSet
    own, expected = platform.python_version(), requirements()[0]
    if SpecifierSet(expected).contains(own, prereleases=True):
        return Finding(OK, 'Python', f'{own} in {sys.prefix}')
    return Finding(BAD, 'Python', f'{own}, and coma_mm is for {expected}', 'make an environment with one of these '
                   '(make install PYTHON=python3.12)')


def packages() -> Finding:
    """The versions of what the package needs, against its ranges."""
    from packaging.requirements import Requirement
    wrong, asked, shown = [], [], [f'coma_mm {__version__}']
    for line in requirements()[1]:
        requirement = Requirement(line)
        own = _installed(requirement.name)
        if own is None or not requirement.specifier.contains(own, prereleases=True):
            wrong.append(f'{requirement.name} is {own or "not installed"} (expected {requirement.specifier})')
            asked.append(f"'{requirement.name}{requirement.specifier}'")
        elif requirement.name in SHOWN:
            shown.append(f'{SHOWN[requirement.name]} {own}')
    both = [(old, new) for old, new in OTHERS.items() if _installed(old)]
    if both:
        old, new = ' '.join(old for old, _ in both), ' '.join(sorted({new for _, new in both}))
        return Finding(BAD, 'packages', f'{old} installed, in the same folders as {new}',
                       f'pip uninstall -y {old} && pip install --force-reinstall --no-deps {" ".join(asked) or new}')
    if wrong:
        return Finding(BAD, 'packages', ', '.join(wrong), f'pip install {" ".join(asked)}')
    return Finding(OK, 'packages', ', '.join(shown))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def imports() -> Finding:
    """Whether the libraries can be imported."""
    start = time.perf_counter()
    for name in ('numpy', 'cv2', 'torch', 'torchvision', 'mmengine', 'mmcv', 'coma_mm'):
        try:
            if name == 'coma_mm':  # which keeps the libraries quiet, now and later
                importlib.import_module(name).register()
                continue
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                importlib.import_module(name)
        except (Exception, SystemExit) as error:
            what = 'the libraries (mmpretrain, mmseg, mmdet)' if name == 'coma_mm' else name
            return Finding(BAD, 'import', f'{what} cannot be imported: {one_line(error)}', _import_remedy(name, error))
    from mmcv import _ext
    compiled = 'compiled' if _ext.__file__.endswith('.so') else "on PyTorch's own"
    return Finding(OK, 'import', f"all libraries, in {time.perf_counter() - start:.0f} s; mmcv's operators are {compiled}")


def _import_remedy(name: str, error: BaseException) -> str:
    text = str(error)
    if name == 'cv2' or 'cv2' in text or 'libGL' in text:
        return 'pip install --force-reinstall --no-deps opencv-python-headless'
    if name in ('torch', 'torchvision') or 'torchvision::' in text:
        return 'install torch and torchvision anew, together, so that they are a pair (docs/install.md)'
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f'pip install the package that has {error.name.split(".")[0]}; see packages above'
    return 'install the packages anew: pip install --force-reinstall -c constraints.txt -e . (docs/install.md)'


def gpu() -> Finding:
    """The GPU, its driver and its memory; whether it computes, and in bf16."""
    import torch

    from coma_mm.benchmark.speed.gpu import gpu_facts
    if not torch.cuda.is_available():
        return _no_gpu(torch)
    facts = gpu_facts()
    free, total = (size / GIB for size in torch.cuda.mem_get_info())
    count = torch.cuda.device_count()
    found = f'{count} × ' * (count > 1) + f'{facts["GPU"]}, {total:.0f} GiB'
    if 'Driver' in facts:
        found += f', driver {facts["Driver"]}'
    found += f', CUDA {facts["CUDA"]}' if facts['CUDA'] else f', ROCm {torch.version.hip}'
    try:
        ones = torch.ones(64, 64, device='cuda')
        computes = bool((ones @ ones == 64).all())
    except RuntimeError as error:
        return Finding(BAD, 'GPU', f'{found}; it does not compute: {one_line(error)}', 'install the torch that is built for '
                       'this card and driver (pytorch.org/get-started), or free its memory')
    if not computes:
        return Finding(BAD, 'GPU', f'{found}; a product of ones comes out wrong', 'have the card looked at')
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        return Finding(LOOK, 'GPU', f'{found}; it has no bf16', "leave --amp out, and set optim_wrapper.type=OptimWrapper "
                       'where a config has AutocastOptimWrapper, which would be slow here')
    if free < total / 2:
        return Finding(LOOK, 'GPU', f'{found}, bf16; {free:.0f} GiB are free', 'end what else uses it (nvidia-smi), or '
                       'choose another card: CUDA_VISIBLE_DEVICES=1')
    return Finding(OK, 'GPU', f'{found}, bf16')


def _no_gpu(torch) -> Finding:
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES')
    if not any(Path('/dev').glob('nvidia[0-9]*')):
        return Finding(LOOK, 'GPU', 'none', 'train small models on the CPU (coma-mm new … --arch tiny), or larger ones on a '
                       'machine with a GPU; in a container, start it with --gpus all')
    if hidden is not None:
        return Finding(LOOK, 'GPU', f'hidden by CUDA_VISIBLE_DEVICES={hidden}', 'unset CUDA_VISIBLE_DEVICES to use it')
    if not torch.version.cuda and not torch.version.hip:
        return Finding(BAD, 'GPU', f'there is one, and torch {torch.__version__} is built for the CPU alone',
                       'install torch and torchvision for CUDA (pytorch.org/get-started)')
    return Finding(BAD, 'GPU', f'there is one, and torch {torch.__version__} for CUDA {torch.version.cuda} cannot use it',
                   'see whether nvidia-smi works, and update the driver, or install a torch for an older CUDA '
                   '(pytorch.org/get-started)')


def usable_cores() -> float:
    """The cores that this process may use, by its affinity and by the quota of a container."""
    cores = float(len(os.sched_getaffinity(0)))
    for path in ('/sys/fs/cgroup/cpu.max', '/sys/fs/cgroup/cpu/cpu.cfs_quota_us'):
        try:
            text = Path(path).read_text().split()
            period = text[1] if len(text) > 1 else Path(path).with_name('cpu.cfs_period_us').read_text()
            quota = int(text[0]) / int(period)
        except (OSError, ValueError, IndexError):  # no limit is the word max
            continue
        if quota > 0:
            cores = min(cores, quota)
    return cores


def cores(workers: int | str | None = None) -> Finding:
    """The cores, against the processes that load data.

    Args:
        workers (int | str, optional): A config's `num_workers` of training. Defaults to 'auto'.
    """
    affinity, usable = len(os.sched_getaffinity(0)), usable_cores()
    found = f'{affinity}' + (f', of which a quota leaves {usable:g}' if usable < affinity else '')
    try:
        from coma_mm.engine.workers import loader_workers
    except Exception:  # torch is broken, which is another finding
        return Finding(OK, 'cores', found)
    number = loader_workers()[0] if workers in (None, 'auto') else workers
    setting = 'num_workers' if workers is None else 'train_dataloader.num_workers'
    found += f"; {setting}='auto' takes {number}" if workers in (None, 'auto') else f'; {setting}={number}'
    fit = max(1, int(usable) - 1)
    if number > max(usable, 1):
        return Finding(LOOK, 'cores', found, f'set train_dataloader.num_workers={fit}, or they wait for each other')
    if number == 0:
        return Finding(LOOK, 'cores', found, f'set train_dataloader.num_workers={fit}, or each step waits for its images')
    return Finding(OK, 'cores', found)


def shared_memory(needed: float | None = None, path: str = '/dev/shm') -> Finding:
    """The shared memory, through which workers hand over their batches.

    Args:
        needed (float, optional): Bytes that the batches take which a config has in it at once. Defaults to those of most.
        path (str): Where it is. Defaults to Linux' place.
    """
    raise_it = 'give it more (docker run --shm-size=16g, or --ipc=host), or take fewer workers or a smaller batch'
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return Finding(BAD, path, one_line(error), 'mount it (a container: --shm-size=16g), or set num_workers=0')
    found = f'{_size(free)} free' + (f'; batches that are ready take up to {_size(needed)}' if needed else '')
    least = needed or GIB / 8
    if free < least:
        return Finding(BAD, path, found, raise_it)
    return Finding(LOOK, path, found, raise_it) if free < max(2 * least, GIB) else Finding(OK, path, found)


def open_files() -> Finding:
    """How many files a process may have open: each tensor that a worker hands over is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding(OK, 'open files', 'any number (ulimit -n)')
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    remedy = f'ulimit -n {most} before a run' if most > soft else 'ask for a higher limit (/etc/security/limits.conf)'
    mark = BAD if soft < 512 else LOOK if soft < 4096 else OK
    return Finding(mark, 'open files', f'up to {soft} (ulimit -n)', '' if mark == OK else
                   f'{remedy}: detectors with many workers need thousands')


def free_memory() -> float:
    """Bytes of the machine's memory that are free, or hold what can be forgotten."""
    text = Path('/proc/meminfo').read_text()
    return 1024. * int(text.partition('MemAvailable:')[2].split()[0])


def disk(folder: str = 'work_dirs', needed: float | None = None) -> Finding:
    """The room for logs and checkpoints.

    Args:
        folder (str): Where a run writes them. Defaults to 'work_dirs'.
        needed (float, optional): Bytes of a run's checkpoints. Defaults to 10 GiB.
    """
    full = Path(folder).absolute()
    there = next(one for one in (full, *full.parents) if one.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(BAD, 'disk', f'{there} may not be written to', 'choose another place: --work-dir PATH')
    free = shutil.disk_usage(there).free
    found = f'{_size(free)} free for {folder}' + (f'; the checkpoints of this run take {_size(needed)}' if needed else '')
    remedy = 'make room, take another --work-dir, or keep fewer checkpoints (default_hooks.checkpoint.max_keep_ckpts=2)'
    if free < (needed or GIB):
        return Finding(BAD, 'disk', found, remedy)
    enough = 1.5 * needed if needed else 10 * GIB
    return Finding(LOOK, 'disk', found, remedy) if free < enough else Finding(OK, 'disk', found)


def terminal() -> Finding:
    """Whether names of files and what is printed may have any letters."""
    output, files = (sys.stdout.encoding or 'none').lower(), sys.getfilesystemencoding().lower()
    found = f'{output}, names of files in {files}, locale {locale.setlocale(locale.LC_CTYPE)}'
    if {output.replace('-', ''), files.replace('-', '')} == {'utf8'}:
        return Finding(OK, 'terminal', found)
    return Finding(LOOK, 'terminal', found, 'export LC_ALL=C.UTF-8 (or PYTHONUTF8=1), or names with other letters fail')


def _size(number: float) -> str:
    for unit, size in (('TiB', 2**40), ('GiB', GIB), ('MiB', 2**20)):
        if number >= size:
            return f'{number / size:.3g} {unit}' if number / size < 1000 else f'{number / size:.0f} {unit}'
    return f'{number / 1024:.0f} KiB'
