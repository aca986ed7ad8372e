"""The paper's numbers agree with each other, but for the conflicts that are listed."""
import copy

import pytest

from coma_mm.benchmark.paper.numbers import contradicted, from_tables, paper, row_of

TABLES = {name: table for name, table in paper()['tables'].items() if 'metrics' in table}


def test_the_conflicts_of_text_and_tables_are_those_listed():
    found = [claim['text'] for claim in paper()['claims'] if contradicted(claim)]
    assert sorted(found) == sorted(paper()['conflicts']) and len(found) == 3


@pytest.mark.parametrize('claim', [claim for claim in paper()['claims'] if 'from' in claim], ids=lambda claim: claim['text'])
def test_a_number_of_the_tables_that_is_changed_is_noticed(claim):
    """Every claim hangs on the cells that it names."""
    row = row_of(claim['from']['of'])
    key = next(value for key, value in claim['from'].items() if key not in ('of', 'to'))
    before, saved = contradicted(claim), copy.copy(row)
    try:
        row[key] = row[key] * 1.5
        assert contradicted(claim) and from_tables(claim) != claim['value']
    finally:
        row.update(saved)
    assert contradicted(claim) == before


@pytest.mark.parametrize('name', TABLES)
def test_rows_are_complete_and_the_best_are_bold(name):
    table = TABLES[name]
    ids = [row['id'] for row in table['rows']]
    assert len(set(ids)) == len(ids)
    cells = [(row['method'], row['backbone'], row['epochs']) for row in table['rows']]
    assert len(set(cells)) == len(cells)
    for row in table['rows']:
        assert {*table['columns'], *table['metrics']} <= row.keys()
        assert row['method'] in paper()['sources'] or row['method'] == 'CoMA'
        assert row.get('footnote') in (None, *table.get('footnotes', ()))
    bold = [(row['id'], metric) for row in table['rows'] for metric in row.get('best', ())]
    if name == 'table2':  # of the small models and of the base ones
        groups = [[row for row in table['rows'] if row['backbone'].endswith(size)] for size in 'SB']
    else:
        groups = [table['rows']]
    best = [(max(rows, key=lambda row: row[metric])['id'], metric) for rows in groups for metric in table['metrics']]
    assert sorted(bold) == sorted(best)


def test_the_number_of_rows():
    assert {name: len(table['rows']) for name, table in paper()['tables'].items()} == dict(
        table1=2, table2=21, table3=8, table4=6)


def test_what_two_tables_have_is_the_same():
    second = {(row['method'], row['backbone'], row['epochs']): row for row in TABLES['table2']['rows']}
    both = [row for row in TABLES['table4']['rows'] if (row['method'], row['backbone'], row['epochs']) in second]
    assert [row['method'] for row in both] == ['BEiT', 'MAE', 'ColorMAE']
    for row in both:
        assert row['accuracy/top1'] == second[row['method'], row['backbone'], row['epochs']]['accuracy/top1']


def test_points_of_figure_1_are_rows_of_the_tables():
    for point in paper()['figure1']['points']:
        row = row_of(point['cell'])
        assert all(row[key] == point[key] for key in ('method', 'backbone', 'epochs'))
        if 'hours' in point:
            assert point['hours'] == pytest.approx(9.5 * point['epochs'] / 100)
