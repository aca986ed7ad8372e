"""The page about data sets: one file with pictures of what was found, and nothing from outside."""
import re

import numpy as np
from PIL import Image

from coma_mm.prepare.check import Findings
from coma_mm.prepare.survey import coco_sets, folder_sets, segmentation_sets, survey
from coma_mm.visualization.data_page import _outline, _viewable, write_data_page
from tests.helpers.browser import OVERFLOW, chromium, open_page
from tests.helpers.own_data import write_coco, write_photo


def page_of(path, read, *args):
    findings = Findings()
    write_data_page(path, 'photos & more', survey(read(*args, findings), findings))
    return path.read_text()


def test_objects_are_drawn_on_their_images_and_classes_have_bars(tmp_path):
    coco = write_coco(tmp_path, 'a.json', {'a.png': 1, '<b>&.png': 2}, [(0, 0, [1, 1, 20, 10]), (0, 1, [8, 8, 9, 9])])
    html = page_of(tmp_path / 'page.html', coco_sets, [str(coco)], str(tmp_path / 'photos'))
    assert html.count('<rect x=') == html.count('<path d="M') == 2 and 'd="M1,1 21,1 1,11Z"' in html
    assert re.findall(r'<li><span>(\w+)</span>.*?<b>(\d)</b><small>(.*?)<', html) == [
        ('cat', '1', 'in 1 image'), ('dog', '1', 'in 1 image')]
    assert 'photos &amp; more' in html and '&lt;b&gt;&amp;.png' in html and '<b>&.png' not in html
    assert html.index('Without an object') < html.rindex('&lt;b&gt;&amp;.png')
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html) and '//' not in re.sub(r'"data:[^"]*"', '', html)


def test_maps_are_drawn_in_the_colours_of_their_classes(tmp_path):
    write_photo(tmp_path, 'images/a.png', 1)
    mask = np.full((30, 40), 255, np.uint8)
    mask[:9] = 4
    mask[9:12] = 7
    (tmp_path / 'masks').mkdir()
    Image.fromarray(mask).save(tmp_path / 'masks/a.png')
    html = page_of(tmp_path / 'page.html', segmentation_sets, str(tmp_path / 'images'), str(tmp_path / 'masks'), None, None)
    assert 'class="map" src="data:image/png' in html and '<b>30 %</b>' in html and '<b>10 %</b>' in html
    color = re.search(r'background: (#\w+)"></i></span><b>30 %', html)[1]
    assert f'<i style="background: {color}"></i>class 4</span>' in html
    names = [f'class {number}' for number in range(300)]  # more than there can be values
    html = page_of(tmp_path / 'page.html', segmentation_sets, str(tmp_path / 'images'), str(tmp_path / 'masks'), names, [0])
    assert 'class="map" src="data:image/png' in html and 'class 299' in html


def test_equal_images_are_shown_side_by_side_and_damaged_ones_are_left_out(tmp_path):
    for name, seed in (('train/a/1.png', 1), ('train/b/2.png', 2), ('val/a/3.png', 3), ('val/b/4.png', 1)):
        write_photo(tmp_path, f'data/{name}', seed)
    write_photo(tmp_path, 'data/train/a/bad.png', 9).write_bytes(b'\x89PNG')
    html = page_of(tmp_path / 'page.html', folder_sets, [str(tmp_path / 'data')])
    assert 'train: a/1.png</figcaption>' in html and 'val: b/4.png</figcaption>' in html
    assert html.count('<b>Problem</b>') == 2 and 'alt="a/bad.png"' not in html


def test_images_of_any_depth_can_be_looked_at():
    deep = np.linspace(0, 4095, 12).reshape(3, 4, 1).astype(np.uint16)
    shown = _viewable(deep)
    assert shown.shape == (3, 4, 3) and shown.dtype == np.uint8 and shown.min() == 0 and shown.max() == 255
    assert _viewable(np.full((3, 4, 7), np.nan, np.float32)).shape == (3, 4, 3)


def test_run_lengths_are_drawn_as_polygons_are():
    assert _outline(dict(size=[20, 20], counts=[84, 12, 8, 12, 8, 12, 264]), .5).startswith('M')
    assert _outline(None, 1.) == '' == _outline([[1, 2, 3, 4]], 1.)


def test_the_page_fits_a_phone_and_asks_for_nothing(tmp_path):
    coco = write_coco(tmp_path, 'a.json', {'a.png': 1}, [(0, 0, [1, 1, 20, 10])], ('a' * 60, 'dog'))
    page_of(tmp_path / 'page.html', coco_sets, [str(coco)], str(tmp_path / 'photos'))
    complaints = []
    with chromium() as browser:
        page = open_page(browser, tmp_path / 'page.html', complaints, viewport=dict(width=390, height=800))
        assert page.evaluate(OVERFLOW) == 0
        page.click('button.view')
        assert page.evaluate(OVERFLOW) == 0 and page.locator('figure.large').count() == 1
    assert not complaints
