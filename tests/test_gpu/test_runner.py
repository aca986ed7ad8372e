"""`make gpu`'s runner: whatever a part does, the results of the others are there, and its own up to then."""
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..campaigns.gpu.runner import Campaign, Part

WAYS = {
    'good': '',
    'crash': "raise RuntimeError('no kernel image')",
    'dead before': '',
    'hang': 'import time; time.sleep(60)',
    'with child': "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
                  'time.sleep(60)',
    'killed': 'import os; os.kill(os.getpid(), 9)',
    'broken': "print('{', file=open(folder + '/broken.json', 'w'), flush=True); raise SystemExit(3)",
}


def start(part, log, folder):
    """A process that waits for its turn, leaves one result and then does what its part's title says."""
    dead = 'raise SystemExit(1); ' if part.title == 'dead before' else ''
    code = f"{dead}import json; folder = {str(folder)!r}; print('waits', flush=True); input(); " \
           f"json.dump(dict(x=1), open(folder + '/first.json', 'w')); {WAYS[part.title]}"
    with open(log, 'wb') as out:
        return subprocess.Popen([sys.executable, '-S', '-c', code], stdin=subprocess.PIPE, stdout=out, stderr=out,
                                start_new_session=True)


def run(folder, *parts, seconds=60., together=1):
    """The lines that were said, and what is in the file."""
    campaign = Campaign(parts, start, Path(folder), dict(card='none'), seconds, together)
    lines = list(campaign.run())
    assert campaign.living == {}
    return lines, json.loads(Path(folder, 'results.json').read_text())['parts']


def part(name, way='good', seconds=0, limit=30, **more):
    return Part(name, way, '', seconds, limit, **more)


@pytest.fixture(autouse=True)
def no_time_for_imports(monkeypatch):
    monkeypatch.setattr('tests.campaigns.gpu.runner.STARTING', 0)


def test_a_part_that_fails_leaves_the_others_results_and_its_own(tmp_path):
    lines, found = run(tmp_path, part('a'), part('b', 'crash'), part('c', 'killed'), part('d', 'broken'),
                       part('e', 'hang', limit=0.6), part('f', 'with child', limit=0.6), part('g'))
    assert [one['ended'] for one in found.values()] == [
        'finished', 'ended with exit code 1', 'ended by SIGKILL', 'ended with exit code 3',
        'killed after 1 s, its limit', 'killed after 1 s, its limit', 'finished']
    assert all(one['results'] == dict(first=dict(x=1)) for one in found.values())
    assert found['b']['says'][-1] == 'RuntimeError: no kernel image' and 'says' not in found['a']
    assert 'b: ended with exit code 1 in 0 s\n    ' in lines[1] and 'no kernel image' in lines[1]


def test_the_file_is_renewed_after_every_part(tmp_path):
    campaign = Campaign([part('a'), part('b', 'hang')], start, tmp_path, dict(card='none'), 60)
    lines = campaign.run()
    next(lines)
    found = json.loads((tmp_path / 'results.json').read_text())
    assert [one['ended'] for one in found['parts'].values()] == ['finished', 'not reached'] and found['card'] == 'none'
    waiting = campaign.living['b']
    lines.close()  # as by Ctrl-C
    assert waiting.poll() is not None


def test_what_does_not_fit_is_left_out_and_said_and_what_is_shorter_still_runs(tmp_path):
    lines, found = run(tmp_path, part('a', seconds=5), part('b', seconds=50), part('c', seconds=1), seconds=20)
    assert [one['ended'].partition(':')[0] for one in found.values()] == ['finished', 'left out', 'finished']
    assert lines[1].startswith('b: left out: it needs some 50 s, and ') and lines[1].endswith(' s were left')
    assert found['b']['results'] == {}


def test_the_whole_ends_in_time(tmp_path):
    begun = time.monotonic()
    _, found = run(tmp_path, part('a', 'hang'), part('b', seconds=1), seconds=0.6)
    assert time.monotonic() - begun < 10
    assert found['a']['ended'] == 'killed after 1 s, when the time was over'
    assert found['b']['ended'].startswith('left out')


def test_only_parts_that_measure_no_time_run_side_by_side():
    parts = [part('a'), part('b', alone=False), part('c', alone=False), part('d', alone=False), part('e'), part('f')]

    def groups(together):
        campaign = Campaign(parts, start, Path(), {}, 1., together)
        return [''.join(one.name for one in group) for group in campaign._groups()]

    assert groups(1) == ['a', 'b', 'c', 'd', 'e', 'f']
    assert groups(2) == ['a', 'bc', 'd', 'e', 'f']
    assert groups(4) == ['a', 'bcd', 'e', 'f']


def test_a_part_that_dies_before_its_turn_is_noted(tmp_path):
    _, found = run(tmp_path, part('a', 'hang', limit=0.6), part('b', 'dead before'), part('c'))
    assert [one['ended'] for one in found.values()] == ['killed after 1 s, its limit', 'ended with exit code 1', 'finished']
    assert found['b']['results'] == {}


def test_parts_side_by_side_end_each_for_itself(tmp_path):
    begun = time.monotonic()
    _, found = run(tmp_path, part('a', 'hang', limit=1, alone=False), part('b', 'crash', alone=False),
                   part('c', alone=False), together=3)
    assert [one['ended'] for one in found.values()] == ['killed after 1 s, its limit', 'ended with exit code 1', 'finished']
    assert time.monotonic() - begun < 10
