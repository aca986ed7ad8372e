"""Curves of the probes of a pre-training."""
import json

import pytest

from coma_mm.errors import UserError
from coma_mm.visualization import probe_figure


def write(run, *entries):
    folder = run / '20260101_000000/vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(map(json.dumps, entries)))
    return run


def test_each_kind_is_a_panel_and_each_stage_a_line(tmp_path):
    run = write(tmp_path, {'step': 0, 'probe/knn_stage1': 20., 'probe/rankme_stage1': 3., 'probe/rankme_stage2': 4.},
                {'step': 8, 'loss': 1., 'lr': .1}, {'step': 1, 'reconstruction/masked': 1., 'probe/knn_stage1': 30.},
                {'step': 16, 'loss': 1., 'lr': .1}, {'step': 2, 'reconstruction/masked': 1.})
    knn, rankme = probe_figure(run).axes
    assert knn.get_ylabel() == 'k-NN top-1, %' and knn.lines[0].get_xydata().tolist() == [[0, 20], [8, 30]]
    assert [line.get_label() for line in rankme.lines] == ['stage 1', 'stage 2']


def test_a_run_without_a_probe_is_said(tmp_path):
    with pytest.raises(UserError, match='no probe in the log of .*; expected a pre-training with --probe-root'):
        probe_figure(write(tmp_path, {'step': 8, 'loss': 1., 'lr': .1}))
