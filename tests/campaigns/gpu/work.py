"""What the parts of `make gpu` do; `parts.py` names these functions."""
import re
import statistics
import subprocess
import sys
import time
import traceback
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path

import torch
from mmengine.logging import MMLogger

from coma_mm.benchmark.speed.gpu import gpu_facts
from coma_mm.benchmark.speed.speed import commit, failure
from coma_mm.benchmark.speed.timing import interleave
from coma_mm.errors import EXIT_STOPPED
from coma_mm.files import write_metrics
from coma_mm.visualization.logs import environment, read_scalars
from coma_mm.weights import load_weights_only

from .checks import CHECKS, step_of
from .scale import ROOT, RUNS, Scale
from .shared import command, pictures, shapes, side_by_side

TINY = 'coma_mm::shapes/coma_dyvit-tiny_shapes.py'
COMPILED = {False: (), True: ('--compile', 'only')}
FOLDER = 'coma_mm::coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py'


def look_around(scale: Scale, folder: Path) -> None:
    """The card, the versions, and what the card can do at best: copies and products."""
    found = dict(facts=dict(environment(), Commit=commit(), **gpu_facts()))
    write_metrics(found, folder / 'environment.json')
    small = scale.device == 'cpu'
    numbers, side = 2**(20 if small else 29), 256 if small else 8192
    source = torch.empty(numbers, device=scale.device, dtype=torch.bfloat16).zero_()
    target, factor = torch.empty_like(source), torch.ones(side, side, device=scale.device, dtype=torch.bfloat16)
    steps = dict(copy=lambda: target.copy_(source), product=lambda: factor @ factor)
    synchronise = (lambda: None) if small else torch.cuda.synchronize
    list(interleave(steps, 2, synchronise=synchronise))  # warm
    repeats = list(interleave(steps, 5, steps_per_repeat=5, synchronise=synchronise))
    copy, product = (statistics.median(repeat[name] for repeat in repeats) for name in steps)
    write_metrics(dict(found, copy_tb_per_s=2 * 2 * numbers / copy / 1e12, product_tflop_per_s=2 * side**3 / product / 1e12),
                  folder / 'environment.json')


def smoke(scale: Scale, folder: Path) -> None:
    """Each check, with what it has measured or how it failed, written down at once."""
    MMLogger.get_current_instance().setLevel('ERROR')
    found = {}
    for name, check in CHECKS.items():
        found[name], begun = dict(ended='begun'), time.monotonic()
        write_metrics(found, folder / 'checks.json')
        try:
            found[name] = dict(ended='right', found=check(torch.device(scale.device)))
        except Exception as error:
            traceback.print_exc()
            found[name] = dict(ended='wrong' if isinstance(error, AssertionError) else 'failed', says=failure(error))
        found[name]['seconds'] = round(time.monotonic() - begun, 1)
        write_metrics(found, folder / 'checks.json')


def speed(scale: Scale, folder: Path, *options: object) -> None:
    """`coma-mm benchmark speed` in bf16."""
    command('benchmark', 'speed', '--device', scale.device, '--arch', scale.arch, '--precision', 'bf16', '--repeats',
            scale.repeats, '--steps', scale.steps, '--out', folder, *options)


def pretraining(scale: Scale, folder: Path, names: tuple[str, ...], smaller: bool = False, compiled: bool = False) -> None:
    """Steps of pre-training, beside mmpretrain's MAE."""
    batches = scale.batches[1:] if smaller else scale.batches[:1]
    speed(scale, folder, '--sizes', scale.size, '--batch-size', *batches, '--only', *(f'pretrain/{name}' for name in names),
          *COMPILED[compiled])


def inference(scale: Scale, folder: Path) -> None:
    """Feature maps of whole images, beside ViT and Swin."""
    speed(scale, folder, '--sizes', *scale.inference, '--only', 'inference/dyvit', 'inference/swin')


def upernet(scale: Scale, folder: Path, compiled: bool = False) -> None:
    """Steps with as many images as a process has in the configs, beside Swin's."""
    speed(scale, folder, '--sizes', scale.dense[0], '--batch-size', 2, '--only', 'upernet/dyvit', *COMPILED[compiled])


