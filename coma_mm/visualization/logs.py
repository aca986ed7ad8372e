"""What a run logged, see `read_scalars`, and what this process runs on."""
import importlib
import os
import platform
from pathlib import Path

import torch

from coma_mm.runs.scalars import read_scalars  # noqa: F401  (it is offered from here)

PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'numpy', 'coma_mm')


def environment() -> dict[str, str]:
    """What this process runs on: processor, GPU, versions."""
    facts = dict(Processor=f'{_cpu_name()}, {len(os.sched_getaffinity(0))} cores')
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts['GPU'] = ', '.join(gpus) or 'none'
    facts['System'] = f'{platform.system()} {platform.machine()}, Python {platform.python_version()}'
    facts['Versions'] = ', '.join(f'{name} {importlib.import_module(name).__version__}' for name in PACKAGES)
    return facts


def _cpu_name() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()
