"""The results of the study as a part of a page, with a figure: all of it follows from the file of facts."""
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from coma_mm.errors import UserError
from coma_mm.files import read_text, write_whole
from coma_mm.markdown import fill, markdown_table

from .study import CONTROL_BUDGET, MORE_CONTROL, SCRATCH, SECOND_LOOK, read_facts
from .verdicts import Difference, difference, holm, interval, verdict

MARK = 'complement-study'
"""Of the parts of pages that are written: `results`, and `photographs`, which is the README's."""
WHOLE = '1'
OUTCOMES = dict(linear='linear probe, top-1 %', knn='k-NN, top-1 %', rankme='RankMe', reconstruction='reconstruction error')
STAGED = ('linear', 'knn', 'rankme')
"""The outcomes that each stage has."""
FIGURE = 'complement_effects.png'
NOT_RECORDED = dict(Processor='not recorded')
"""Where runs of earlier versions were made."""


class Results:
    """The points of one scale's runs.

    Args:
        facts (dict): The scale's part of the file of facts.
    """

    def __init__(self, facts: dict[str, Any]):
        self.facts, self.decisions = facts, facts['decisions']
        self.stage = self.decisions.get('stage')
        self.fractions = [f'{fraction:g}' for fraction in facts['settings']['fractions']]

    @property
    def stages(self) -> int:
        """int: Their number."""
        return len(next(iter(self.points('P').values()))[WHOLE]['linear'])

    def points(self, arm: str, phase: str | None = None) -> dict[int, dict[str, dict]]:
        """What an arm's runs at the final budget have, by seed and budget; A's are in the course of P's."""
        factor = self.decisions.get('control_factor', 1.)
        arm = 'P' if arm == 'A' and phase != 'downstream' else arm
        return {one['settings']['seed']: one['points'] for one in self.facts['runs'].values()
                if one['settings']['arm'] == arm and one['settings']['factor'] == factor
                and (one['phase'] == phase if phase else one['phase'] not in ('pilot', 'downstream', 'fresh'))}

    def values(self, arm: str, budget: str = WHOLE, outcome: str = 'linear', phase: str | None = None,
               stage: int | None = None) -> dict[int, float]:
        """An arm's numbers by seed, of a stage or that of the primary outcome; P's whole budget is twice the others'."""
        budget = f'{CONTROL_BUDGET:g}' if arm == 'P' else budget
        found = {seed: points[budget][outcome] for seed, points in sorted(self.points(arm, phase).items())}
        stage = self.stage if stage is None else stage
        return {seed: one[stage] if isinstance(one, list) else one for seed, one in found.items()}

    def compare(self, first: str, second: str, **which: Any) -> Difference | None:
        """The difference first - second over the seeds that both have; None for fewer than two."""
        return paired(self.values(first, **which), self.values(second, **which))

    def confirmatory(self) -> Difference | None:
        """C - B over all of its pairs; None while some are missing."""
        found = self.compare('C', 'B', phase='main')
        return found if found and found.pairs == self.decisions.get('pairs') else None

    def confirmed(self, outcome: str = 'linear') -> dict[str, Difference]:
        """What beat A, less A, on fresh seeds alone; once all of them are run."""
        found = {arm: paired(self.values(arm, outcome=outcome, phase='fresh'), self.values('A', outcome=outcome))
                 for arm in self.decisions.get('candidates', ())}
        return {arm: one for arm, one in found.items() if one and one.pairs == len(MORE_CONTROL)}

    def exploratory(self) -> dict[tuple[str, str], Difference]:
        """All other comparisons of the primary outcome at the whole budget."""
        arms = [arm for arm in self.facts['arms'] if arm != 'A']
        pairs = [*((arm, 'A') for arm in arms), *((arm, 'C') for arm in arms if arm not in 'ABCP')]
        found = {pair: self.compare(*pair) for pair in pairs}
        return {pair: one for pair, one in found.items() if one}

    def tuned(self) -> dict[tuple[str, str], Difference]:
        """Comparisons of fine-tuned top-1, paired by seeds."""
        arms = [arm for arm in (SCRATCH, *self.facts['arms']) if self.points(arm, 'downstream')]
        pairs = [*((arm, SCRATCH) for arm in arms[1:]), *((arm, 'A') for arm in arms[2:]), ('C', 'B')]
        found = {pair: self.compare(*pair, outcome='finetuned', phase='downstream') for pair in pairs}
        return {pair: one for pair, one in found.items() if one}

    def matched(self, arm: str) -> float | None:
        """The share of the budget at which an arm's mean reaches A's whole, points being joined over its logarithm."""
        goal = np.mean(list(self.values('A').values()))
        means = [np.mean(list(self.values(arm, budget).values())) for budget in self.fractions]
        logs = [math.log2(float(budget)) for budget in self.fractions]
        for i, mean in enumerate(means):
            if mean >= goal:
                if i == 0:
                    return float(self.fractions[0])
                share = (goal - means[i - 1]) / (mean - means[i - 1])
                return 2**(logs[i - 1] + share * (logs[i] - logs[i - 1]))
        return None


