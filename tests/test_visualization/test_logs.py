import pytest
from mmengine.visualization import LocalVisBackend

from coma_mm.errors import UserError
from coma_mm.visualization import curve_figure, read_scalars
from coma_mm.visualization.logs import environment


def write(work_dir, name, entries):
    """Log as a run does: training entries with their iteration, validation entries with whatever the hook counts."""
    backend = LocalVisBackend(str(work_dir / name / 'vis_data'))
    for entry in entries:
        backend.add_scalars(entry, step=entry.get('iter', 0))


def train(step, loss):
    return dict(lr=.1, loss=loss, time=.5, data_time=.1, epoch=1, iter=step)


def val(**metrics):
    return dict({key.replace('__', '/'): value for key, value in metrics.items()}, data_time=.1, time=.2)


def test_a_resumed_run_is_one_curve(tmp_path):
    write(tmp_path, '20260101_000000',
          [train(10, 4.), val(mIoU=1.), train(20, 3.), val(mIoU=2.), train(30, 9.), val(mIoU=9.)])
    with open(tmp_path / '20260101_000000/vis_data/scalars.json', 'a') as file:
        file.write('{"lr": 0.1, "lo')  # killed while it wrote
    write(tmp_path, '20260101_010000', [train(30, 2.), train(40, 1.), val(mIoU=3.)])
    entries, vals = read_scalars(tmp_path)
    assert [(x['step'], x['loss']) for x in entries] == [(10, 4.), (20, 3.), (30, 2.), (40, 1.)]
    assert [(x['step'], x['mIoU']) for x in vals] == [(10, 1.), (20, 2.), (40, 3.)]


def test_curves(tmp_path):
    write(tmp_path / 'a', '1', [train(10, 2.), val(coco__bbox_mAP=.01), train(20, 1.), val(coco__bbox_mAP=.02)])
    write(tmp_path / 'b', '1', [train(10, 3.), train(20, 2.5)])
    runs = {'Pre-trained': tmp_path / 'a', 'From scratch': tmp_path / 'b'}
    ax, = curve_figure(runs, title='Loss of UperNet').axes
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[10, 2.], [20, 1.]], [[10, 3.], [20, 2.5]]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(runs)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ('Training iteration', 'loss', 'Loss of UperNet')
    first, second = ax.lines
    assert first.get_color() != second.get_color() and first.get_linestyle() != second.get_linestyle()

    write(tmp_path / 'tested', '1', [val(mIoU=1.)])
    with pytest.raises(UserError, match='no loss in the logs of .*tested'):
        curve_figure({'tested': tmp_path / 'tested'})
    with pytest.raises(UserError, match='no log of a run in .*nowhere'):
        curve_figure({'c': tmp_path / 'nowhere'})


def test_environment():
    import torch
    facts = environment()
    assert f'torch {torch.__version__}' in facts['Versions'] and 'cores' in facts['Processor']
    assert all(isinstance(value, str) and value for value in facts.values())
