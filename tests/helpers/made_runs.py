"""Folders of small runs, written by hand: a config, scalars, a text log; of any library, with no tool involved."""
import json
import os
import time
from pathlib import Path

CONFIG = """default_scope = '{scope}'
model = dict(type='{model}', backbone=dict(type='{backbone}', depth=50))
optim_wrapper = dict(optimizer=dict(type='SGD', lr={lr}))
train_cfg = dict({length})
train_dataloader = dict(batch_size=4, dataset=dict(type='{data}', data_root='data/bolts'))
randomness = dict(seed=3)
"""


def write_run(folder, values=(50., 60.), metric='mIoU', scope='mmseg', model='EncoderDecoder', backbone='ResNet', lr=.1,
              data='BaseSegDataset', epochs=4, by_epoch=True, name='20260101_000000', age=86_400, ours=False, ending=None,
              loss=1., classes=None, log=''):
    """A run of ten iterations to an epoch, with a validation after each of its first epochs.

    Args:
        folder (Path): Where to.
        values (Sequence[float]): Of the metric, one for each epoch that is done.
        ending (dict, optional): What it notes of its end.
        age (float): Seconds since it last wrote.
        ours (bool): Whether it is one of ours, which leave a provenance.
        log (str): More of its text log.
    """
    start = Path(folder, name)
    (start / 'vis_data').mkdir(parents=True)
    length = f'by_epoch=True, max_epochs={epochs}' if by_epoch else f'by_epoch=False, max_iters={10 * epochs}'
    config = CONFIG.format(scope=scope, model=model, backbone=backbone, lr=lr, data=data, length=length)
    (start / 'vis_data/config.py').write_text(config)
    lines, text = [], []
    for epoch, value in enumerate(values, 1):
        for step in (10 * epoch - 5, 10 * epoch):
            lines.append(dict(lr=lr, loss=loss / step, time=.5, step=step, **(dict(epoch=epoch) if by_epoch else {})))
            place = f'Epoch(train)  [{epoch}][{10 - step % 10:>2}/10]' if by_epoch else f'Iter(train) [{step}/{10 * epochs}]'
            when = time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(time.time() - age - 60 * (10 * len(values) - step)))
            text.append(f'{when} - mmengine - INFO - {place}  lr: 1e-01  eta: 0:00:10  loss: 1.0\n')
        lines.append({metric: value, 'data_time': .1, 'time': .2, 'step': epoch if by_epoch else 10 * epoch})
    (start / 'vis_data/scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (start / f'{name}.log').write_text(''.join(text) + log)
    if ours:
        Path(folder, 'provenance.json').write_text(json.dumps(dict(coma_mm='0.2.0', images=40, images_per_update=4)))
    if ending:
        (start / 'ended.json').write_text(json.dumps(ending))
    if classes:
        (start / 'classes.json').write_text(json.dumps(classes))
    for path in Path(folder).rglob('*'):
        os.utime(path, (time.time() - age, ) * 2)
    return Path(folder)
