"""The config that the page on your own data shows is what the command writes."""
import re
from pathlib import Path

import numpy as np
from PIL import Image

from coma_mm.prepare.new import new_config

PAGE = (Path(__file__).parents[2] / 'docs/your_data.md').read_text()


def test_the_shown_config_is_the_written_one(tmp_path):
    for index in range(200):
        Image.fromarray(np.zeros((128, 160, 3), np.uint8)).save(tmp_path / f'{index}.bmp')
    shown, = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    written = new_config('pretrain', images=str(tmp_path), arch='tiny', measure=False).text
    assert written == shown.replace('/home/me/photos', str(tmp_path))
