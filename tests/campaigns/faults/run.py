#!/usr/bin/env python
"""Stop runs in every way that machines stop them, resume them, and compare the final bits with a run left alone.

    python tests/campaigns/faults/run.py [--stops 100] [--seed 0] [--task TASK ...] [--out docs/results/faults.json]

Each task is trained once without a fault. Then it is trained again and again, and each start is stopped at a random moment
in a random one of the ways in `FAULTS`, until `--stops` stops were made; the start that is left alone finishes the run,
whose weights, optimiser state and schedules must equal those of the first to the last bit. The exit code is 1 if any
do not, or if a start fails.
"""
import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))
os.environ.setdefault('OMP_NUM_THREADS', '1')

import torch  # noqa: E402

import coma_mm  # noqa: E402, F401
from coma_mm.commands import exit_with  # noqa: E402
from coma_mm.config.read import read_config  # noqa: E402
from coma_mm.engine.train import train  # noqa: E402
from coma_mm.errors import EXIT_STOPPED  # noqa: E402
from coma_mm.prepare.shapes import write_shapes  # noqa: E402
from coma_mm.processes import leave_when_told_to_stop  # noqa: E402
from coma_mm.visualization.logs import environment  # noqa: E402
from coma_mm.weights import load_weights_only  # noqa: E402
from coma_mm.weights.load import latest_checkpoint  # noqa: E402

COMMON = {
    'train_dataloader.num_workers': 2, 'val_dataloader.num_workers': 1, 'default_hooks.logger.interval': 1,
    'default_hooks.checkpoint.by_epoch': False, 'default_hooks.checkpoint.interval': 2,
    'default_hooks.checkpoint.max_keep_ckpts': 3, 'model.backbone.drop_path_rate': 0.2, 'train_cfg.max_epochs': 3,
    'param_scheduler.1.end': 3, 'env_cfg.mp_cfg.mp_start_method': 'fork',
}
TASKS = {
    'pretrain': ('coma_dyvit-tiny_shapes', {
        'train_dataloader.batch_size': 8, 'model.decoder.mask_token': 'noise', 'optim_wrapper.accumulative_counts': 3}),
    'classify': ('dyvit-tiny_scratch_shapes', {
        'train_dataloader.batch_size': 4, 'default_hooks.checkpoint.save_best': 'accuracy/top1'}),
    'upernet': ('upernet_dyvit-tiny_scratch_shapes', {
        'train_dataloader.batch_size': 4, 'default_hooks.checkpoint.save_best': 'mIoU'}),
    'mask-rcnn': ('mask-rcnn_dyvit-tiny_scratch_shapes', {
        'train_dataloader.batch_size': 4, 'default_hooks.checkpoint.save_best': 'auto'}),
}
"""The config of each task, and options beside `COMMON`: checkpoints in mid-epoch, between two updates, and often."""


def start(task, folder, clock=0., log=None):
    """int: Process id of a child that trains, resuming what is in `folder`; in a process group of its own.

    Its clock is wrong by `clock` seconds; its output goes to `log`, by default FOLDER.log.
    """
    config, options = TASKS[task]
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a shell's background it is ignored
    leave_when_told_to_stop()
    right = time.time
    time.time = lambda: right() + clock
    log = os.open(log or f'{folder}.log', os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def tool():
        cfg = read_config(str(ROOT / f'configs/shapes/{config}.py'), {**COMMON, **options}, str(folder), resume='auto')
        train(cfg, [dict(type='StopHook')])

    code = 1
    try:
        exit_with(tool)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid, seconds=None, until=None):
    """int | None: A child's exit code, negative for a signal; None if it still runs when `seconds` are over or `until()`."""
    end = time.monotonic() + (seconds or 600)
    while time.monotonic() < end and not (until and until()):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    if seconds is None:
        raise TimeoutError(f'process {pid} does not end')
    return None


def kill(pid, folder, rng):
    """SIGKILL; the loader's workers die with the run."""
    os.kill(pid, signal.SIGKILL)


def kill_while_saving(pid, folder, rng):
    """SIGKILL as soon as a checkpoint is being written."""
    if wait(pid, 20, lambda: any(Path(folder).glob('*.tmp'))) is None:
        os.kill(pid, signal.SIGKILL)
    else:
        raise ProcessLookupError


