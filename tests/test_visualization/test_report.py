import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from coma_mm.visualization import Cell, Picture, Section, Table, write_report

from ..helpers.browser import OVERFLOW, chromium, open_page

VOID = {'meta', 'img', 'link', 'br', 'hr', 'input'}


class Outline(HTMLParser):
    """Checks that tags are balanced; collects attributes, the text of headings, and the rows of all tables."""

    def __init__(self, html):
        super().__init__()
        self.open, self.attributes, self.rows, self.headings = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *attr) for attr in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')
        if re.fullmatch('h[1-6]', tag):
            self.headings.append((int(tag[1]), ''))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if 'td' in self.open or 'th' in self.open:
            self.rows[-1][-1] += data.strip()
        if re.fullmatch('h[1-6]', self.open[-1] if self.open else ''):
            self.headings[-1] = (self.headings[-1][0], data)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)).save(folder / 'noise.png')
    fig = Figure(figsize=(1, 1))
    fig.subplots().plot([0, 1])
    wide = Table(
        ['Model', 'Epochs', *(f'A number {i}' for i in range(12)), 'Top-1'],
        [[name, epochs, *['1.0'] * 12, ours] for name, epochs, ours in (
            ('SdAE', '1600', '−84.0'), ('a2mim', '300', ''), ('MAE', '800', '9.5 ± 0.1 (n = 3)'),
            ('BEiT', '90', '12 diverged'), ('Hiera', '3200', Cell('84.25', dict(log='#runs-1'))))],
        title='Table <2>', numbers=13, notes=['A note'], bold={(4, 14)})
    long = Table(['Run', 'Command'], [['a_very_long_name_of_a_run_' * 4, 'python --work-dir ' + 'x' * 300]], title='Runs',
                 name='runs', code='Command')
    steps = Table(['Step', 'Time'], [['Pre-training', Cell('2 min 05 s', order=125.4)], ['Test', Cell('64 s', order=64)]],
                  numbers=1, notes=['AP is noise'])
    sections = [
        Section('Curves', 'One.\n\nTwo.', pictures=[
            Picture(fig, 'The <loss> falls', 'Falling "loss"'),
            Picture(str(folder / 'noise.png'), 'Noise', 'Just noise', min_width=600)
        ]),
        Section('Tables', tables=[wide, long]),
        Section('No pictures', notes=['/a/path' * 40]),
        Section('What was run', tables=[steps]),
        Section('Environment', facts=dict(Seed='7', Processor='A & B')),
    ]
    write_report(folder / 'new/report.html', 'A title', 'In short.\n\nAnd more.', sections)
    assert [path.name for path in (folder / 'new').iterdir()] == ['report.html']
    return folder / 'new/report.html'


@pytest.fixture
def html(report):
    return report.read_text(encoding='utf-8')


def test_the_tables_have_the_values_and_empty_cells(html):
    rows = Outline(html).rows
    assert rows[0][:3] == ['Model', 'Epochs', 'A number 0'] and rows[0][-1] == 'Top-1'
    assert [row[0] for row in rows[1:6]] == ['SdAE', 'a2mim', 'MAE', 'BEiT', 'Hiera']
    assert [row[-1] for row in rows[1:6]] == ['−84.0', '', '9.5 ± 0.1 (n = 3)', '12 diverged', '84.25log']
    assert rows[-2:] == [['Pre-training', '2 min 05 s'], ['Test', '64 s']]


def test_it_says_what_it_was_given_and_escapes_it(html):
    for text in ('A title', '<strong>84.25</strong>', 'In short.', 'And more.', 'AP is noise', 'The &lt;loss&gt; falls',
                 'Seed', 'A &amp; B'):
        assert text in html
    assert Outline(html).values('alt') == ['Falling "loss"', 'Just noise']


def test_it_needs_nothing_else(html):
    sources = Outline(html).values('src')
    assert [re.match('data:image/(png|jpeg);base64,', source)[1] for source in sources] == ['png', 'jpeg']
    assert not re.search(r'https?://|@import|url\(|<script [^>]*src|<link', html)
    assert 'prefers-color-scheme: dark' in html and 'name="viewport"' in html and '@media print' in html
    assert len(html) < 1_000_000


def test_its_places_can_be_found(html):
    outline = Outline(html)
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = outline.values('id')
    assert len(ids) == len(set(ids))
    named = [address[1:] for address in outline.values('href') if address.startswith('#')]
    named += outline.values('aria-labelledby')
    assert set(named) <= set(ids) and 'runs-1' in named
    assert [text for level, text in outline.headings if level == 2] == [
        'Curves', 'Tables', 'No pictures', 'What was run', 'Environment']


def test_an_unfinished_report_leaves_the_old_one(report, html):
    with pytest.raises(FileNotFoundError):
        write_report(report, 'Another', '', [Section('New', pictures=[Picture('no.png', '', '')])])
    assert report.read_text(encoding='utf-8') == html


def test_in_a_browser(report):
    """No complaint, no request; nothing wider than a phone; tables sort by keyboard alone; it can be printed."""
    complaints = []
    with chromium() as browser:
        for scheme in ('light', 'dark'):
            page = open_page(browser, report, complaints, color_scheme=scheme, is_mobile=True,
                             viewport=dict(width=360, height=800))
            assert page.evaluate(OVERFLOW) == 0
            box = 'document.querySelector(".scroll")'
            assert page.evaluate(f'{box}.scrollWidth > {box}.clientWidth')
            assert page.evaluate('document.images[1].getBoundingClientRect().width') == 600
            assert page.evaluate('[...document.images].every((one) => one.naturalWidth > 0)')
            colors = page.evaluate('["color", "backgroundColor"].map((x) => getComputedStyle(document.body)[x])')
            ink, paper = (sum(map(int, re.findall(r'\d+', color))) for color in colors)
            assert (ink > paper) == (scheme == 'dark')

        def column(index):
            return page.evaluate(f'[...document.querySelector("table").tBodies[0].rows]'
                                 f'.map((row) => row.cells[{index}].textContent.trim())')

        def reach(text):
            for _ in range(60):
                page.keyboard.press('Tab')
                if page.evaluate('document.activeElement.textContent') == text:
                    return page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
            raise AssertionError(f'{text!r} is not reached with the tabulator key')

        written = column(0)
        assert reach('Epochs') == 'solid'
        page.keyboard.press('Enter')
        assert column(1) == ['90', '300', '800', '1600', '3200']
        page.keyboard.press(' ')
        assert column(1) == ['3200', '1600', '800', '300', '90']
        head = 'document.activeElement.closest("th").getAttribute("aria-sort")'
        assert page.evaluate(head) == 'descending'
        page.keyboard.press('Enter')
        assert column(0) == written and page.evaluate(head) is None
        reach('Top-1')
        page.keyboard.press('Enter')
        assert column(14) == ['−84.0', '9.5 ± 0.1 (n = 3)', '84.25 log', '', '12 diverged']
        page.keyboard.press('Enter')
        assert column(14) == ['84.25 log', '9.5 ± 0.1 (n = 3)', '−84.0', '', '12 diverged']
        assert page.evaluate('document.querySelectorAll("[aria-sort]").length') == 1
        page.set_viewport_size(dict(width=680, height=800))  # of A4 within its margins
        page.emulate_media(media='print', color_scheme='dark')
        assert page.evaluate(OVERFLOW) == 0
        assert page.evaluate('getComputedStyle(document.body).backgroundColor') == 'rgb(255, 255, 255)'
        assert page.pdf(print_background=True).startswith(b'%PDF')
    assert complaints == []
