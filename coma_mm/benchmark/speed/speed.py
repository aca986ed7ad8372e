"""Speed and memory of training steps and of inference, against the libraries' own models."""
import gc
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich import box
from rich.console import Console
from rich.table import Table as TerminalTable

from coma_mm.errors import UserError, choice, printable
from coma_mm.files import CHECKOUT, check_writable, write_metrics, write_whole
from coma_mm.markdown import markdown_table
from coma_mm.models.dyvit import ARCHS, WINDOWS
from coma_mm.progress import Progress
from coma_mm.visualization import Table
from coma_mm.visualization.logs import environment

from .contestants import Setting, check_size, contestants
from .figure import speed_figure
from .gpu import gpu_facts
from .profiling import profile_step
from .sizes import BATCHES, SIZES
from .timing import interleave, peak_bytes, quartiles, speed_ratio, storage_bytes

WARM_UP = 2
COMPILED = {None: (False, ), 'too': (False, True), 'only': (True, )}
"""What is measured, by the option --compile."""


def run(args):
    """Measure, print a table, and write it with all timings and a figure; also when interrupted."""
    started = time.monotonic()
    choice('--arch', args.arch, ARCHS)
    for windows in args.windows:
        choice('--windows', windows, WINDOWS)
    device = choose_device(args.device)
    if device.type == 'cpu' and 'tf32' in args.precision:
        raise UserError('--precision tf32 is a precision of GPUs; on a CPU take fp32 or bf16')
    if args.trace and not args.profile:
        raise UserError('--trace is the trace of a profile: add --profile')
    MMLogger.get_current_instance().setLevel('ERROR')  # the groups of each optimiser
    out = args.out or Path('work_dirs/benchmark') / time.strftime('speed_%Y%m%d_%H%M%S')
    facts = dict(
        environment(), Commit=commit(), Command=' '.join(sys.argv[1:]), Seed=args.seed, Threads=torch.get_num_threads(),
        Device=str(device), **{'float32 products': torch.get_float32_matmul_precision()},
        **(gpu_facts() if device.type == 'cuda' else {}))
    if args.profile:
        return _profile(args, device, facts, out)
    picked = pick(contestants(args.windows), args.only, device)
    comparisons = list(plan(picked, args, device))
    check_writable(str(out / 'speed.json'))
    steps = args.steps or (10 if device.type == 'cuda' else 1)
    rows, finished, left_out = [], [], []
    with Progress() as progress:
        turns = sum(len(group) * (args.repeats + WARM_UP + 1) for _, group in comparisons)
        bar = progress.add_task('', total=turns, unit='turns')
        try:
            for setting, group in comparisons:
                if rows and args.max_time and time.monotonic() - started > args.max_time:
                    left_out.append(_in_words(group[0].group, setting))
                    facts['Left out for lack of time'] = '; '.join(left_out)
                    continue
                for finished in measure(setting, group, args.repeats, steps, args.seed, progress, bar):
                    write_metrics(dict(facts, rows=rows + finished), out / 'speed.json')
                rows, finished = rows + finished, []
            write_metrics(dict(facts, rows=rows), out / 'speed.json')
        finally:
            progress.stop()
            if rows + finished:
                report(rows + finished, facts, out / 'speed')


def choose_device(name):
    """torch.device: The one asked for, or else the GPU.

    Raises:
        UserError: If there is no GPU and the CPU was not asked for.
    """
    if name != 'cpu' and not torch.cuda.is_available():
        raise UserError('no GPU that torch can use here; to measure on the CPU take --device cpu')
    return torch.device(name or 'cuda')


def pick(found, patterns, device):
    """Contestants by their names, and the peers that they are compared with.

    Args:
        found (list[Contestant]): To choose from.
        patterns (Sequence[str]): As of file names.
        device (torch.device): Where they will run.

    Returns:
        list[Contestant]: In the order of `found`.

    Raises:
        UserError: If a pattern has no match on this device.
    """
    found = [one for one in found if device.type == 'cuda' or not one.needs_cuda]
    names = [one.name for one in found]
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in names):
            raise UserError(f'--only {pattern}: no contestant has such a name on {device.type}; there are '
                            f'{", ".join(names)}')
    wanted = [one for one in found if any(fnmatch(one.name, pattern) for pattern in patterns)]
    wanted_names = {name for one in wanted for name in (one.name, *one.peers)}
    return [one for one in found if one.name in wanted_names]


def plan(picked, args, device):
    """Iterator[tuple[Setting, list[Contestant]]]: What is measured together."""
    for group in dict.fromkeys(one.group for one in picked):
        members = [one for one in picked if one.group == group]
        for size in args.sizes or SIZES[group]:
            check_size(members[0], size)
            batches = args.batch_size or [BATCHES[device.type][group]]
            if group == 'inference' and not args.batch_size:
                batches = [max(1, round(batches[0] * (224 / size)**2))]
            for batch in dict.fromkeys(batches):
                for precision in dict.fromkeys(args.precision):
                    for compiled in COMPILED[args.compile]:
                        yield Setting(args.arch, device, size, batch, precision, compiled, args.seed), members


