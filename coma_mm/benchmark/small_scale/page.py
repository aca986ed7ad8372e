"""The study's part of its page, with a figure: all of it follows from the file of facts."""
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from coma_mm.benchmark.complement.page import machines, paired, read_facts_and_page, within
from coma_mm.files import write_whole
from coma_mm.markdown import fill, markdown_table

from .arms import AGAINST, BASES, GROUPS

MARK = 'small-study'
"""Of the part of a page that is written, `results`."""
FIGURE = 'small_study.png'
STAGES = ('stage 1', 'stage 2', 'stage 3', 'stage 4')
OUTCOMES = {
    'linear probe of stage 4': lambda point: point['linear'][-1],
    'k-NN of stage 4': lambda point: point['knn'][-1],
    'fine-tuned': lambda point: point.get('finetuned'),
}
"""What arms are compared by, of a point of a run."""
COLOURS = ('#9ecae1', '#4292c6', '#08519c', '#d94801')


class Results:
    """What is measured of the runs that are complete.

    Args:
        facts (dict): The study's part of the file of facts.
    """

    def __init__(self, facts: dict[str, Any]):
        self.facts, self.arms = facts, facts['arms']

    def by_seed(self, arm: str) -> dict[int, dict[str, Any]]:
        """The points of an arm's runs by seed, in their order; each has the same budgets, in ascending order."""
        return dict(sorted((one['settings']['seed'], one['points']) for one in self.facts['runs'].values()
                           if one['settings']['arm'] == arm))

    def runs(self, arm: str) -> list[dict[str, Any]]:
        """The points of an arm's runs in the order of the seeds."""
        return list(self.by_seed(arm).values())

    def shown(self) -> list[str]:
        """The arms that have runs, in the study's order."""
        return [arm for arm in self.arms if self.runs(arm)]

    def budgets(self, arm: str) -> list[str]:
        """The shares of the budget at which an arm was measured."""
        return sorted(self.runs(arm)[0], key=float)

    def values(self, arm: str, outcome: str, budget: str | None = None) -> np.ndarray:
        """The numbers of an outcome, (runs, ) or (runs, stages); at the end, unless a budget is given."""
        return np.array([(points[budget] if budget else _end(points))[outcome] for points in self.runs(arm)])


def _end(points: dict[str, Any]) -> dict[str, Any]:
    """The last of the points of a run, which are by the share of the budget."""
    return points[max(points, key=float)]


def write_page(facts: str | Path, page: str | Path) -> None:
    """Renew the part of a page that stands between marks, and write the figure beside it; see `read_facts_and_page`."""
    parts, text = read_facts_and_page(facts, page, MARK)
    page = Path(page)
    results = Results(parts['pretraining']) if 'pretraining' in parts else None
    written = []
    if results and results.shown():
        draw(results, page.with_name(FIGURE))
        written = [*filter(None, (table(results, group) for group in GROUPS)),
                   f'![Panels, one for each arm: the linear probe of each stage along training]({FIGURE})\n', _what(results)]
    if parts.get('scratch', {}).get('runs'):
        written.append(supervised(parts['scratch']))
    written = written or ['There is no result yet.\n']
    write_whole(page, fill(text, MARK, dict(results='\n'.join(written))))


def table(results: Results, group: str) -> str:
    """The tables of a question; empty while it has no runs."""
    own = [arm for arm in results.shown() if results.arms[arm]['group'] == group]
    if not own:
        return ''
    rows = []
    for arm in [*(arm for arm in BASES[group] if arm in results.shown()), *own]:
        probes, neighbours = (gained(results, arm, outcome) for outcome in ('linear', 'knn'))
        ends = [_end(points) for points in results.runs(arm)]
        closed, tuned = ([end.get(outcome) for end in ends] for outcome in ('closed', 'finetuned'))
        rows.append([
            f'`{arm}`', results.arms[arm]['title'] if arm in own else f'{results.arms[arm]["title"]}, as above',
            str(len(ends)), *probes, neighbours[-1], f'{results.values(arm, "rankme")[:, -1].mean():.1f}',
            *(f'{results.values(arm, outcome).mean():.4f}' for outcome in ('reconstruction', 'seen')),
            '' if None in closed else f'{np.mean(closed):.4f}', '' if None in tuned else spread(np.array(tuned))])
    header = ['arm', '', 'runs', *STAGES, 'k-NN of stage 4', 'RankMe of stage 4', 'error, held out', 'error, trained on',
              'held out, leak closed afterwards', 'fine-tuned']
    empty = [i for i in range(len(header)) if not any(row[i] for row in rows[-len(own):])]  # bases alone have it
    header, *rows = ([cell for i, cell in enumerate(row) if i not in empty] for row in (header, *rows))
    return '\n'.join([f'### {GROUPS[group]}', '', markdown_table(header, rows, len(header) - 2),
                      *differences(results, own), *weights(results, own), *from_scratch(results, own)])


def gained(results: Results, arm: str, outcome: str) -> list[str]:
    """What each stage has at the end, and in brackets what training has added to the same model at its start."""
    ends, starts = results.values(arm, outcome), results.values(arm, outcome, results.budgets(arm)[0])
    return [f'{spread(end)} ({gain:+.1f})' for end, gain in zip(ends.T, (ends - starts).mean(0), strict=True)]


