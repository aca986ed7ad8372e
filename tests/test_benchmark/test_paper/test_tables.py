"""Tables show what was run, and nothing else."""
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pandas
import pytest

from coma_mm.benchmark.paper import tables as tables_module
from coma_mm.benchmark.paper.collect import COLUMNS, _typed, collect
from coma_mm.benchmark.paper.tables import PAGES, build, cells, filled, to_latex, to_markdown
from coma_mm.commands.benchmark import COMMANDS
from coma_mm.errors import UserError
from coma_mm.files import CHECKOUT

from ...helpers.logged_runs import IMAGENET, config_of, imagenet_run, write_test

COMA_800 = dict(
    task='classification', dataset='ImageNet-1K', split='val', metric='accuracy/top1', status='finished', method='CoMA',
    backbone='DyViT-B', cell='table2/coma_dyvit-b_800', epochs=100)


def frame_of(*rows, **shared):
    """Rows of `collect`, each with a run of its own if it names none."""
    rows = [dict(dict(run=f'run{i}', seed=i), **{**shared, **row}) for i, row in enumerate(rows)]
    return _typed(pandas.DataFrame(rows, columns=COLUMNS))


def cell(frame, row='coma_dyvit-b_800', metric='accuracy/top1'):
    found = cells(frame)
    return found[(found['row'] == row) & (found['metric'] == metric)].to_dict('records')


def table(frame, name='table2'):
    return next(one for one in build(frame)[0] if one.name == name)


def row_of(frame, first='DyViT', epochs='800'):
    found = table(frame)
    index = next(i for i, row in enumerate(found.rows) if row[:4] == [first, 'CoMA', 'DyViT-B', epochs])
    return dict(zip(found.columns, found.rows[index], strict=True)), found.rows[index + 1:]


def test_seeds_are_averaged_and_what_is_not_finished_or_not_finite_is_counted():
    frame = frame_of(dict(value=84.), dict(value=85.), dict(value=84.5), dict(value=10., status='running'),
                     dict(value=float('nan'), status='diverged'), dict(value=0.1, status='diverged'),
                     dict(value=float('nan')), **COMA_800)
    one, = cell(frame)
    assert (one['mean'], one['half_width'], one['n'], one['split']) == (84.5, pytest.approx(1.242, abs=.001), 3, 'val')
    assert one['difference'] == pytest.approx(-0.1) and one['others'] == '2 diverged, 1 not finite, 1 running'
    shown, rest = row_of(frame)
    assert shown['ours'] == '84.5 ± 1.2 (n = 3), 2 diverged, 1 not finite, 1 running' and shown['difference'] == '−0.1'
    assert shown['runs'] == '[1] [2] [3] [4] [5] [6] [7]' and not rest


def test_one_run_has_no_interval_and_no_run_no_number():
    shown, _ = row_of(frame_of(dict(value=84.64), **COMA_800))
    assert (shown['ours'], shown['difference']) == ('84.6', '+0.0')
    shown, _ = row_of(frame_of(dict(value=84.64, status='running'), **COMA_800))
    assert (shown['ours'], shown['difference']) == ('1 running', '')
    shown, _ = row_of(frame_of())
    assert (shown['ours'], shown['difference'], shown['runs'], shown['Top-1, %: paper']) == ('', '', '', '84.6')
    assert cells(frame_of())['mean'].isna().all() and len(cells(frame_of())) == 21 + 3 * 8 + 6


def test_the_test_counts_if_all_runs_have_one():
    both = [dict(run='a', value=80.), dict(run='a', value=81., split='test'), dict(run='b', value=82.)]
    one, = cell(frame_of(*both, **COMA_800))
    assert (one['mean'], one['n'], one['split']) == (81., 2, 'val')
    one, = cell(frame_of(*both, dict(run='b', value=85., split='test'), **COMA_800))
    assert (one['mean'], one['n'], one['split'], one['runs']) == (83., 2, 'test', ('a', 'b'))


def test_what_was_measured_on_other_images_is_counted_and_the_notes_say_on_how_many(tmp_path):
    runs = [dict(run=name, value=value, images=50_000, data='val', split=split) for name, value, split in (
        ('a', 80., 'val'), ('a', 81., 'test'), ('b', 82., 'val'), ('b', 85., 'test'))]
    few = dict(run='b', value=99., split='test', images=6, data='few')
    one, = cell(frame_of(*runs, few, **COMA_800))
    assert (one['mean'], one['split'], one['images'], one['others'], one['fewer']) == (83., 'test', 50_000, '', '')
    assert '[1] [2]: on 50000 images, val' in table(frame_of(*runs, few, **COMA_800)).notes
    # Not all were tested on the same: the validation counts.
    one, = cell(frame_of(*runs[:3], few, **COMA_800))
    assert (one['mean'], one['split']) == (81., 'val')
    # Of validations, those of most runs; what is not known is no difference.
    runs = [dict(value=80., images=100), dict(value=82., images=100), dict(value=99., images=500)]
    one, = cell(frame_of(*runs, **COMA_800))
    assert (one['mean'], one['n'], one['images'], one['others']) == (81., 2, 100, '1 on other images')
    one, = cell(frame_of(*runs[:2], dict(value=84.), **COMA_800))
    assert (one['mean'], one['n'], one['images'], one['others']) == (82., 3, 100, '')