def measure(setting, group, repeats, steps_per_repeat, seed, progress, bar):
    """Build what is compared, warm it up, measure its memory, then time it in turn.

    A contestant that fails, whenever it does, has a note in its row from then on, and the others go on.

    Args:
        setting (Setting): What they share.
        group (list[Contestant]): Who takes part.
        repeats (int): How often.
        steps_per_repeat (int): Steps in a row that make one timing.
        seed (int): Of the order.
        progress (Progress): To advance, a contestant's turn at a time.
        bar (TaskID): Its task.

    Yields:
        list[dict]: A row for each contestant, after every repeat.
    """
    torch._dynamo.reset()
    # Contestants share code, for which the default of eight graphs would soon be too few.
    torch._dynamo.config.recompile_limit = 64
    description = f'{group[0].group} {setting.size} px {setting.precision}{" compiled" * setting.compiled}'
    synchronise = torch.cuda.synchronize if setting.device.type == 'cuda' else lambda: None
    clock = time.process_time if setting.device.type == 'cpu' and torch.get_num_threads() == 1 else time.perf_counter
    rows, steps = {}, {}
    with _products(setting.precision):
        for one in group:
            progress.update(bar, description=f'{description}: {one.name}')
            rows[one.name] = row = dict(
                name=one.name, title=one.title, arch=setting.arch, device=setting.device.type, size=setting.size,
                batch=setting.batch, precision=setting.precision, compiled=setting.compiled, seconds=[],
                peers=[peer for peer in one.peers if any(peer == other.name for other in group)])
            try:
                steps[one.name] = _Guarded(_warm(one, setting, row, synchronise, lambda: progress.advance(bar)), row)
            except Exception as error:
                row['note'] = failure(error)
                error.__traceback__ = None  # which holds on to what was built
                _free(setting.device)
            progress.advance(bar)
        progress.update(bar, description=description)
        for seconds in interleave(steps, repeats, seed, steps_per_repeat, synchronise, clock,
                                  after_each=lambda: progress.advance(bar)):
            for name in [name for name in steps if 'note' in rows[name]]:
                del steps[name]
                rows[name]['seconds'] = []  # half of a measurement is none
                for key in ('median_seconds', 'quartile_seconds', 'images_per_second', 'ratios'):
                    rows[name].pop(key, None)
                _free(setting.device)
            for name in steps:
                rows[name]['seconds'].append(seconds[name])
            for name in steps:
                row = rows[name]
                lower, median, upper = quartiles(row['seconds'])
                row.update(
                    median_seconds=median, quartile_seconds=[lower, upper], images_per_second=row['batch'] / median,
                    ratios={peer: speed_ratio(row['seconds'], rows[peer]['seconds'])
                            for peer in row['peers'] if peer in steps})
            yield list(rows.values())
    steps.clear()
    _free(setting.device)


def _warm(one, setting, row, synchronise, advance):
    """TrainingStep | InferenceStep: Built and warmed up; its memory and, if it compiles, the time of that are noted."""
    step = one.build(replace(setting))
    start = time.perf_counter()
    for number in range(WARM_UP):
        step()
        if number == 0 and setting.compiled:
            synchronise()
            row['compile_seconds'] = time.perf_counter() - start
        advance()
    row['step_bytes'] = peak_bytes(step, setting.device)
    if setting.device.type == 'cuda':
        row['reserved_bytes'] = torch.cuda.max_memory_reserved(setting.device)
    row['weight_bytes'] = storage_bytes([*step.model.parameters(), *step.model.buffers()])
    row['optimizer_bytes'] = storage_bytes(step.optimizer_tensors())
    return step


class _Guarded:
    """A step that is not done again once it has failed, with a note of that in its row."""

    def __init__(self, step, row):
        self.step, self.row = step, row

    def __call__(self):
        try:
            if self.step:
                self.step()
        except Exception as error:
            self.row['note'] = failure(error)
            self.step = error.__traceback__ = None


def failure(error: Exception) -> str:
    """What a contestant failed by, in a few words."""
    if isinstance(error, torch.OutOfMemoryError):
        return 'out of memory'
    lines = str(error).strip().splitlines()
    return printable(f'{type(error).__name__}: {lines[0][:100]}' if lines else type(error).__name__)


def _free(device):
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.empty_cache()


