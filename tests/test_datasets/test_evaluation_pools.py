"""Evaluation in several processes ends while the run listens to signals, and when a process is killed."""
import os
import signal

import pytest
from mmdet.datasets.api_wrappers import cocoeval_mp

from coma_mm.config.read import register_libraries
from coma_mm.datasets.evaluation_pools import EvaluationPool
from coma_mm.errors import UserError
from coma_mm.processes import listen


def handler(number):
    return signal.getsignal(number) == signal.SIG_IGN


def test_a_pool_ends_in_a_run_that_notes_signals_and_leaves_them_to_it():
    register_libraries('mmdet')
    listen(lambda number, frame: None)
    with cocoeval_mp.mp.Pool(2) as pool:
        assert pool.starmap(max, [(1, 2), (3, 2), (0, 0)]) == [2, 3, 0]
        assert pool.starmap(handler, [(signal.SIGTERM, ), (signal.SIGINT, )]) == [True, True]
    pool = EvaluationPool(processes=2)
    found = pool.apply_async(max, (4, 5))
    pool.close()
    pool.join()
    assert found.get() == 5


def test_many_short_tasks_go_to_the_processes_in_few_parts(monkeypatch):
    """mean_ap has one for each image and class."""
    submitted, submit = [], EvaluationPool.submit
    monkeypatch.setattr(EvaluationPool, 'submit', lambda *args: submitted.append(args) or submit(*args))
    with EvaluationPool(2) as pool:
        assert pool.starmap(max, []) == []
        assert pool.starmap(max, ((number, 5) for number in range(101))) == [max(number, 5) for number in range(101)]
    assert len(submitted) == 8


def test_a_killed_process_of_the_evaluation_is_said():
    listen(lambda number, frame: None)
    with pytest.raises(UserError, match='a process of the evaluation was killed .* leave out use_mp_eval, or set nproc=1'):
        with EvaluationPool(2) as pool:
            pool.starmap(os._exit, [(1, ), (1, )])