def paired(first: dict[int, float], second: dict[int, float]) -> Difference | None:
    """The difference first - second over the seeds that both have; None for fewer than two."""
    seeds = sorted(first.keys() & second.keys())
    return difference([first[seed] for seed in seeds], [second[seed] for seed in seeds]) if len(seeds) > 1 else None


def write_page(facts: str | Path, page: str | Path) -> None:
    """Renew the parts of a page that stand between marks, and write the figure beside it; see `read_facts_and_page`."""
    scales, text = read_facts_and_page(facts, page, MARK)
    page = Path(page)
    found = {name: Results(one) for name, one in scales.items() if one['decisions'].get('stage') is not None}
    parts = [section(name, one) for name, one in found.items()] or ['There is no result yet.\n']
    if found:
        parts.append(f'![Bars: differences of the linear probe with their intervals]({FIGURE})\n')
    if found and f'<!-- {MARK}:results -->' in text:
        draw(found, page.with_name(FIGURE))
    write_whole(page, fill(text, MARK, dict(results='\n'.join(parts), photographs='\n'.join(map(short, found.values())))))


def read_facts_and_page(facts: str | Path, page: str | Path, mark: str) -> tuple[dict[str, Any], str]:
    """A study's file of facts, and the page that it belongs into.

    Raises:
        UserError: The facts cannot be read, or the page has no part of that mark (`fill`).
    """
    found = read_facts(facts)
    text = read_text(page)
    if f'<!-- {mark}:' not in text:
        raise UserError(f'{page}: expected <!-- {mark}:results --> and <!-- /{mark} -->, which hold the results')
    return found, text


def short(results: Results) -> str:
    """A table of what is fine-tuned, and of the places of the stage of the primary outcome, each arm beside scratch."""
    rows = []
    for arm in (SCRATCH, *results.facts['arms']):
        row = ['from scratch' if arm == SCRATCH else results.facts['arms'][arm]['title'],
               str(len(results.points(arm, 'downstream')))]
        for outcome in ('finetuned', 'dense'):
            values = list(results.values(arm, outcome=outcome, phase='downstream').values())
            gain = arm != SCRATCH and results.compare(arm, SCRATCH, outcome=outcome, phase='downstream')
            row += [f'{np.mean(values):.1f}' if values else '',
                    f'{gain.mean:+.1f} ({gain.low:+.1f}, {gain.high:+.1f})' if gain else '']
        rows += [row] if row[2] else []
    return markdown_table(['Pre-training', 'runs', 'fine-tuned, top-1 %', 'gain (95 %)', 'places, mIoU %', 'gain (95 %)'],
                          rows, 5)


def section(name: str, results: Results) -> str:
    """A scale's tables."""
    tables = filter(None, (arms_table(results), claims_table(results), budgets_table(results), stages_table(results),
                           differences_table(results), effect_by_budget(results), use_tables(results)))
    return '\n'.join([f'### Scale {name}', '', state(results), '', *tables, *matches(results), '', _what(results.facts), ''])


def arms_table(results: Results) -> str:
    """What each arm costs."""
    rows = []
    for arm, one in results.facts['arms'].items():
        made = round(one['updates'] * results.decisions['control_factor'])
        batch, macs = one['images_per_update'], one['macs_per_image']
        rows.append([arm, one['title'], str(made), str(batch), f'{macs / 1e6:.1f}', f'{made * batch * macs / 1e12:.2f}'])
    return markdown_table(['arm', '', 'updates', 'images per update', 'MMACs per image', 'TMACs'], rows, 4)


def claims_table(results: Results) -> str:
    """Every comparison of the primary outcome, with its word."""
    rows = [[f'{first} - {second}', *cells(found), word] for (first, second), found, word in _claims(results)]
    return f'Linear probe of stage {results.stage + 1}, points of top-1, at the whole budget:\n\n' + markdown_table(
        ['', 'pairs', 'difference (95 %)', '90 %', 'sd', 'p', 'verdict'], rows, 6)


def budgets_table(results: Results) -> str:
    """The means of every outcome along training."""
    rows = []
    for outcome, title in OUTCOMES.items():
        for arm in results.facts['arms']:
            values = {budget: list(results.values(arm, budget, outcome).values()) for budget in results.fractions}
            if any(values.values()) and arm != 'P':
                means = [f'{np.mean(one):.{digits(outcome)}f}' for one in values.values()]
                rows.append([title, arm, str(len(values[WHOLE])), *means])
    return 'Means by budget:\n\n' + markdown_table(['', 'arm', 'runs', *results.fractions], rows, len(results.fractions) + 1)