def mask_rcnn(scale: Scale, folder: Path) -> None:
    """Steps beside Swin's."""
    speed(scale, folder, '--sizes', scale.dense[1], '--only', 'mask-rcnn/dyvit')


def train(run: Path, config: str, *options: object, more: tuple = ()) -> list:
    """list: The words of a command line that trains without validation."""
    return ['train', config, '--work-dir', run, '--no-validate', *more, '--cfg-options', *options]


def end_to_end(scale: Scale, folder: Path) -> None:
    """Training from JPEGs as people start it, with hooks and logs."""
    batch, run = scale.batches[0], scale.path(RUNS, 'end-to-end')
    smaller = ('model.backbone.arch=tiny', 'model.decoder.depth=1', f'size={scale.size}') if scale.arch == 'tiny' else ()
    command(*train(
        run, FOLDER, f'train_dataloader.batch_size={batch}', f'train_dataloader.num_workers={scale.workers}',
        'optim_wrapper.accumulative_counts=1', 'default_hooks.logger.interval=5', 'default_hooks.checkpoint.interval=1000',
        'model.complement=frozen', *smaller,
        more=('--data-root', pictures(scale), '--max-time', f'{scale.seconds}s')), codes=(0, EXIT_STOPPED))
    for path in run.glob('*.pth'):
        path.unlink()
    entries, _ = read_scalars(run)
    warm = entries[len(entries) // 3:]  # an epoch's first batches are waited for
    seconds, waits = (statistics.median(entry[key] for entry in warm) for key in ('time', 'data_time'))
    write_metrics(dict(batch=batch, workers=scale.workers, images='given' if scale.images else 'drawn', entries=len(warm),
                       last_step=entries[-1]['step'], images_per_second=batch / seconds, waiting=waits / seconds),
                  folder / 'end_to_end.json')


def data_path(scale: Scale, folder: Path) -> None:
    """`coma-mm benchmark dataload` with all cores."""
    smaller = ('--cfg-options', f'size={scale.size}', f'train_dataloader.batch_size={scale.batches[0]}'
               ) if scale.arch == 'tiny' else ()
    command('benchmark', 'dataload', FOLDER, '--data-root', pictures(scale), '--workers',
            *dict.fromkeys((max(1, scale.workers // 2), scale.workers)), '--batches', 6, '--repeats', 1, '--out',
            folder / 'dataload.json', *smaller)


def resume(scale: Scale, folder: Path, deterministic: bool) -> None:
    """The last checkpoints of a run, of the same run again, and of one that was resumed in the middle of an epoch."""
    batch = max(2, scale.shapes // 25)
    middle = scale.shapes // batch + 3  # of the second epoch: an epoch is shorter, as some images are held out
    runs = {name: scale.path(RUNS, f'{name}{"-deterministic" * deterministic}') for name in ('whole', 'again', 'resumed')}
    options = [
        f'train_dataloader.batch_size={batch}', 'epochs=3', 'train_dataloader.drop_last=True',
        'optim_wrapper.type=AutocastOptimWrapper', 'default_hooks.checkpoint.by_epoch=False',
        f'default_hooks.checkpoint.interval={middle}', f'randomness.deterministic={deterministic}']
    found = {}
    for name, run in runs.items():
        more = ('--resume', runs['whole'] / f'iter_{middle}.pth') if name == 'resumed' else ()
        command(*train(run, TINY, *options, more=('--data-root', shapes(scale) / 'unlabelled', *more)))
        if name != 'whole':
            last = (runs['whole'] / 'last_checkpoint').read_text().strip().rpartition('/')[2]
            expected, own = (_tensors(runs[one] / last) for one in ('whole', name))
            assert expected.keys() == own.keys()
            differences = {key: (own[key].double() - expected[key].double()).abs().max().item() for key in expected}
            worst = max(differences, key=differences.get)
            found[name] = dict(largest=differences[worst], tensor=worst, tensors=len(differences))
            write_metrics(dict(last=last, resumed_at=middle, **found), folder / 'resume.json')


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Weights and the optimiser's state in a checkpoint, by their places."""
    found, checkpoint = {}, load_weights_only(path)

    def collect(value, name):
        if isinstance(value, torch.Tensor) and value.numel():
            found[name] = value.detach().cpu()
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
                value, (list, tuple)) else ():
            collect(inner, f'{name}.{key}')

    for key in ('state_dict', 'optimizer'):
        collect(checkpoint[key], key)
    return found


def losses(scale: Scale, folder: Path) -> None:
    """Losses at the same updates: of bf16, TF32 and compiled code against float32 in eager mode, beside another seed's."""
    batch = max(2, scale.shapes // 25)
    epochs = -(-scale.updates // int(0.9 * scale.shapes // batch))  # some images are held out
    options = [f'train_dataloader.batch_size={batch}', 'train_dataloader.drop_last=True',
               f'epochs={epochs}', 'default_hooks.logger.interval=1', 'default_hooks.checkpoint.interval=1000']
    compiled = 'compile.backend=eager' if scale.device == 'cpu' else 'compile=True'  # compiling takes minutes on a CPU
    runs = {'float32': ('env_cfg.tf32=False', ), 'another seed': ('env_cfg.tf32=False', 'randomness.seed=1'),
            'bf16': ('optim_wrapper.type=AutocastOptimWrapper', ), 'TF32': (), 'compiled': ('env_cfg.tf32=False', compiled),
            'bf16, compiled': ('optim_wrapper.type=AutocastOptimWrapper', compiled)}
    folders = {name: scale.path(RUNS, 'losses ' + name.replace(',', '')) for name in runs}
    codes = side_by_side(scale, {
        folders[name].name: train(folders[name], TINY, *options, *own, more=('--data-root', shapes(scale) / 'unlabelled'))
        for name, own in runs.items()})
    curves = {name: [entry['mse_adaptive'] for entry in read_scalars(folders[name])[0]][:scale.updates]
              for name in runs if codes[folders[name].name] == 0}
    found = {name: dict(ended=f'exit code {codes[folders[name].name]}') for name in runs if name not in curves}
    for name, curve in curves.items():
        last = max(1, len(curve) // 5)
        pairs = list(zip(curve, curves.get('float32', ()), strict=False))
        found[name] = dict(ended='finished', updates=len(curve), last=statistics.fmean(curve[-last:]))
        if pairs:
            found[name]['difference'] = statistics.fmean(abs(a - b) / b for a, b in pairs)
    write_metrics(dict(runs=found, curves=curves), folder / 'losses.json')


def determinism(scale: Scale, folder: Path) -> None:
    """Operators that torch has no deterministic kernels for, and whether two steps from the same seeds are the same."""
    MMLogger.get_current_instance().setLevel('ERROR')
    found = {}
    for name in ('pretrain/coma-frozen', 'upernet/dyvit', 'mask-rcnn/dyvit'):
        ends = []
        for _ in range(2):
            torch.manual_seed(0)
            step = step_of(name, torch.device(scale.device), 'bf16', batch=2)
            for _ in range(2):
                torch.manual_seed(1)
                step()
            ends.append([value.detach().clone() for value in step.model.parameters()])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            torch.use_deterministic_algorithms(True, warn_only=True)
            step()
            torch.use_deterministic_algorithms(False)
        operators = {match[1] for one in caught if (match := re.match(r'(\S+) does not have a determini', str(one.message)))}
        largest = max((a - b).abs().max().item() for a, b in zip(*ends, strict=True))
        found[name] = dict(operators=sorted(operators), largest=largest)
        write_metrics(found, folder / 'determinism.json')


def tests(scale: Scale, folder: Path) -> None:
    """`pytest -m gpu`; without a GPU all of them are skipped."""
    report = scale.path('tests.xml')
    workers = ('-n', '4') if scale.device == 'cuda' else ()
    subprocess.run([sys.executable, '-m', 'pytest', '-m', 'gpu', '-p', 'no:cacheprovider', *workers, f'--junitxml={report}'],
                   cwd=ROOT, check=False)
    suite = ET.parse(report).getroot().find('testsuite')
    numbers = {key: int(suite.get(key)) for key in ('tests', 'failures', 'errors', 'skipped')}
    failed = [f'{case.get("classname")}.{case.get("name")}' for case in suite.iter('testcase')
              if case.find('failure') is not None or case.find('error') is not None]
    write_metrics(dict(numbers, failed=failed), folder / 'tests.json')