def test_a_test_on_fewer_images_than_the_validation_says_so():
    frame = frame_of(dict(run='a', value=80., images=233), dict(run='a', value=100., split='test', images=6), **COMA_800)
    assert row_of(frame)[0]['ours'] == '100.0, tested on 6 images, of 233 for validation'


def test_variants_have_lines_of_their_own_with_their_difference():
    frame = frame_of(dict(value=84., variant='lr=0.1, model.x=[1, 2]'), dict(value=80., variant='lr=0.3, model.x=null'),
                     dict(value=85., variant='lr=0.1, model.x=[1, 2]'), **COMA_800)
    shown, rest = row_of(frame)
    assert (shown['ours'], shown['runs']) == ('84.5 ± 6.4 (n = 2)', '[1] [2]')
    assert rest[0][-4:] == ['', '80.0', '−4.6', '[3]'] and not any(rest[0][:-4])
    assert table(frame).notes[-2:] == ['[1] [2]: lr=0.1, model.x=[1, 2]', '[3]: lr=0.3, model.x=null']


def test_a_run_may_fill_two_cells():
    frame = frame_of(dict(value=83.), **COMA_800 | dict(cell='table2/mae_vit-b; table4/mae'))
    assert [one['table'] for one in cell(frame, 'mae_vit-b') + cell(frame, 'mae') if one['n']] == ['table2', 'table4']


def test_conflicts_and_footnotes_stand_below():
    notes = {one.name: ' '.join(one.notes) for one in build(frame_of())[0]}
    assert 'From Zhou et al. 2022' in notes['table2'] and '12 %' in notes['table2'] and '18.75 %' in notes['table2']
    assert notes['table3'].count('Conflict') == 2 and '+2.6 (Mask AP over MAE), the tables +1.6' in notes['table3']
    assert 'Conflict' not in notes['table4']


def test_small_scale_pairs_runs_of_the_same_length():
    shapes = dict(task='classification', dataset='CoMA-Shapes', split='test', metric='accuracy/top1', status='finished',
                  backbone='DyViT tiny')
    coma = dict(method='CoMA', cell='shapes/classification/CoMA', pretrain_epochs=60)
    scratch = dict(method='scratch', cell='shapes/classification/scratch')
    frame = frame_of(dict(coma, value=20., epochs=5), dict(coma, value=22., epochs=5), dict(scratch, value=10., epochs=5),
                     dict(scratch, value=15., epochs=9, variant='train_cfg.max_epochs=9'), **shapes)
    found = table(frame, 'shapes')
    assert [row[2:7] for row in found.rows] == [
        ['CoMA, 60 epochs', '5 epochs', '21.0 ± 12.7 (n = 2)', '10.0', '+11.0'], ['', '9 epochs', '', '15.0', '']]
    assert found.notes[0] == 'On the test split.'
    # A difference between other images says nothing.
    for images, difference, note in ((500, '+10.0', '(500 images)'), (6, '', '(6 or 500 images)')):
        rows = [dict(coma, value=20., epochs=5, images=500), dict(scratch, value=10., epochs=5, images=images)]
        found = table(frame_of(*rows, **shapes), 'shapes')
        assert found.rows[0][6] == difference and found.notes[0] == f'On the test split {note}.'


def test_what_is_not_finite_is_not_averaged():
    one, = cell(frame_of(dict(value=84.), dict(value=float('inf')), dict(value=float('nan')), **COMA_800))
    assert (one['mean'], one['n'], one['others']) == (84., 1, '2 not finite')