def stages_table(results: Results) -> str:
    """The means of every stage at the end."""
    rows = []
    for arm in results.facts['arms']:
        budget = f'{CONTROL_BUDGET:g}' if arm == 'P' else WHOLE
        whole = [points[budget] for points in results.points(arm).values()]
        rows += [[OUTCOMES[outcome], arm, *(f'{number:.2f}' for number in np.mean([one[outcome] for one in whole], 0))]
                 for outcome in STAGED if whole]
    return 'Means by stage, at the whole budget:\n\n' + markdown_table(
        ['', 'arm', *(f'stage {i + 1}' for i in range(results.stages))], sorted(rows), results.stages)


def differences_table(results: Results) -> str:
    """Comparisons of every stage at the end."""
    rows = []
    for outcome in ('linear', 'knn'):
        for pair in (('C', 'B'), *results.exploratory()):
            of = [results.compare(*pair, outcome=outcome, stage=stage) for stage in range(results.stages)]
            rows += [[OUTCOMES[outcome], ' - '.join(pair), *map(within, of)]] if all(of) else []
    return ('Differences by stage, at the whole budget, 95 % intervals, exploratory but for the primary outcome:\n\n'
            + markdown_table(['', '', *(f'stage {i + 1}' for i in range(results.stages))], rows, results.stages))


def effect_by_budget(results: Results) -> str:
    """C - B of every outcome along training; empty while there are no pairs."""
    rows = []
    for outcome, title in OUTCOMES.items():
        of = [results.compare('C', 'B', budget=budget, outcome=outcome) for budget in results.fractions]
        if not all(of):
            return ''
        rows.append([title, *(within(one, digits(outcome)) for one in of)])
    return (f'C - B by budget, {of[0].pairs} pairs, 95 % intervals, exploratory but for the first row at 1:\n\n'
            + markdown_table(['', *results.fractions], rows, len(results.fractions)))


def use_tables(results: Results) -> str:
    """What is fine-tuned and read place by place; empty while nothing is."""
    rows = []
    for arm in (SCRATCH, *results.facts['arms']):
        points = [found[WHOLE] for found in results.points(arm, 'downstream').values()]
        if points:
            dense = np.mean([one['dense'] for one in points], 0)
            rows.append([arm, str(len(points)), f'{np.mean([one["finetuned"] for one in points]):.2f}',
                         *(f'{number:.2f}' for number in dense)])
    if not rows:
        return ''
    gains = [[f'{first} - {second}', *cells(found)] for (first, second), found in results.tuned().items()]
    return ('Fine-tuned, top-1 %, and a linear classifier of places on CoMA-Shapes, mIoU %:\n\n' + markdown_table(
        ['', 'runs', 'fine-tuned', *(f'places, stage {i + 1}' for i in range(results.stages))], rows, results.stages + 2)
        + '\nFine-tuned, points of top-1, exploratory, p as it is:\n\n' + markdown_table(
            ['', 'pairs', 'difference (95 %)', '90 %', 'sd', 'p'], gains, 5))


def matches(results: Results) -> list[str]:
    """When each arm is where A is at the end, a line for each."""
    found = {arm: results.matched(arm) for arm in results.facts['arms'] if arm not in 'AP' and results.values(arm)}
    return [f'{arm} reaches the mean of A at the whole budget at {share:.2f} of it.' if share else
            f'{arm} does not reach the mean of A at the whole budget.' for arm, share in found.items()]


def digits(outcome: str) -> int:
    """Decimal places in which an outcome is told."""
    return 4 if outcome == 'reconstruction' else 2


def state(results: Results) -> str:
    """How far the study is, and what C - B is, in words."""
    decisions = results.decisions
    control, said = Difference(**decisions['control']), ''
    for look in decisions.get('looks', ()):
        factor, before = look['factor'], Difference(**{key: value for key, value in look.items() if key != 'factor'})
        said += (f'With {factor:g} times the planned budget P - A was {within(before)} points in {before.pairs} pairs, '
                 'which left it open. ')
    if 'sees' not in decisions:
        return said + 'More pairs are under way.'
    second = decisions.get('looks') and decisions['looks'][-1]['factor'] == decisions['control_factor']
    wider = f'; 97.5 %: {", ".join(f"{end:.2f}" for end in interval(control, SECOND_LOOK))}' if second else ''
    said += (f'P - A is {within(control)} points in {control.pairs} pairs{wider}, with {decisions["control_factor"]:g} '
             'times the planned budget: ')
    if not decisions['sees']:
        return said + 'the study at this length cannot see what twice the budget is worth, let alone a complement.'
    said += f'the study sees something. The primary outcome is the linear probe of stage {results.stage + 1}.'
    if 'pairs' not in decisions:
        return said + ' The pilot is not complete.'
    pilot = Difference(**decisions['pilot'])
    said += (f' In {pilot.pairs} pilot pairs, which are not part of the result, C - B had a standard deviation of '
             f'{pilot.sd:.2f}, with an upper limit of {decisions["sd"]:.2f}: {decisions["pairs_needed"]} pairs are needed, '
             f'and {decisions["pairs"]} were fixed.')
    final, so_far = results.confirmatory(), results.compare('C', 'B', phase='main')
    if final:
        return said + f' **C - B: {within(final)} points, {verdict(final)}.**' + ''.join(
            f' {arm} - A on fresh seeds, {found.pairs} pairs: {within(found)} points, '
            f'{"" if found.low > 0 else "not "}confirmed; k-NN {within(results.confirmed("knn")[arm])}.'
            for arm, found in results.confirmed().items())
    return said + f' {so_far.pairs if so_far else "Fewer than two"} of them are complete, so there is no verdict.'


