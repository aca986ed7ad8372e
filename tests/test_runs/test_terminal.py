"""What `coma-mm runs` and `coma-mm compare` print."""
import subprocess
import sys

import pytest

from coma_mm.errors import UserError
from coma_mm.runs import comparing, listing

from ..helpers.made_runs import write_run


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_runs_are_listed_with_state_progress_metric_and_why(tmp_path, capsys):
    write_run(tmp_path / 'a', values=(1., 2., 4., 3.))
    write_run(tmp_path / 'more/b', ending=dict(state='failed', why='CUDA out of memory'))
    (tmp_path / 'photos').mkdir()
    listing.show(tmp_path)
    out = capsys.readouterr().out
    assert rows(out)[2:4] == [
        'a finished 4 of 4 ep. mIoU 3 4 @ 3 35 min 00 s –'.split(),
        'more/b failed 2 of 4 ep. mIoU 60 60 @ 2 15 min 00 s –'.split()]
    assert 'more/b failed: CUDA out of memory\n' in out and 'photos: no run (no run in it)\n' in out
    listing.show(tmp_path / 'photos')
    assert capsys.readouterr().out.startswith(f'no run under {tmp_path}/photos; coma-mm train writes them to ')


def test_watching_shows_what_has_changed_until_it_is_interrupted(tmp_path, capsys):
    write_run(tmp_path / 'a')

    def sleep(seconds):
        assert seconds == 7
        if (tmp_path / 'b').exists():
            raise KeyboardInterrupt
        write_run(tmp_path / 'b')

    listing.show(tmp_path, 7, sleep)
    first, second = capsys.readouterr().out.split('Ctrl-C ends it')[:2]
    assert '\nb ' not in first and '\nb ' in second


def test_runs_are_compared_by_what_differs_and_at_the_same_epochs(tmp_path, capsys):
    write_run(tmp_path / 'x/a', values=(10., 20., 30.), lr=.2)
    write_run(tmp_path / 'x/b', values=(15., 25.))
    (tmp_path / 'x/b/epoch_2.pth').touch()
    comparing.show([str(tmp_path / 'x/a'), str(tmp_path / 'x/b/epoch_2.pth')])
    found = rows(capsys.readouterr().out)
    for row in ('a b/epoch_2.pth', 'Best 30 @ 3 25 @ 2', 'Last 30 @ 3 25 @ 2', 'Took 25 min 00 s 15 min 00 s',
                'Images/s 8 8', 'optim_wrapper.optimizer.lr 0.2 0.1', 'mIoU by epoch', '1 10 15', '2 20 25 ←', '3 30 –'):
        assert row.split() in found, row


def test_runs_of_other_metrics_have_no_table_and_a_metric_that_none_has_is_refused(tmp_path, capsys):
    paths = [str(write_run(tmp_path / 'a')), str(write_run(tmp_path / 'b', scope='mmdet', metric='coco/bbox_mAP'))]
    comparing.show(paths)
    assert 'No mIoU of b.' in capsys.readouterr().out
    with pytest.raises(UserError, match='^--metric=mDice: these runs have none .*; they have mIoU, coco/bbox_mAP$'):
        comparing.show(paths, 'mDice')
    with pytest.raises(UserError, match=f'^compare needs two runs or more, and {paths[0]} is one; name another'):
        comparing.show(paths[:1])


def test_a_long_run_is_shown_at_epochs_that_all_have(tmp_path):
    long, short = [(step, 1.) for step in range(1, 301)], [(step, 2.) for step in range(10, 301, 10)]
    table = comparing.by_step([long, short], [7, None])
    assert len(table) == comparing.ROWS + 1 and [row[0] for row in table if row[2] == '–'] == ['7'] and table[0][1] == '1 ←'


def test_a_list_of_runs_needs_neither_torch_nor_the_libraries(tmp_path):
    write_run(tmp_path / 'a')
    code = (f"import sys; sys.argv = ['coma-mm', 'runs', {str(tmp_path)!r}]\nfrom coma_mm.commands import main\n"
            "try:\n    main()\nfinally:\n    print([name for name in ('torch', 'mmengine') if name in sys.modules])")
    ran = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True)
    assert ran.returncode == 0 and ran.stdout.endswith('[]\n') and 'mIoU' in ran.stdout, ran.stderr
