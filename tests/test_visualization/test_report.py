import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from coma_mm.visualization import Picture, Section, Step, compare, format_table, write_report

VOID = {'meta', 'img', 'link', 'br', 'hr', 'input'}


class Outline(HTMLParser):
    """Checks that tags are balanced; collects attributes and the cells of the first table."""

    def __init__(self, html):
        super().__init__()
        self.open, self.attributes, self.rows, self.in_cell = [], [], [], False
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

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if 'td' in self.open or 'th' in self.open:
            self.rows[-1][-1] += data.strip()


@pytest.fixture
def html(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), np.uint8)).save(tmp_path / 'noise.png')
    fig = Figure(figsize=(1, 1))
    fig.subplots().plot([0, 1])
    sections = [
        Section('Curves', 'One.\n\nTwo.', [
            Picture(fig, 'The <loss> falls', 'Falling "loss"'),
            Picture(str(tmp_path / 'noise.png'), 'Noise', 'Just noise', min_width=600)
        ]),
        Section('No pictures'),
    ]
    table = compare({'accuracy/top1': 61.25, 'coco/bbox_mAP': .021}, {'accuracy/top1': 64., 'mIoU': 12.3})
    write_report(tmp_path / 'new/report.html', 'A title', 'In short.\n\nAnd more.', table, sections,
                 dict(Seed='7', Processor='A & B'), [Step('Pre-training', 'python tools/train.py x', 125.4)],
                 ['AP is noise'])
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['report.html']
    return (tmp_path / 'new/report.html').read_text(encoding='utf-8')


def test_the_table_has_the_values_and_empty_cells(html):
    rows = Outline(html).rows
    assert rows[1:5] == [
        ['Classificationtop-1 accuracy', '61.2', '64.0', '−2.8'],
        ['Segmentation, UperNetmIoU', '', '12.3', ''],
        ['Detection, Mask R-CNNbox AP', '2.1', '', ''],
        ['Detection, Mask R-CNNmask AP', '', '', ''],
    ]
    assert rows[-1] == ['Pre-training', '2 min 05 s', 'python tools/train.py x']


def test_it_says_what_it_was_given_and_escapes_it(html):
    for text in ('A title', 'In short.', 'And more.', 'AP is noise', 'The &lt;loss&gt; falls', 'Seed', 'A &amp; B'):
        assert text in html
    alts = [value for tag, name, value in Outline(html).attributes if (tag, name) == ('img', 'alt')]
    assert alts == ['Falling "loss"', 'Just noise']


def test_it_needs_nothing_else(html):
    sources = [value for _, name, value in Outline(html).attributes if name in ('src', 'href', 'srcset')]
    assert [re.match('data:image/(png|jpeg);base64,', source)[1] for source in sources] == ['png', 'jpeg']
    assert not re.search(r'https?://|@import|url\(|<script|<link', html)
    assert 'prefers-color-scheme: dark' in html and 'name="viewport"' in html and '@media print' in html
    assert len(html) < 1_000_000


def test_the_table_for_a_terminal():
    lines = format_table(compare({'mIoU': 10.}, {'mIoU': 7.})).splitlines()
    assert len({len(line) for line in lines}) == 1 and len(lines) == 6
    cells = [cell.strip() for cell in lines[3].split('|')]
    assert cells == ['', 'Segmentation, UperNet', 'mIoU', '10.0', '7.0', '+3.0', '']