def cells(found: Difference) -> list[str]:
    """Pairs, difference, 90 % interval, standard deviation and p of a table's row."""
    return [str(found.pairs), within(found),
            f'({found.low90:.2f}, {found.high90:.2f})', f'{found.sd:.2f}', small(found.p).removeprefix('= ')]


def within(found: Difference, places: int = 2) -> str:
    """A difference and its 95 % interval."""
    return f'{found.mean:.{places}f} ({found.low:.{places}f}, {found.high:.{places}f})'


def _claims(results: Results) -> list[tuple[tuple[str, str], Difference, str]]:
    """Every comparison with its word; an exploratory one is better or worse only if Holm's p says so too."""
    final, others = results.confirmatory(), results.exploratory()
    corrected = holm([one.p for one in others.values()]) if others else []
    found = [(('C', 'B'), final, f'**{verdict(final)}**')] if final else []
    for (pair, one), p in zip(others.items(), corrected, strict=True):
        words = verdict(one) if p < 0.05 else verdict(one._replace(low=-math.inf, high=math.inf))
        open_ = pair == ('P', 'A') and 'sees' not in results.decisions
        found.append((pair, one, 'open' if open_ else f'{words}; exploratory, by Holm p {small(p)}'))
    return found


def small(p: float) -> str:
    """A p-value as it is read."""
    return '< 0.001' if p < 0.001 else f'= {p:.3f}'


def _what(facts: dict[str, Any]) -> str:
    images, runs = facts['images'], facts['runs'].values()
    commits = sorted({one['commit'][:9] for one in runs})
    minutes = sum(one.get('seconds', 0) for one in runs) / 60
    return (f'{len(runs)} runs, pilots and fine-tunings included, {minutes:.0f} minutes of training; '
            f'{images["pretraining"]} images to pre-train, {images["fit"]} to fit probes, {images["test"]} to test them, '
            f'{images["held_out"]} held out for reconstruction. Commits {", ".join(commits)}. '
            f'{machines(runs)}')


def machines(runs: Iterable[dict[str, Any]]) -> str:
    """A sentence for each machine that runs ended on, with the number of its runs where there are several machines."""
    counts = Counter('; '.join(map(': '.join, one.get('machine', NOT_RECORDED).items())) for one in runs)
    return ' '.join(f'{machine}; runs: {count}.' if len(counts) > 1 else f'{machine}.' for machine, count in counts.items())


def draw(scales: dict[str, Results], path: Path) -> None:
    """The figure: an effect with its 95 % and 90 % intervals for each comparison."""
    rows = [row for name, results in scales.items() for row in [
        *((f'{first} - {second}, {name}', found, first + second == 'CB') for (first, second), found, _ in _claims(results)),
        *((f'{arm} - A, {name}, fresh seeds', found, True) for arm, found in results.confirmed().items())]]
    figure, axes = plt.subplots(figsize=(7, 1.2 + .4 * len(rows)), layout='constrained')
    axes.axvspan(-.5, .5, color='0.92', label='±0.5 points')
    axes.axvline(0, color='0.4', linewidth=1)
    for place, (_, found, main) in enumerate(rows):
        colour = '#c44e00' if main else '#33658a'
        axes.plot([found.low, found.high], [place] * 2, color=colour, linewidth=1.5)
        axes.plot([found.low90, found.high90], [place] * 2, color=colour, linewidth=4, solid_capstyle='butt')
        axes.plot(found.mean, place, 'o', color='white', markeredgecolor=colour, markersize=6)
    axes.set_yticks(range(len(rows)), [f'{name} ({found.pairs} pairs)' for name, found, _ in rows])
    axes.set_ylim(len(rows) - .5, -.5)
    axes.set_xlabel('difference of the linear probe, points of top-1\n95 % (thin) and 90 % (thick)')
    axes.legend(loc='best', frameon=False)
    axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
