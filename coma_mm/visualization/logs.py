"""Reading the scalars that mmengine's runs write, and what they were run on."""
import importlib
import json
import os
import platform
from pathlib import Path

import torch

from coma_mm.errors import UserError

NOT_METRICS = ('step', 'logged_step', 'data_time', 'time')
PACKAGES = ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'numpy', 'coma_mm')


def read_scalars(run: str | Path) -> tuple[list[dict], list[dict]]:
    """What a run logged.

    Args:
        run (str | Path): A work_dir, whose ``*/vis_data/scalars.json`` are read in the order of their names, which are
            times; or one such file. Where a run was resumed, what it did twice is taken from the later file.

    Returns:
        tuple[list[dict], list[dict]]: Entries of training and of validation, each with its 'step' counted in training
        iterations (an entry of validation: those logged before it; what mmengine writes there, epochs or iterations, is
        its 'logged_step').

    Raises:
        UserError: There is no such file.
    """
    run = Path(run)
    files = [run] if run.is_file() else sorted(run.glob('*/vis_data/scalars.json'))
    if not files:
        raise UserError(f'no log of a run in {run}: expected a work_dir with */vis_data/scalars.json, or such a file')
    train, val = [], []
    for file in files:
        step = None  # of the last training entry in this file
        for line in file.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the last line of a killed run
                continue
            if not isinstance(entry, dict) or not isinstance(entry.get('step'), int):
                continue
            if 'lr' in entry or 'loss' in entry:
                if step is None:
                    train = [x for x in train if x['step'] < entry['step']]
                    val = [x for x in val if x['step'] < entry['step']]
                step = entry['step']
                train.append(entry)
            else:
                val.append(dict(entry, step=train[-1]['step'] if train else 0, logged_step=entry['step']))
    return train, val


def collect_metrics(work_dir: str | Path, split: str = 'val') -> dict[str, float]:
    """The last metrics of a run, by their names in the log: 'accuracy/top1', 'mIoU', 'coco/bbox_mAP' and so on.

    Args:
        work_dir (str | Path): Of the run.
        split (str): 'val': from the last validation while it trained; 'test': from the last test in that work_dir.
            Defaults to 'val'.

    Returns:
        dict[str, float]: Empty if the run has not got so far.
    """
    work_dir = Path(work_dir)
    if split == 'test':
        # mmengine names this file as its folder, by the time.
        files = sorted(file for file in work_dir.glob('*/*.json') if file.stem == file.parent.name)
        entry = json.loads(files[-1].read_text(encoding='utf-8')) if files else {}
    else:
        val = read_scalars(work_dir)[1] if any(work_dir.glob('*/vis_data/scalars.json')) else []
        entry = val[-1] if val else {}
    return {key: value for key, value in entry.items() if key not in NOT_METRICS and isinstance(value, int | float)}


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
