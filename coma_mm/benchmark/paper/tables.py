"""The paper's Tables 1 to 4 with our results beside them, and the small scale's; as Markdown, HTML, LaTeX and CSV.

A cell shows the mean over the seeds of finished runs of the same settings, and its 95 % confidence interval; runs with
other settings have a line of their own, which names the difference. What is not finished or diverged is counted, not
averaged.
"""
import dataclasses
import math
import os
import re
import statistics
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pandas

from coma_mm.benchmark.statistics import half_width
from coma_mm.benchmark.study.experiments import METRICS
from coma_mm.errors import printable
from coma_mm.files import CHECKOUT, CONFIGS, write_whole
from coma_mm.markdown import code, escaped, fill, markdown_table
from coma_mm.models.dyvit import ARCHS
from coma_mm.progress import duration
from coma_mm.visualization import Cell, Section, Table, write_report

from .collect import COPY, HOW_TO_FILL, RUNS, collect, read, to_csv, write
from .numbers import contradicted, from_tables, paper

COMMITTED_RUNS = CHECKOUT / 'docs/results/runs.csv'
PAGES = (CHECKOUT / 'README.md', CHECKOUT / 'docs/benchmark.md')
COLUMNS = ('table', 'row', 'metric', 'paper', 'variant', 'mean', 'half_width', 'n', 'difference', 'split', 'data', 'images',
           'fewer', 'others', 'runs')
NO_RUN = dict(mean=None, half_width=None, n=0, split='', data='', images=None, others='', runs=(), variant='', fewer='')