# ---------------------------------------------------------------------------------------------------------------------
# Formats
# ---------------------------------------------------------------------------------------------------------------------
class Grid(HTMLParser):
    """The texts of the cells of each table, and the links and anchors of the page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.links, self.ids, self.cell = [], [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids.add(attributes.get('id'))
        if tag == 'a':
            self.links.append(attributes['href'])
        if tag == 'table':
            self.tables.append([])
        if tag == 'tr':
            self.tables[-1].append([])
        if tag in ('td', 'th'):
            self.tables[-1][-1].append('')
            self.cell = tag

    def handle_endtag(self, tag):
        if tag == self.cell:
            self.cell = None

    def handle_data(self, text):
        if self.cell:
            self.tables[-1][-1][-1] += text


def test_all_formats_have_the_same_cells_and_links_lead_to_files(tmp_path, run_tool):
    for seed in (0, 1):
        run = imagenet_run(tmp_path / f'work/<the run>_{seed}', 84. + seed, seed=seed)
    write_test(run / 'test', config_of(IMAGENET), run / 'epoch_100.pth', {'accuracy/top1': 90.})  # of one of the two
    assert 'cells' in run_tool('benchmark.py', 'tables', tmp_path / 'work', '--out', tmp_path / 'out')
    built, _ = build(collect(tmp_path / 'work')[0])
    page = Grid((tmp_path / 'out/tables.html').read_text())
    markdown = (tmp_path / 'out/tables.md').read_text()
    latex = (tmp_path / 'out/tables.tex').read_text()
    for one, grid in zip(built, page.tables[:-2], strict=True):  # then runs and their commands
        assert [[text.strip() for text in row] for row in grid] == [one.columns, *one.rows]
        csv = pandas.read_csv(tmp_path / f'out/{one.name}.csv', header=None, dtype=str, keep_default_na=False)
        assert csv.values.tolist() == [one.columns, *one.rows]
        assert to_markdown(one) in markdown
        assert all(line.count(' | ') == len(one.columns) - 1 for line in to_markdown(one).splitlines() if line[:1] == '|')
        body = re.search(r'\\midrule\n(.*)\\bottomrule', to_latex(one), re.DOTALL)[1].splitlines()
        assert [len(re.split(r'(?<!\\)&', line)) for line in body] == [len(one.columns)] * len(one.rows)
    assert not set('±−‡×') & set(latex) and r'84.5 $\pm$ 6.4 (n = 2)' in latex and r'\textbf{84.6}' in latex
    files = [tmp_path / 'out' / unquote(link) for link in page.links if link[0] != '#']
    assert len(files) == 6 and all(file.is_file() for file in files)
    assert {link[1:] for link in page.links if link[0] == '#'} <= page.ids
    for link in re.findall(r'\]\((\.\..+?)\)', markdown):
        assert (tmp_path / 'out' / unquote(link)).is_file() and ' ' not in link


def test_without_runs_there_are_the_papers_numbers_and_a_line_that_says_how_to_get_some(tmp_path, run_tool):
    assert run_tool('benchmark.py', 'tables', tmp_path).count('make demo') == 1
    assert 'make demo' in (tmp_path / 'benchmark/tables.html').read_text()
    assert '84.6' in (tmp_path / 'benchmark/tables.md').read_text()
    run_tool('benchmark.py', 'tables', tmp_path / 'nowhere', code=2)


# ---------------------------------------------------------------------------------------------------------------------
# Pages
# ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_the_results_on_a_page_are_those_of_the_committed_runs(page):
    text = page.read_text(encoding='utf-8')
    assert '<!-- benchmark:' in text
    assert filled(text) == text, f'{page.name} is out of date; run python tools/benchmark.py tables --write'


def test_the_committed_runs_are_those_of_the_study():
    # The table of today's recipe, which is the first.
    study = (CHECKOUT / 'docs/results/study.md').read_text(encoding='utf-8').split('\n## ')[0]
    in_study = re.findall(r'^\| (?:Class|Segm|Det).*\| ([\d., ]+) \| ([\d., ]+) \|$', study, re.M)
    frame = tables_module.read(tables_module.COMMITTED_RUNS)
    groups = frame.groupby(['metric', 'method'])['value']
    values = {key: ', '.join(f'{value:.1f}' for value in group) for key, group in groups}
    metrics = ('accuracy/top1', 'mIoU', 'coco/bbox_mAP', 'coco/segm_mAP')
    assert [(values[metric, 'CoMA'], values[metric, 'scratch']) for metric in metrics] == in_study


def test_the_docs_page_names_every_subcommand():
    page = PAGES[1].read_text(encoding='utf-8')
    assert not [name for name in COMMANDS if f'tools/benchmark.py {name}' not in page]


def test_pages_are_filled_between_the_markers():
    page = ('before\n<!-- benchmark:table1 -->\nold\n<!-- /benchmark -->\nbetween\n'
            '<!-- benchmark:runs -->\n<!-- /benchmark -->\n')
    text = filled(page)
    assert text.startswith('before\n<!-- benchmark:table1 -->\n| Model |') and 'old' not in text and '\nbetween\n' in text
    assert filled(text) == text
    with pytest.raises(UserError, match="PART -->='table9': expected one of"):
        filled(page.replace('table1', 'table9'))
