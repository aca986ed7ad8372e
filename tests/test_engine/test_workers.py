"""How many processes load data."""
import os

import pytest
import torch

from coma_mm.config.read import read_config
from coma_mm.engine import workers
from coma_mm.engine.workers import loader_workers
from coma_mm.errors import UserError

from .test_runs import ComaRunner, log_of, make_cfg


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for variable in ('SLURM_CPUS_PER_TASK', 'LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE'):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(('cores', 'variables', 'expected'), [
    (16, {}, (15, '16 cores')),  # one GPU
    (96, dict(LOCAL_WORLD_SIZE='8'), (11, '96 cores for 8 processes')),
    (32, dict(OMPI_COMM_WORLD_LOCAL_SIZE='4'), (7, '32 cores for 4 processes')),
    (96, dict(SLURM_CPUS_PER_TASK='10'), (9, '10 cores')),  # a process started by srun
    (96, dict(SLURM_CPUS_PER_TASK='48', LOCAL_WORLD_SIZE='4'), (11, '48 cores for 4 processes')),  # torchrun in a job
    (8, dict(LOCAL_WORLD_SIZE='8'), (1, '8 cores for 8 processes')),
    (1, {}, (1, '1 core')), (2, {}, (1, '2 cores')), (128, {}, (workers.MOST, '128 cores')),
    (16, dict(SLURM_CPUS_PER_TASK='', LOCAL_WORLD_SIZE='x'), (15, '16 cores'))])
def test_each_process_takes_its_share_of_the_cores_but_one(monkeypatch, cores, variables, expected):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: set(range(cores)))
    monkeypatch.setattr(os, 'cpu_count', lambda: 128)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert loader_workers() == expected


def test_auto_is_the_runners_to_count_and_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, 'loader_workers', lambda: (3, '4 cores'))
    cfg = make_cfg(tmp_path)
    cfg.train_dataloader.update(num_workers='auto', persistent_workers=True)
    runner = ComaRunner.from_cfg(cfg)
    assert runner.train_dataloader.num_workers == 3
    assert runner.cfg.train_dataloader.num_workers == 'auto'  # as its author wrote it
    assert log_of(runner).count("train_dataloader.num_workers='auto': 3, of 4 cores\n") == 1


FOLDER = 'coma_mm::coma/coma_dyvit-base_8xb512-amp-coslr-300e_folder.py'


def test_pre_training_leaves_it_open_and_a_number_wins():
    assert read_config(FOLDER).train_dataloader.num_workers == 'auto'
    cfg = read_config(FOLDER, {'train_dataloader.num_workers': 2})
    assert cfg.train_dataloader.num_workers == 2
    assert torch.utils.data.DataLoader([1], num_workers=cfg.train_dataloader.num_workers).num_workers == 2
    with pytest.raises(UserError, match="num_workers='some': expected a whole number, 0 or more, or 'auto'"):
        read_config(FOLDER, {'train_dataloader.num_workers': 'some'})