@contextmanager
def _products(precision):
    """Within this block float32 products are as `precision` says: TF32, or as they were."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = before or precision == 'tf32'
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


ON_SOME = (('reserved_bytes', 'reserved\nMiB', 2**20), ('compile_seconds', 'compile\ns', 1))
"""Columns of tables of GPUs, of compiled contestants: key, title and unit."""


def report(rows, facts, path):
    """Print a table, write it, and draw the ratios.

    Args:
        rows (list[dict]): From `measure`.
        facts (dict): What they were measured on.
        path (Path): Of the files, without suffix.
    """
    comparisons = {}
    for row in rows:
        comparisons.setdefault(_setting(row), []).append(row)
    tables = []
    for setting, members in comparisons.items():
        group, size, precision, compiled, batch = setting
        peers = list(dict.fromkeys(peer for row in members for peer in row['peers']))
        table = Table(
            ['contestant', 'images/s', 'ms', 'IQR\nms', *(f'× {peer.partition("/")[2].replace("-", " ")}' for peer in peers),
             'weights\nMiB', 'moments\nMiB', 'step\nMiB',
             *(title for key, title, _ in ON_SOME if any(key in row for row in members))], [],
            f'{group}, {members[0]["arch"]}, {size} px, {precision}{", compiled" * compiled}, batch {batch}, '
            f'{max(len(row["seconds"]) for row in members)} repeats')
        for row in members:
            ratios = row.get('ratios', {})
            table.rows.append([
                row['name'].partition('/')[2] + (f': {row["note"]}' if 'note' in row else ''),
                *((f'{row["images_per_second"]:.2f}', f'{1000 * row["median_seconds"]:.1f}',
                   f'{1000 * (row["quartile_seconds"][1] - row["quartile_seconds"][0]):.1f}')
                  if row['seconds'] else ('', '', '')),
                *(f'{ratios[peer]:.2f}' if peer in ratios else '' for peer in peers),
                *(f'{row[key] / 2**20:.0f}' if key in row else ''
                  for key in ('weight_bytes', 'optimizer_bytes', 'step_bytes')),
                *(f'{row[key] / unit:.0f}' if key in row else ''
                  for key, _, unit in ON_SOME if any(key in other for other in members))])
        tables.append(table)
    if any(row.get('ratios') for row in rows):
        speed_figure(list(comparisons.values())).savefig(path.with_suffix('.png'), dpi=150)
    _write(tables, facts, path)


def _setting(row):
    """tuple: What rows of one table share ("as shipped" but nominally)."""
    return row['name'].partition('/')[0], row['size'], row['precision'], row['compiled'], row['batch']


def _write(tables, facts, path):
    console = Console()
    text = f'# {path.name}\n\n' + ''.join(f'- {name}: {value}\n' for name, value in facts.items())
    for table in tables:
        shown = TerminalTable(title=table.title, box=box.SIMPLE_HEAD, padding=0, show_edge=False, title_justify='left')
        for i, column in enumerate(table.columns):
            shown.add_column(column, justify='right' if i else 'left', min_width=5 if i else 14)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown, '')
        header = [column.replace('\n', ' ') for column in table.columns]
        text += f'\n{table.title}\n\n{markdown_table(header, table.rows, len(header) - 1)}'
    write_whole(path.with_suffix('.md'), text)
    written = ', '.join(map(str, sorted(path.parent.glob(f'{path.name}.*'))))
    console.print(f'Written: {written}', highlight=False, soft_wrap=True)


def _profile(args, device, facts, out):
    found = {one.name.removeprefix('pretrain/'): one for one in pick(contestants(), ['pretrain/*'], device)}
    one = found[choice('--profile', args.profile, found)]
    batch = args.batch_size[0] if args.batch_size else BATCHES[device.type]['pretrain']
    setting = Setting(args.arch, device, (args.sizes or SIZES['pretrain'])[0], batch, args.precision[0], seed=args.seed)
    check_size(one, setting.size)
    for path in filter(None, (out / 'profile.json', args.trace)):
        check_writable(str(path))
    step = one.build(setting)
    for _ in range(WARM_UP):
        step()
    parts, operators = profile_step(step, device, args.repeats, args.trace)
    total = sum(map(sum, parts.values()))
    where = 'kernels' if device.type == 'cuda' else 'operators'
    rows = [[part, *(f'{1000 * value:.1f}' if value else '' for value in (forward, backward)),
             f'{100 * (forward + backward) / total:.1f}']
            for part, (forward, backward) in sorted(parts.items(), key=lambda item: -sum(item[1]))]
    passes = [sum(values) for values in zip(*parts.values(), strict=True)]
    rows.append(['all', *(f'{1000 * value:.1f}' for value in passes), '100.0'])
    table = Table(['part', 'forward ms', 'backward ms', 'share %'], rows,
                  f'{one.title}, {args.arch}, {setting.size} px, {setting.precision}, batch {batch}: {1000 * total:.1f} '
                  f'ms in {where} per step, mean of {args.repeats}')
    longest = Table(['operator', 'calls', 'ms', 'share %'], [
        [name, f'{calls:.0f}', f'{1000 * seconds:.1f}', f'{100 * seconds / total:.1f}']
        for name, calls, seconds in operators[:15]], 'Longest operators')
    write_metrics(dict(facts, name=one.name, arch=args.arch, size=setting.size, batch=batch, precision=setting.precision,
                       repeats=args.repeats, seconds_forward_backward=parts, operators=operators), out / 'profile.json')
    _write([table, longest], facts, out / 'profile')


def _in_words(group, setting):
    return f'{group} {setting.size} px {setting.precision}{" compiled" * setting.compiled} batch {setting.batch}'


def commit():
    """str: Of the checkout, '-dirty' if it was changed; '' outside of one."""
    command = ['git', '-C', CHECKOUT, 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()