def kill_while_validating(pid, folder, rng):
    """SIGKILL as soon as a validation has begun."""
    log = Path(f'{folder}.log')
    if wait(pid, 20, lambda: b'(val)' in log.read_bytes()) is None:
        os.kill(pid, signal.SIGKILL)
    else:
        raise ProcessLookupError


def leave_a_lock(pid, folder, rng):
    """SIGKILL; the lock that it leaves is that of a machine which has gone, or a part of one."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    text = json.dumps(dict(host='gone', pid=1, started='1', since='2026-01-01 00:00:00', command='train'))
    if Path(folder).is_dir():
        Path(folder, '.lock').write_text(text[:rng.choice([0, 20, len(text)])])


def start_another(pid, folder, rng):
    """A second run in the same folder, which must be refused, then SIGKILL to the first."""
    task = Path(folder).parent.name
    os.kill(pid, signal.SIGSTOP)  # else it could end before the second one has started
    if not Path(folder, '.lock').exists():  # it has not begun, or is just finishing
        os.kill(pid, signal.SIGKILL)
        return
    code = wait(start(task, folder, log=f'{folder}.second.log'))
    if code != 2 or 'is in use' not in Path(f'{folder}.second.log').read_text():
        raise RuntimeError(f'a second run in {folder} was not refused: exit code {code}')
    os.kill(pid, signal.SIGKILL)


def terminate(pid, folder, rng):
    """SIGTERM to the main process."""
    os.kill(pid, signal.SIGTERM)


def terminate_all(pid, folder, rng):
    """SIGTERM to all processes of the run, the loader's workers too, as schedulers send it."""
    for process in (*workers(pid), pid):
        os.kill(int(process), signal.SIGTERM)


def warn(pid, folder, rng):
    """SIGUSR1 to all processes, Slurm's warning."""
    for process in (*workers(pid), pid):
        os.kill(int(process), signal.SIGUSR1)


def interrupt(pid, folder, rng):
    """SIGINT to all processes: Ctrl-C."""
    os.killpg(pid, signal.SIGINT)


def kill_worker(pid, folder, rng):
    """SIGKILL to one worker of a data loader, as the kernel does when memory is short."""
    if children := workers(pid):
        os.kill(int(rng.choice(children)), signal.SIGKILL)


def workers(pid):
    """list[str]: Process ids of a run's children."""
    return Path(f'/proc/{pid}/task/{pid}/children').read_text().split()


