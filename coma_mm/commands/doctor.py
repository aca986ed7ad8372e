"""Look whether this machine is ready to train, a line for each thing that it takes, with its remedy (docs/install.md).

ok: fine. look: it works, and may be slow or fail later. bad: it does not work. With CONFIG its data are read and its model
is trained for some seconds, without a trace, to see whether images come as fast as the model takes them.

Exit code: 0 nothing is bad, 1 something is, 2 bad usage.
"""
import argparse
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from coma_mm.benchmark.doctor import BAD, Finding, examine

if TYPE_CHECKING:
    from coma_mm.benchmark.doctor.supply import Planned

REGISTERS = False  # what cannot be imported is one of the findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument('config', nargs='?', metavar='CONFIG', help='config of a training that is to run here')
    parser.add_argument('--data', metavar='DIR', help="folder of images to read; with CONFIG, its data_root")
    parser.add_argument('--cfg-options', nargs='+', action='extend', metavar='KEY=VALUE',
                        help='settings that replace those of CONFIG')


def run(args: argparse.Namespace) -> None:
    """Look, and say what was found."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='replace')  # a terminal of few letters is one of the findings
    marks = []
    for finding in findings(args.config, args.data, args.cfg_options):
        print(finding, flush=True)
        marks.append(finding.mark)
    sys.exit(BAD in marks)


def findings(config: str | None = None, data: str | None = None, options: list[str] | None = None) -> Iterator[Finding]:
    """Look at everything.

    Args:
        config (str, optional): Of a training. Defaults to none.
        data (str, optional): Folder of images. Defaults to none, or to that of the config.
        options (list[str], optional): KEY=VALUE, for the config. Defaults to none.

    Yields:
        Finding: One after the other, as they are found.
    """
    from coma_mm.benchmark.doctor import machine
    yield from examine([('Python', machine.python), ('packages', machine.packages)])
    imported, = examine([('import', machine.imports)])
    yield imported
    works, planned = imported.mark != BAD, []
    if works:
        yield from examine([('GPU', machine.gpu)])
    if works and config:
        yield from examine([('config', partial(_plan, config, data, options, planned))])
    yield from _room(*planned)
    yield from examine([('open files', machine.open_files), ('terminal', machine.terminal)])
    if works and (planned or not config):
        yield from examine([('data', partial(_data, data, *planned))])


def _plan(config: str, data: str | None, options: list[str] | None, planned: list) -> Finding:
    from coma_mm.benchmark.doctor import supply
    from coma_mm.config.read import parse_options
    from coma_mm.engine.explain import explain
    try:
        planned.append(supply.plan(config, data, parse_options(options)))
    except Exception as error:
        line = explain(error)  # as a training says it
        if line is None:
            raise
        return Finding(BAD, 'config', line)
    return supply.of_config(*planned)


def _room(planned: 'Planned | None' = None) -> Iterator[Finding]:
    from coma_mm.benchmark.doctor import machine
    if planned is None:
        yield from examine([('cores', machine.cores), ('/dev/shm', machine.shared_memory), ('disk', machine.disk)])
        return
    from coma_mm.benchmark.doctor import supply
    cfg = planned.cfg
    yield from examine([
        ('cores', lambda: machine.cores(cfg.train_dataloader.num_workers)),
        ('/dev/shm', lambda: machine.shared_memory(supply.shared_bytes(planned))),
        ('disk', lambda: machine.disk(cfg.work_dir, supply.checkpoint_bytes(planned)))])


def _data(data: str | None, planned: 'Planned | None' = None) -> Finding:
    from coma_mm.benchmark.doctor import supply
    if planned is not None:
        return supply.of_training(planned)
    return supply.of_folder(data) if data else supply.of_nothing()
