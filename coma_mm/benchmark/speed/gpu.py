"""What a GPU is: what its speed depends on besides the code."""
import subprocess

import torch

QUERY = {'name': 'GPU', 'driver_version': 'Driver', 'memory.total': 'GPU memory', 'clocks.sm': 'Clock of the cores',
         'clocks.max.sm': 'Clock of the cores at most', 'clocks.mem': 'Clock of the memory', 'power.limit': 'Power limit',
         'temperature.gpu': 'Temperature'}
"""Of nvidia-smi, with the names of the facts."""


def gpu_facts() -> dict[str, str]:
    """Card, driver, memory, clocks, the versions of CUDA and cuDNN; empty without a GPU. Clocks are those of the moment."""
    if not torch.cuda.is_available():
        return {}
    facts = {'GPU': torch.cuda.get_device_name(),
             'GPU memory': f'{torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB',
             'CUDA': torch.version.cuda, 'cuDNN': str(torch.backends.cudnn.version())}
    try:
        asked = ['nvidia-smi', f'--query-gpu={",".join(QUERY)}', '--format=csv,noheader', '-i', '0']
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):  # a container without the program
        return facts
    return facts | read_answer(answer)


def read_answer(answer: str) -> dict[str, str]:
    """What nvidia-smi says of the first card, by the names of the facts; what it does not know is left out."""
    cells = [cell.strip() for cell in answer.splitlines()[0].split(',')] if answer.strip() else []
    return {name: cell for name, cell in zip(QUERY.values(), cells, strict=False) if cell and not cell.startswith('[')}