def damage(pid, folder, rng):
    """SIGKILL; the newest checkpoint is cut, emptied or has a bit flipped, and the files' times are anything."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    note = Path(folder, 'last_checkpoint')
    path = Path(note.read_text()) if note.is_file() else None
    if path and path.is_file() and len(list(Path(folder).glob('*.pth'))) > 1:
        content = bytearray(path.read_bytes())
        kind = rng.choice(['cut', 'empty', 'flip'])
        if kind == 'flip':
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(dict(cut=content[:rng.randrange(1, len(content))], empty=b'', flip=content)[kind])
    for path in Path(folder).glob('*.pth'):  # as if the clock had been changed
        os.utime(path, (rng.uniform(0, 4e9), ) * 2)


FAULTS = [kill, kill_while_saving, kill_while_saving, kill_while_validating, leave_a_lock, start_another, terminate,
          terminate_all, warn, interrupt, kill_worker, damage]


def final(folder):
    """dict: All that training left: the last checkpoint, the best one, and the metrics of every validation."""
    checkpoint = load_weights_only(latest_checkpoint(str(folder)))
    best = {path.name: load_weights_only(path)['state_dict'] for path in Path(folder).glob('best_*.pth')}
    curve = {}
    for file in sorted(Path(folder).glob('*/vis_data/scalars.json')):
        for entry in map(json.loads, filter(lambda line: line.endswith('}'), file.read_text().splitlines())):
            if 'loss' not in entry:
                curve[entry['step']] = {key: value for key, value in entry.items() if key not in ('time', 'data_time')}
    return dict(
        iterations=checkpoint['meta']['iter'], weights=checkpoint['state_dict'], best=best, validations=curve,
        optimizer=checkpoint['optimizer']['state'], schedules=checkpoint['param_schedulers'])


def same(a, b):
    """bool: Whether nested values are equal, tensors to the bit."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def campaign(task, stops, seed, folder):
    """Stop and resume runs of one task.

    Returns:
        dict: `stops` by fault, `runs` finished, how many of them were `equal`, and `failures`, one line each.
    """
    rng = random.Random(f'{task}{seed}')
    begun = time.monotonic()
    code = wait(start(task, folder / 'whole'))
    length = time.monotonic() - begun
    if code:
        raise RuntimeError(f'{task}: the run without a fault failed:\n' + (folder / 'whole.log').read_text()[-2000:])
    expected, again = final(folder / 'whole'), folder / 'again'
    counts, failures, runs, equal = collections.Counter(), [], 0, 0
    left = stops
    while left or again.exists():
        fault = rng.choice(FAULTS) if left else None
        pid = start(task, again, rng.uniform(-1e9, 1e9))
        begun = time.monotonic()
        code = wait(pid, rng.uniform(0, 1.2) * length if fault else None)
        if code is None:
            try:
                fault(pid, again, rng)
                left -= 1
                counts[fault.__name__] += 1
            except ProcessLookupError:  # it was just finishing
                pass
            except RuntimeError as error:
                failures.append(str(error))
            try:
                code = wait(pid)
            except ChildProcessError:  # waited for by the fault
                code = -signal.SIGKILL
            allowed = {0, EXIT_STOPPED, -signal.SIGKILL}
            if fault is kill_worker:
                allowed |= {1, 2}
            if code not in allowed:
                failures.append(f'{task}: {fault.__name__}: exit code {code}: {tail(again)}')
        elif code:
            failures.append(f'{task}: a start failed with {code}: {tail(again)}')
            break
        else:
            length = min(length, time.monotonic() - begun)  # the first run had a busier machine
        if code == 0 and again.exists():
            runs += 1
            equal += same(final(again), expected)
            shutil.rmtree(again)
    return dict(stops=dict(counts), runs=runs, equal=equal, failures=failures, seconds_of_a_run=round(length, 1))


def two_processes(stops, seed, folder):
    """Stop pre-training in two processes: one of them killed, all killed, or SIGTERM, SIGUSR1 or SIGINT to torchrun.

    torchrun starts the processes again by itself when one dies; what else ends is started again with `--resume`.

    Returns:
        dict: As `campaign`.
    """
    config, options = TASKS['pretrain']
    options = {**COMMON, **options, 'train_dataloader.batch_size': 4}
    command = ['tools/dist_train.sh', f'configs/shapes/{config}.py', '2', '--resume', '--cfg-options',
               *(f'{key}={value}' for key, value in options.items())]
    environ = {**os.environ, 'PYTHON': sys.executable, 'MAX_RESTARTS': '1000', 'PYTHONPATH': str(ROOT)}

    def launch(name):
        with open(folder / f'{name}.log', 'wb') as log:
            return subprocess.Popen([*command, '--work-dir', str(folder / name)], cwd=ROOT, env=environ, stdout=log,
                                    stderr=log, start_new_session=True).pid

    def ranks(pid):
        return [int(child) for child in workers(pid) if b'train.py' in Path(f'/proc/{child}/cmdline').read_bytes()]

    rng = random.Random(f'two processes{seed}')
    begun = time.monotonic()
    if code := wait(launch('whole')):
        raise RuntimeError(f'two processes: the run without a fault failed with {code}: {tail(folder / "whole")}')
    length = time.monotonic() - begun
    expected, again = final(folder / 'whole'), folder / 'again'
    counts, failures, runs, equal = collections.Counter(), [], 0, 0
    left = stops
    while left or again.exists():
        pid, fault, code = launch('again'), None, None
        begun = time.monotonic()
        while left and (code := wait(pid, rng.uniform(0.2, 1.2) * length)) is None:
            fault = rng.choice(['kill_one', 'kill_one', 'kill_all', 'SIGTERM', 'SIGUSR1', 'SIGINT'])
            try:
                if fault == 'kill_one':
                    os.kill(rng.choice(ranks(pid)), signal.SIGKILL)
                elif fault == 'kill_all':
                    for process in (*ranks(pid), pid):
                        os.kill(process, signal.SIGKILL)
                else:
                    os.kill(pid, getattr(signal, fault))
            except (OSError, IndexError):  # it was just starting or finishing
                continue
            left -= 1
            counts[fault] += 1
            if fault != 'kill_one':
                break
        if code is None:
            code = wait(pid)
        if not fault:
            length = min(length, time.monotonic() - begun)  # the first run had a busier machine
        if code not in (0, EXIT_STOPPED, -signal.SIGKILL) or (code and not fault):
            failures.append(f'two processes: after {fault}: exit code {code}: {tail(again)}')
            break
        if code == 0 and again.exists():
            runs += 1
            equal += same(final(again), expected)
            shutil.rmtree(again)
    return dict(stops=dict(counts), runs=runs, equal=equal, failures=failures, seconds_of_a_run=round(length, 1))