# ---------------------------------------------------------------------------------------------------------------------
# Cells
# ---------------------------------------------------------------------------------------------------------------------
def cells(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Every cell of Tables 2 to 4: the paper's number and ours.

    Args:
        frame (DataFrame): What `collect` gives.

    Returns:
        DataFrame: `COLUMNS`; one line for each metric of each row, and one more for each further variant of its runs.
        'mean', 'half_width' (of its 95 % confidence interval), 'difference' (ours minus the paper's) and 'paper' are in
        per cent; 'data' and 'images' are what was measured on; 'others' counts the runs that are not averaged; 'runs' is a
        tuple of their names. Without a run all of ours is missing.
    """
    lines = []
    for number, table in paper()['tables'].items():
        for row in table['rows']:
            for metric in table.get('metrics', ()):
                name = f'{number}/{row["id"]}'
                for one in _variants(frame, name, metric) or [NO_RUN]:
                    lines.append(dict(
                        one, table=number, row=row['id'], metric=metric, paper=row[metric],
                        difference=None if one['mean'] is None else one['mean'] - row[metric]))
    return pandas.DataFrame(lines, columns=COLUMNS)


def _variants(frame, cell, metric) -> list[dict]:
    """The summaries of a cell's runs, one for each variant; the one with most runs first."""
    in_cell = frame['cell'].map(lambda text: cell in text.split('; ')).astype(bool)
    matching = frame[in_cell & (frame['metric'] == metric)]
    groups = [dict(summary(group), variant=variant, group=group) for variant, group in matching.groupby('variant')]
    return sorted(groups, key=lambda one: (-one['n'], one['variant']))


def summary(group: pandas.DataFrame) -> dict:
    """What the rows of one cell and variant come to.

    The test's value is taken if all finished runs were tested on the same images, else the last validation's; of several
    sets of images that with most runs, then the largest. What was measured on other images is counted, not averaged.

    Returns:
        dict: 'mean', 'half_width', 'n', 'split', 'data', 'images', 'others', 'runs' and 'variant'; None or empty where there
        is no such thing. 'fewer' says so if a test has fewer images than the validation.
    """
    finished = group[group['status'] == 'finished']
    every = {split: finished[finished['split'] == split] for split in ('test', 'val')}
    tested = [rows for rows in same_images(every['test']) if set(rows['run']) == set(finished['run'])]
    validated = same_images(every['val'])
    split = 'test' if tested else 'val'
    values = max(tested or validated, key=lambda rows: (rows['run'].nunique(), images_of(rows) or 0),
                 default=every['val']).drop_duplicates('run')
    elsewhere = every[split]['run'].nunique() - len(values)
    values = values.drop_duplicates(COPY)
    finite = [value for value in values['value'] if math.isfinite(value)]
    others = Counter(group[group['status'] != 'finished'].drop_duplicates('run')['status'])
    if len(finite) < len(values):
        others['not finite'] += len(values) - len(finite)
    if elsewhere:
        others['on other images'] += elsewhere
    images, most = images_of(values), max((images_of(rows) or 0 for rows in validated), default=0)
    return dict(
        mean=statistics.mean(finite) if finite else None,
        half_width=half_width(finite),
        n=len(finite),
        split=split if finite else '',
        data=next(iter(values['data']), '') if finite else '',
        images=images if finite else None,
        fewer=f'tested on {images} images, of {most} for validation' if split == 'test' and images and images < most else '',
        others=', '.join(f'{count} {state}' for state, count in sorted(others.items())),
        runs=tuple(dict.fromkeys(group['run'])),
        variant='')


def same_images(rows: pandas.DataFrame) -> list[pandas.DataFrame]:
    """Rows by the images that they were measured on, as far as is known: their name in the config, and their number."""
    groups = []
    for _, named in rows.groupby('data', sort=False):
        numbers = named['images'].dropna().unique()
        groups += [named] if len(numbers) < 2 else [named[(named['images'] == number).fillna(False)] for number in numbers]
    return groups


def images_of(rows: pandas.DataFrame) -> int | None:
    """How many images rows of `same_images` were measured on, if that is known."""
    known = rows['images'].dropna()
    return int(known.iloc[0]) if len(known) else None


def _number(value) -> str:
    return '' if value is None or pandas.isna(value) else f'{value:.1f}'


def _signed(value) -> str:
    return '' if value is None or pandas.isna(value) else f'{value:+.1f}'.replace('-', '−')


def _ours(one) -> str:
    """'84.5 ± 0.1 (n = 3), 1 diverged'; nothing without runs. A test on fewer images than the validation says so."""
    text = _number(one['mean'])
    if text and one['n'] > 1:
        text += f' ± {_number(one["half_width"])} (n = {one["n"]})'
    return ', '.join(filter(None, [text, one['fewer'], one['others']]))


# ---------------------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------------------
def build(frame: pandas.DataFrame) -> tuple[list[Table], list[dict]]:
    """All tables, and the runs behind them.

    Args:
        frame (DataFrame): What `collect` gives.

    Returns:
        tuple[list[Table], list[dict]]: The tables by name, and a row of `frame` for each run that they name, in the order
        of the numbers in brackets.
    """
    numbers = {}

    def references(names):
        return ' '.join(f'[{numbers.setdefault(name, len(numbers) + 1)}]' for name in names)

    found = cells(frame)
    tables = [_configurations(), *(_paper_table(name, found, references) for name in ('table2', 'table3', 'table4')),
              _claims(), _shapes(frame, references)]
    facts = frame.drop_duplicates('run').set_index('run', drop=False)
    return tables, [facts.loc[name].to_dict() for name in numbers]


def _configurations() -> Table:
    """Table 1, and what `DyViT` builds."""
    data, keys = paper()['tables']['table1'], dict(channels='dims', blocks='depths', heads='num_heads')
    rows = []
    for row in data['rows']:
        cell = [row['backbone']]
        for key, name in keys.items():
            ours = list(ARCHS[row['arch']][name])
            cell += ['-'.join(map(str, row[key])), 'the same' if ours == row[key] else '-'.join(map(str, ours))]
        rows.append(cell)
    columns = ['Model', *(text for title in data['columns'].values() for text in (f'{title}, paper', 'ours'))]
    return Table(columns, rows, f'Table 1: {data["title"]}', 'table1')


def _paper_table(name, found, references) -> Table:
    data, source = paper()['tables'][name], paper()['sources']
    metrics = data['metrics']
    columns = list(data['columns'].values())
    for title in metrics.values():
        columns += [f'{title}: paper', 'ours', 'difference']
    result = Table([*columns, 'runs'], [], f'Table {name[-1]}: {data["title"]}', name, 3 * len(metrics) + 1)
    measured = {}
    for row in data['rows']:
        shown = {**row, 'method': row.get('label', row['method'])}
        if 'label' not in row and row['method'] in source:
            shown['method'] += f' ({source[row["method"]]})'
        first = [str(shown[key]) for key in data['columns']]
        ours = found[(found['table'] == name) & (found['row'] == row['id'])]
        by_metric = {metric: ours[ours['metric'] == metric].to_dict('records') for metric in metrics}
        for index in range(max(map(len, by_metric.values()))):
            line = first if not index else [''] * len(first)
            names = []
            for metric, variants in by_metric.items():
                if index == 0:
                    line = [*line, _number(row[metric]) + row.get('footnote', '')]
                    if metric in row.get('best', ()):
                        result.bold.add((len(result.rows), len(line) - 1))
                else:
                    line = [*line, '']
                one = variants[index] if index < len(variants) else NO_RUN
                line += [_ours(one), _signed(one.get('difference'))]
                names += [run for run in one['runs'] if run not in names]
                if not pandas.isna(one['images']):
                    measured.setdefault(f'{one["images"]:.0f} images, {one["data"]}', []).extend(one['runs'])
                if one['variant']:
                    result.notes.append(f'{references(names)}: {_short(one["variant"])}')
            result.rows.append([*line, references(names)])
    for images, names in measured.items():
        result.notes.append(f'{references(dict.fromkeys(names))}: on {images}')
    conflicts = [f'Conflict: the text ({claim["section"]}) says {_claimed(claim)}, the tables {_in_tables(claim)}.'
                 for claim in paper()['claims'] if contradicted(claim) and claim['from']['of'].startswith(name)]
    result.notes = [*(f'{mark} {text}' for mark, text in data.get('footnotes', {}).items()), data['notes'], *conflicts,
                    *dict.fromkeys(result.notes)]
    return result


def _short(variant: str) -> str:
    """The first four of the settings that differ."""
    parts = re.split(r', (?=[\w.]+=)', variant)
    return ', '.join(parts[:4]) + (f', and {len(parts) - 4} more' if len(parts) > 4 else '')


def _claims() -> Table:
    """What the paper's text claims, what its tables say, and where they disagree."""
    rows = []
    for claim in paper()['claims']:
        verdict = '' if 'from' not in claim else 'conflict' if contradicted(claim) else 'agrees'
        rows.append([claim['text'], claim['section'], verdict, _in_unit(claim['value'], claim), _in_tables(claim)])
    notes = [f'{claim["text"]}: {claim["remark"]}' for claim in paper()['claims'] if 'remark' in claim]
    columns = ['Claim', 'Section', 'Verdict', 'text', 'tables']
    return Table(columns, rows, "Claims of the paper's text, and its tables", 'claims', 2, notes)


def _in_unit(value, claim) -> str:
    """A number as a claim has it: differences with their sign."""
    if 'difference' in claim.get('from', ()):
        return _signed(value)
    return f'{value:.4g} {claim.get("unit", "")}'.strip().replace('-', '−')


def _in_tables(claim) -> str:
    there = from_tables(claim)
    return '' if there is None else _in_unit(there, claim)


def _claimed(claim) -> str:
    return f'{_in_unit(claim["value"], claim)} ({claim["text"]})'


def _shapes(frame, references) -> Table:
    """The small scale: every task from pre-training and from scratch, of equal length, on CoMA-Shapes."""
    columns = ['Task', 'Metric, %', 'Pre-training', 'Fine-tuning', 'pre-trained', 'from scratch', 'difference', 'runs']
    result = Table(columns, [], 'Small scale: CoMA-Shapes', 'shapes', 4)
    tasks = ('classification', 'segmentation', 'detection', 'detection')
    splits = {}
    for task, (label, metric, key, _) in zip(tasks, METRICS, strict=True):
        here = frame[(frame['dataset'] == 'CoMA-Shapes') & (frame['task'] == task)]
        arms = {method: _variants(here, f'shapes/{task}/{method}', key) for method in dict.fromkeys(here['method'])}
        scratch = {}
        for one in arms.pop('scratch', []):
            scratch.setdefault(_budget(one), []).append(one)
        pairs = []
        for method, variants in arms.items():
            for one in variants:
                twins = scratch.get(_budget(one), [])
                pairs.append((method, one, twins[0] if len(twins) == 1 else None))
        used = [id(twin) for _, _, twin in pairs if twin]
        pairs += [('', None, one) for ones in scratch.values() for one in ones if id(one) not in used]
        for method, one, twin in pairs:
            first = (one or twin)['group'].iloc[0]
            epochs = first['pretrain_epochs']
            both = one and twin and one['mean'] is not None and twin['mean'] is not None and _alike(one, twin)
            names = [*(one or {}).get('runs', ()), *(twin or {}).get('runs', ())]
            length = first['epochs'] if not pandas.isna(first['epochs']) else first['iterations']
            unit = 'epochs' if not pandas.isna(first['epochs']) else 'iterations'
            result.rows.append([
                label, metric, f'{method}, {epochs} epochs' if one else '', f'{length} {unit}', _ours(one) if one else '',
                _ours(twin) if twin else '', _signed(one['mean'] - twin['mean']) if both else '', references(names)])
            for variant in filter(None, [one, twin]):
                if variant['split']:
                    splits.setdefault(variant['split'], set()).add(variant['images'])
                if variant['variant']:
                    result.notes.append(f'{references(variant["runs"])}: {_short(variant["variant"])}')

    def described(split):
        numbers = ' or '.join(str(number) for number in sorted(splits[split] - {None}))
        return f'{dict(test="test", val="validation")[split]} split' + (f' ({numbers} images)' if numbers else '')

    if splits:
        result.notes.insert(0, f'On the {" and ".join(map(described, sorted(splits)))}'
                            + (': the test where all runs of a cell were tested.' if len(splits) > 1 else '.'))
    result.notes = list(dict.fromkeys(result.notes))
    return result


def _alike(one: dict, other: dict) -> bool:
    """Whether two cells were measured on the same images, as far as is known."""
    return (one['split'], one['data']) == (other['split'], other['data']) and (
        one['images'] == other['images'] or None in (one['images'], other['images']))


def _budget(one: dict) -> tuple:
    first = one['group'].iloc[0]
    return tuple(str(first[key]) for key in ('epochs', 'iterations', 'global_batch', 'backbone'))


# ---------------------------------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------------------------------
EXPLANATION = (
    'Ours: mean ± half width of its 95 % confidence interval (Student\'s t) over n finished runs of equal settings, of the '
    'last validation, or of the test if all of them were tested on the same images; no interval for a single run. '
    'Difference: ours minus the paper\'s. An empty cell has no run.')


def to_markdown(table: Table, drop_runs: bool = False) -> str:
    """A table with its notes, without the heading."""
    stop = -1 if drop_runs else None
    rows = [[f'**{escaped(text)}**' if (i, j) in table.bold else escaped(text) for j, text in enumerate(row)][:stop]
            for i, row in enumerate(table.rows)]
    text = markdown_table(table.columns[:stop], rows, max(0, table.numbers - drop_runs))
    return text + ('\n' if table.notes else '') + ''.join(f'- {escaped(note)}\n' for note in table.notes)


def to_latex(table: Table) -> str:
    """A table in LaTeX (booktabs), with its notes."""
    rows = [[rf'\textbf{{{_latex(text)}}}' if (i, j) in table.bold else _latex(text) for j, text in enumerate(row)]
            for i, row in enumerate(table.rows)]
    letters = 'l' * (len(table.columns) - table.numbers) + 'r' * table.numbers
    caption = _latex(re.sub(r'^Table \d: ', '', table.title))  # LaTeX counts its tables itself
    text = pandas.DataFrame(rows, columns=[*map(_latex, table.columns)]).to_latex(
        index=False, escape=False, column_format=letters, caption=caption, label=f'tab:{table.name}', position='t')
    notes = r' \\ '.join(map(_latex, table.notes))
    return text.replace(r'\end{table}', f'\\footnotesize {notes}\n\\end{{table}}' if notes else r'\end{table}')


LATEX = str.maketrans({
    '\\': r'\textbackslash{}', '~': r'\textasciitilde{}', '^': r'\textasciicircum{}', '±': r'$\pm$', '−': '$-$',
    '×': r'$\times$', '→': r'$\to$', '‡': r'\ddag{}', **{symbol: f'\\{symbol}' for symbol in '&%_#${}'}})


def _latex(text: str) -> str:
    return printable(text).translate(LATEX)


def linked(table: Table) -> Table:
    """The same for a report: numbers in brackets lead to the rows of `runs_section`."""
    if table.columns[-1] != 'runs':
        return table
    rows = [[*row, Cell(links={number: f'#run-{number[1:-1]}' for number in numbers.split()})]
            for *row, numbers in table.rows]
    return dataclasses.replace(table, rows=rows)


def runs_section(runs: list[dict], base: str) -> Section:
    """Runs in a report, with links to their files, and their commands.

    Args:
        runs (list[dict]): From `collect`, in the order of their numbers.
        base (str): Where they were collected from, relative to the report.
    """
    rows = []
    for number, run in enumerate(runs, 1):
        run = {key: '' if pandas.isna(value) else value for key, value in run.items()}
        files = {key: quote(os.path.join(base, run[key])) for key in ('config', 'log', 'checkpoint') if run[key]}
        length = next((f'{run[unit]} {unit}' for unit in ('epochs', 'iterations') if run[unit]), '')
        time = Cell(duration(3600 * run['hours']), order=run['hours']) if run['hours'] else ''
        rows.append([
            f'[{number}] {run["run"]}', run['status'], run['task'], run['dataset'], run['method'], run['backbone'], length,
            Cell(links=files), str(run['seed']), str(run['global_batch']), time,
            f'{run["peak_memory_gb"]:.2f}' if run['peak_memory_gb'] else ''
        ])
    columns = ['Run', 'Status', 'Task', 'Training data', 'Pre-training', 'Backbone', 'Length', 'Files', 'Seed', 'Batch',
                'Time', 'Peak memory, GiB']
    diverged = {(i, 1) for i, row in enumerate(rows) if row[1] == 'diverged'}
    used = [j for j in range(len(columns)) if any(row[j] for row in rows)]
    table = Table([columns[j] for j in used], [[row[j] for j in used] for row in rows], '', 'run',
                  sum(j >= columns.index('Seed') for j in used), bold=diverged)
    commands = [[row[0], run['command']] for row, run in zip(rows, runs, strict=True) if run['command']]
    tables = [table, Table(['Run', 'Command'], commands, 'Commands', code='Command')]
    return Section('Runs', tables=tables if commands else tables[:1])


def list_runs(runs: list[dict], base: str | None) -> str:
    """The runs behind the numbers in brackets, in Markdown."""
    lines = []
    for number, run in enumerate(runs, 1):
        if base:
            there = [key for key in ('config', 'log', 'checkpoint') if run[key]]
            links = [f'[{key}]({quote(os.path.join(base, run[key]))})' for key in there]
        else:
            links = [_config_link(run['config'])]
        what = f'{code(run["run"])}, seed {run["seed"]}, {run["status"]}; {", ".join(filter(None, links))}'
        lines.append(f'{number}. {what}' + (f'; {code(run["command"])}' if run['command'] else '') + '\n')
    return ''.join(lines)


def list_runs_latex(runs: list[dict]) -> str:
    """The same in LaTeX."""
    items = [f'\\item {_latex(run["run"])}, seed {run["seed"]}, {run["status"]}\n' for run in runs]
    return f'\\begin{{enumerate}}\n{"".join(items)}\\end{{enumerate}}\n' if items else ''


def _config_link(config: str) -> str:
    found = [file for file in CONFIGS.resolve().rglob('*.py') if file.name == Path(config).name]
    return f'[{found[0].stem}](../configs/{found[0].relative_to(CONFIGS.resolve())})' if len(found) == 1 else escaped(config)


def parts() -> dict[str, str]:
    """What stands between the markers of README and docs, by the markers' names, from the runs that are committed."""
    tables, runs = build(read(COMMITTED_RUNS))
    texts = {table.name: to_markdown(table) for table in tables}
    texts['shapes-short'] = to_markdown(next(table for table in tables if table.name == 'shapes'), drop_runs=True)
    texts['explanation'] = f'{EXPLANATION}\n'
    texts['runs'] = list_runs(runs, None)
    return texts


def filled(page: str) -> str:
    """A page with what stands between `<!-- benchmark:NAME -->` and `<!-- /benchmark -->` renewed."""
    return fill(page, 'benchmark', parts())


def run(args):
    """Write the tables."""
    if args.write:
        for page in PAGES:
            page.write_text(filled(page.read_text(encoding='utf-8')), encoding='utf-8')
        return
    frame, _ = collect(args.work_dirs)
    out = Path(args.out or Path(args.work_dirs, 'benchmark')).absolute()
    out.mkdir(parents=True, exist_ok=True)
    tables, runs = build(frame)
    base = os.path.relpath(args.work_dirs, out)
    markdown = '\n'.join(f'## {table.title}\n\n{to_markdown(table)}' for table in tables)
    heading = f'# Results beside the paper\'s\n\n{EXPLANATION}\n\n'
    (out / 'tables.md').write_text(f'{heading}{markdown}\n## Runs\n\n{list_runs(runs, base)}', encoding='utf-8')
    page = [Section('Tables', tables=list(map(linked, tables))), runs_section(runs, base)]
    write_report(out / 'tables.html', "Results beside the paper's", EXPLANATION + ('' if runs else f'\n\n{HOW_TO_FILL}'),
                 page if runs else page[:1])
    latex = [*map(to_latex, tables), list_runs_latex(runs)]
    (out / 'tables.tex').write_text('\n'.join(latex), encoding='utf-8')
    for table in tables:
        write_whole(out / f'{table.name}.csv', to_csv(pandas.DataFrame(table.rows, columns=table.columns)))
    found = cells(frame)
    write_whole(out / 'cells.csv', to_csv(found.assign(runs=found['runs'].map('; '.join)), '%.6g'))
    write(frame, out / RUNS)
    if not runs:
        print(HOW_TO_FILL)
    print(f'{out}: tables.md, tables.html, tables.tex, and as CSV {", ".join(table.name for table in tables)} and cells')
