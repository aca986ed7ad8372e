"""The page of predictions: all in it is text, and it does what it says in a browser."""
from types import SimpleNamespace

import numpy as np
import pytest

from coma_mm.inference import gallery
from coma_mm.inference.drawing import colors_of, map_png, outline, thumbnail
from coma_mm.inference.results import CutMask

from ..helpers.browser import OVERFLOW, chromium, open_page

HOSTILE = '<script>alert(1)</script>"\' \u202e'


def write(folder, task, names=('a.jpg', 'b "c" #1?.jpg', 'sub/d.jpg'), threshold=.3):
    """A page with a picture for each name."""
    classes = ['cat', HOSTILE, 'dog']
    colors = colors_of(classes, None)
    records = []
    for number, name in enumerate(names):
        image = np.full((300, 400 + 300 * number, 3), 60 * number, np.uint8)
        small, size = thumbnail(image)
        record = dict(id=number + 1, file_name=name, width=image.shape[1], height=300, thumb=f'thumbs/{name}',
                      thumb_size=list(size))
        path = folder / 'thumbs' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small)
        if task == 'classification':
            record['scores'] = {classes[number]: .5 + .1 * number, 'other': .2}
        elif task == 'segmentation':
            record.update(shares={classes[number]: .75, 'cat' if number else 'dog': .25}, unsure=0., map='maps/x.png',
                          map_thumb=f'thumbs/{name}.png')
            (folder / f'thumbs/{name}.png').write_bytes(map_png(np.full((300, 400), number, np.uint8), colors, size))
        else:
            mask = CutMask(50, 60, np.ones((80, 90), bool))
            record['objects'] = [dict(label=label, score=.9 - .4 * label, bbox=[60, 50 * label, 90, 80],
                                      outline=outline(mask, size[0] / image.shape[1])) for label in range(number)]
        records.append(record)
    usable = SimpleNamespace(task=task, classes=classes, model=SimpleNamespace(), checkpoint=f'/x/{HOSTILE}.pth')
    gallery.write_gallery(folder / 'gallery.html', usable, records, colors, threshold)
    return folder / 'gallery.html'


TASKS = ('classification', 'segmentation', 'detection')


@pytest.mark.parametrize('task', TASKS)
def test_names_are_text_whatever_is_in_them(task, tmp_path):
    text = write(tmp_path, task).read_text()
    assert '<script>alert' not in text and '\u202e' not in text and '&lt;script&gt;' in text
    assert 'thumbs/b%20%22c%22%20%231%3F.jpg' in text


def test_of_very_many_images_an_even_part_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, 'MOST_CARDS', 2)
    text = write(tmp_path, 'classification', [f'{number}.jpg' for number in range(3)]).read_text()
    assert text.count('<figure') == 2 and '3 images' in text and '2 of them are shown' in text


def test_the_page_works_in_a_browser(tmp_path):
    with chromium() as browser:
        for task in TASKS:
            complaints = []
            page = open_page(browser, write(tmp_path / task, task), complaints, viewport=dict(width=390, height=700))
            cards = page.locator('main figure:visible')
            assert cards.count() == 3 and page.evaluate(OVERFLOW) <= 0
            page.evaluate("document.querySelectorAll('img').forEach((one) => one.loading = 'eager')")
            page.wait_for_function("[...document.images].every((one) => one.complete && one.naturalWidth)")
            chip = page.locator('.chips button', has_text='cat')
            chip.click()
            assert cards.count() == dict(classification=1, segmentation=3, detection=2)[task]
            chip.click()
            if task == 'detection':
                assert page.locator('main .tag:visible').count() == 3
                page.locator('#score').fill('0.6')
                assert page.locator('main .tag:visible').count() == 2
            if task != 'segmentation':
                page.locator('#order').select_option('-1')
                first = page.locator('main figure').first.get_attribute('data-certainty')
                assert float(first) == dict(classification=.7, detection=.9)[task]
                page.locator('#order').select_option('')
            page.locator('main .view').first.click()
            assert page.locator('dialog .stack img').first.is_visible() and page.locator('dialog a').is_visible()
            page.keyboard.press('ArrowRight')
            assert 'b "c" #1?.jpg' in page.locator('dialog .name').inner_text()
            page.keyboard.press('Escape')
            assert not page.locator('dialog').is_visible() and not complaints