def full_disks(task, folder):
    """Train on disks that are full at different moments, then on a larger one; needs root, for the disks.

    The smallest has no room for the lock, then for the log, the curves, a checkpoint, the second one, the best one.

    Returns:
        dict: `disks`, exit codes on the small ones (0: trained; 2: something could not be saved), whether all results are
        `equal` after more room was made, and `failures`.
    """
    expected, checkpoint = final(folder / 'whole'), max(path.stat().st_size for path in (folder / 'whole').glob('*.pth'))
    disk, codes, equal, failures = folder / 'disk', [], True, []
    disk.mkdir()
    for size in (4, 8, 16, 32, 64, *(int(share * checkpoint) // 1024 for share in (0.5, 1.05, 1.5, 2.1, 3.1))):
        subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size}k', 'tmpfs', disk], check=True)
        try:
            codes.append(wait(start(task, disk / 'run', log=folder / 'disk.log')))
            if codes[-1] not in (0, 2):
                failures.append(f'{task}: exit code {codes[-1]} on a disk of {size} kB: {tail(disk)}')
            subprocess.run(['mount', '-o', f'remount,size={20 * checkpoint // 1024}k', disk], check=True)
            second = wait(start(task, disk / 'run', log=folder / 'disk.log'))
            if second or not same(final(disk / 'run'), expected):
                equal = False
                failures.append(f'{task}: after a full disk of {size} kB: exit code {second}: {tail(disk)}')
        finally:
            subprocess.run(['umount', disk], check=True)
    return dict(disks=len(codes), codes=codes, equal=equal, failures=failures)


def tail(folder):
    """str: The last line of a run's output."""
    return (Path(f'{folder}.log').read_text().strip().splitlines() or [''])[-1][:300]


def main():
    """Run the campaigns and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--stops', type=int, default=100, help='for all tasks together (default: 100)')
    parser.add_argument('--seed', type=int, default=0)
    every = [*TASKS, 'two-processes']
    parser.add_argument('--task', nargs='+', choices=every, default=every)
    parser.add_argument('--out', type=Path, help='a JSON file for the counts')
    args = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix='faults') as folder:
        os.environ['SHAPES_ROOT'] = f'{folder}/shapes'
        write_shapes(f'{folder}/shapes', dict(unlabelled=60, train=24, val=4, test=4), size=64, progress=False)
        for task in args.task:
            (Path(folder) / task).mkdir()
            if task == 'two-processes':
                results[task] = two_processes(args.stops // len(args.task), args.seed, Path(folder) / task)
                print(task, json.dumps(results[task]), flush=True)
                continue
            results[task] = campaign(task, args.stops // len(args.task), args.seed, Path(folder) / task)
            if os.geteuid() == 0:
                results[task]['full_disks'] = full_disks(task, Path(folder) / task)
            print(task, json.dumps(results[task]), flush=True)
    if args.out:
        args.out.write_text(json.dumps(dict(seed=args.seed, tasks=results, environment=environment()), indent=2) + '\n')
    disks = [result['full_disks']['equal'] for result in results.values() if 'full_disks' in result]
    return int(not all(disks) or any(result['failures'] or result['equal'] < result['runs'] for result in results.values()))


if __name__ == '__main__':
    sys.exit(main())