def differences(results: Results, arms: Sequence[str]) -> list[str]:
    """A table of arms less those that they are compared with, at the end of each; none without two pairs of seeds."""
    rows = []
    for arm in arms:
        base = AGAINST.get(arm, '')
        found = [paired(*({seed: number for seed, points in results.by_seed(name).items()
                           if (number := value(_end(points))) is not None} for name in (arm, base)))
                 for value in OUTCOMES.values()]
        if found[0]:
            rows.append([f'`{arm}` - `{base}`', str(found[0].pairs), *(within(one, 1) if one else '' for one in found)])
    header = ['paired by seed, 95 % intervals', 'pairs', *OUTCOMES]
    return [markdown_table(header, rows, len(header) - 1)] if rows else []


def weights(results: Results, arms: Sequence[str]) -> list[str]:
    """What is learned as weights of the stages, a paragraph for each arm that learns them."""
    found = []
    for arm in arms:
        if all('stage_weights' in points['0'] for points in results.runs(arm)):
            values = [', '.join(f'{weight:.2f}' for weight in one) for one in results.values(arm, 'stage_weights')]
            found.append(f'Weights of the stages that `{arm}` has learned, seed by seed (1 at the start): '
                         f'{"; ".join(values)}.\n')
    return found


def from_scratch(results: Results, arms: Sequence[str]) -> list[str]:
    """What fine-tuning gives from the weights that an arm starts with, a sentence where it was measured."""
    found = {arm: np.array([points['0']['finetuned'] for points in results.runs(arm)]) for arm in arms
             if all('finetuned' in points['0'] for points in results.runs(arm))}
    return [f'Fine-tuned is top-1 in per cent; the weights that `{arm}` starts from have {spread(one)} %.\n'
            for arm, one in found.items()]


def supervised(facts: dict[str, Any]) -> str:
    """The table of the classifiers from scratch."""
    rows = []
    for model, one in facts['models'].items():
        runs = {(run['settings']['lr'], run['settings']['seed']): run['points']['1'] for run in facts['runs'].values()
                if run['settings']['model'] == model}
        first, chosen = min((seed for _, seed in runs), default=0), facts['chosen'].get(model)
        tests = np.array([run['test'] for (rate, _), run in sorted(runs.items()) if rate == chosen])
        rows.append([one['title'], f'{one["parameters"] / 1e6:.2f}',
                     *(f'{runs[rate, first]["val"]:.1f}' if (rate, first) in runs else '' for rate in facts['rates']),
                     f'{chosen:g}' if chosen else '', str(len(tests)), f'**{spread(tests)}**' if len(tests) else ''])
    header = ['model', 'M parameters', *(f'{rate:g}' for rate in facts['rates']), 'rate', 'runs', 'test']
    minutes = sum(run.get('seconds', 0) for run in facts['runs'].values()) / 60
    return '\n'.join(['### From scratch, each model at its own rate', '', markdown_table(header, rows, len(header) - 1),
                      'Top-1 in per cent on 1 000 easy scenes of 64 px: of each learning rate on the validation split, seed '
                      '0, and of the one chosen by it on the test split, mean ± standard deviation over the runs. '
                      f'{len(facts["runs"])} runs, {minutes:.0f} minutes of training. '
                      f'{machines(facts["runs"].values())}\n'])


def spread(values: np.ndarray) -> str:
    """The mean of some runs, and their standard deviation if there are several."""
    return f'{values.mean():.1f}' + (f' ± {values.std(ddof=1):.1f}' if len(values) > 1 else '')


def _what(results: Results) -> str:
    runs = list(results.facts['runs'].values())
    minutes = sum(one.get('seconds', 0) for one in runs) / 60
    commits = sorted({one['commit'][:9] for one in runs})
    images = {one['settings']['images']['digest']: one['settings']['images'] for one in runs}.values()
    sets = '; '.join(f'{one["pretraining"]} images to pre-train, {one["fit"]} to fit probes, {one["test"]} to test them, of '
                     f'which {one["held_out"]} are those held out' for one in images)
    return (f'Cells of stages: top-1 of a linear probe in per cent at the end, mean ± standard deviation over the runs, and '
            f'in brackets what training has added to the same model at its start; k-NN likewise. {sets}. {len(runs)} runs, '
            f'{minutes:.0f} minutes of training. Commits {", ".join(commits)}. '
            f'{machines(runs)}\n')


def draw(results: Results, path: Path, columns: int = 5) -> None:
    """The figure: for each arm the probe of each stage along training, the mean and the range of its runs."""
    arms = results.shown()
    columns = min(columns, len(arms))
    rows = -(-len(arms) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(2.3 * columns, .5 + 2 * rows), layout='constrained', squeeze=False)
    for axes in grid.flat[len(arms):]:
        axes.axis('off')
    for arm, axes in zip(arms, grid.flat, strict=False):
        budgets = results.budgets(arm)
        probes = np.stack([results.values(arm, 'linear', budget) for budget in budgets])  # budgets runs stages
        places = [float(budget) for budget in budgets]
        for stage, (title, colour) in enumerate(zip(STAGES, COLOURS, strict=True)):
            axes.plot(places, probes[..., stage].mean(1), color=colour, label=title, marker='o', markersize=2)
            axes.fill_between(places, probes[..., stage].min(1), probes[..., stage].max(1), color=colour, alpha=.2,
                              linewidth=0)
        axes.set_title(arm, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.spines[['top', 'right']].set_visible(False)
    for data in {one['settings']['images']['digest'] for one in results.facts['runs'].values()}:
        ours = [axes for arm, axes in zip(arms, grid.flat, strict=False) if any(
            one['settings']['arm'] == arm and one['settings']['images']['digest'] == data
            for one in results.facts['runs'].values())]
        limits = np.array([axes.get_ylim() for axes in ours])
        for axes in ours:
            axes.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    figure.supxlabel('share of the budget', fontsize=9)
    figure.supylabel('linear probe, top-1 %', fontsize=9)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc='outside upper center', ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)
