"""Wrong data sets, checkpoints, variables and places."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

from tests.campaigns.inputs.case import CLASSIFICATION, DETECTION, PRETRAINING, SEGMENTATION, Case, test, train

SPLITS = ('train', 'val')


def cases():
    """Iterator[Case]: All of them."""
    yield from _coco_cases()
    yield from _map_cases()
    yield from _image_cases()
    yield from _folder_cases()
    yield from _checkpoint_cases()
    yield from _variable_cases()


def _coco_cases():
    def edit(change, splits):
        def apply(root):
            for split in splits:
                path = root / f'coco/annotations/instances_{split}.json'
                content = json.loads(path.read_text())
                text = change(content)
                _replace(path, (text if isinstance(text, str) else json.dumps(content)).encode())

        return apply

    def each(kind, **values):
        def change(content):
            for one in content[kind]:
                for key, value in values.items():
                    new = value(one) if callable(value) else value
                    if new is _REMOVED:
                        one.pop(key, None)
                    else:
                        one[key] = new

        return change

    def first(kind, **values):
        def change(content):
            content[kind][0].update(
                {key: value(content[kind][0]) if callable(value) else value for key, value in values.items()}
            )

        return change

    def drop(key):
        return lambda content: content.pop(key) and None

    def rename(content):
        content['categories'][0]['name'] = 'circel'

    def repeat(kind):
        return lambda content: content[kind].append(dict(content[kind][0]))

    def none_left(content):
        content['annotations'] = []

    def one_crowd(content):
        each('annotations', iscrowd=1)(content)

    def negative(content):
        keep = {content['images'][0]['id'], content['images'][1]['id']}
        content['annotations'] = [one for one in content['annotations'] if one['image_id'] in keep]

    refused = {
        'categories without the first name': (rename, 'circel|circle'),
        'no list of images': (drop('images'), 'images'),
        'no list of annotations': (drop('annotations'), 'annotations'),
        'no list of categories': (drop('categories'), 'categories'),
        'no JSON': (lambda content: '{"images": [', 'JSON'),
        'an empty file': (lambda content: '', 'JSON'),
        'a list': (lambda content: '[]', 'dict|COCO'),
        'a number': (lambda content: '3', 'dict|COCO'),
        'NaN in a box': (first('annotations', bbox=[0, 0, float('nan'), 3]), 'bbox'),
        'a box of three': (first('annotations', bbox=[0, 0, 3]), 'bbox'),
        'a box of text': (first('annotations', bbox='0 0 3 3'), 'bbox'),
        'an unknown category': (first('annotations', category_id=77), 'category'),
        'two equal ids': (repeat('annotations'), 'two annotations'),
        'two equal images': (repeat('images'), 'two images'),
        'file_name missing': (first('images', file_name=None), 'file_name'),
        'an image that is not there': (first('images', file_name='gone.jpg'), 'gone.jpg'),
        'an image outside': (first('images', file_name='../../../etc/passwd'), 'outside|\\.\\.'),
        'width 0': (first('images', width=0), 'width'),
        'height as text': (first('images', height='64'), 'height'),
        'another size than the image': (each('images', width=32, height=32), '32|64|size'),
        'a mask of another size': (first('annotations', segmentation=dict(size=[9, 9], counts='01')), 'segmentation|mask'),
        'a mask of text': (first('annotations', segmentation='mask'), 'segmentation|mask'),
        'all areas 0': (each('annotations', area=0), 'area'),
        'all boxes empty': (each('annotations', bbox=[5, 5, 0, 0]), 'box|objects'),
        'all boxes outside': (each('annotations', bbox=[500, 500, 9, 9]), 'outside|box|objects'),
        'all crowds': (one_crowd, 'crowd|objects'),
        'no annotation': (none_left, 'object|annotation'),
        'no image': (lambda content: content.update(images=[], annotations=[]), 'image|sample'),
        'annotations of other images': (each('annotations', image_id=lambda one: one['image_id'] + 5000), 'object|image'),
        'area as text': (first('annotations', area='big'), 'area'),
        'iscrowd 2': (first('annotations', iscrowd=2), 'iscrowd'),
        'a category without a name': (first('categories', name=None), 'name'),
        'two categories of a name': (first('categories', name='cross'), 'cross'),
    }
    for split in SPLITS:
        for name, (change, says) in refused.items():
            if split == 'val' and name in (
                'no annotation',
                'all crowds',
                'all areas 0',
                'all boxes empty',
                'all boxes outside',
                'annotations of other images',
            ):
                continue  # below
            yield Case('coco', f'{split}: {name}', train(DETECTION), 'refused', says, edit(change, [split]))
    for name in ('no annotation', 'all crowds'):
        change, says = refused[name]
        yield Case('coco', f'val: {name}', train(DETECTION), 'warned', 'object', edit(change, ['val']))
    without_masks = each('annotations', segmentation=_REMOVED)
    tested = test(DETECTION, 'test_dataloader.dataset.ann_file=annotations/instances_test.json')
    for split, args in dict(train=train(DETECTION), val=train(DETECTION), test=tested).items():
        yield Case('coco', f'{split}: no segmentation', args, 'refused', 'segmentation|mask', edit(without_masks, [split]))
    yield Case(
        'coco',
        'val: fewer categories',
        train(DETECTION),
        'warned',
        'triangle|categor',
        edit(
            lambda content: content.update(
                categories=content['categories'][:4],
                annotations=[one for one in content['annotations'] if one['category_id'] != content['categories'][4]['id']],
            ),
            ['val'],
        ),
    )
    for name, change in {
        'most images without objects': negative,
        'a box outside': first('annotations', bbox=[500, 500, 9, 9]),
        'an object of area 0': first('annotations', area=0),
        'an annotation of no image': first('annotations', image_id=4999),
    }.items():
        yield Case(
            'coco',
            f'train: {name}',
            train(DETECTION, 'train_dataloader.batch_size=2'),
            'counted',
            'not used|without',
            edit(change, ['train']),
        )
    rights = {
        'categories in another order': lambda content: content['categories'].reverse(),
        'ids as floats': each('images', id=lambda one: float(one['id'])),
        'no iscrowd': each('annotations', iscrowd=_REMOVED),
        'more keys': each('annotations', score=1.0, attributes=dict(occluded=False)),
    }
    for name, change in rights.items():
        yield Case(
            'coco', f'{name}', train(DETECTION), 'right', '', edit(change, SPLITS if 'floats' not in name else ['val'])
        )


_REMOVED = object()


def _replace(path, content):
    """Write a file anew: the data's copies may be hard links to one file."""
    Path(path).unlink(missing_ok=True)
    Path(path).write_bytes(content)


def _map_cases():
    def edit(change, split, how_many=None):
        def apply(root):
            folder = root / 'ade20k/annotations' / dict(train='training', val='validation')[split]
            for path in sorted(folder.iterdir())[:how_many]:
                values = np.asarray(Image.open(path))
                path.unlink()
                new = change(values)
                if isinstance(new, bytes):
                    path.write_bytes(new)
                elif isinstance(new, Image.Image):
                    new.save(path)
                elif new is not None:
                    cv2.imwrite(str(path), new)

        return apply

    colours = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    refused = {
        'colours': (lambda values: colours[values], 'channels|colour|color'),
        'colours with transparency': (
            lambda values: np.dstack([colours[values], np.full_like(values, 255)]),
            'channels|colour',
        ),
        '16 bits': (lambda values: values.astype(np.uint16) * 257, '16'),
        'ids beyond the classes': (lambda values: np.full_like(values, 9), '9'),
        'half the size': (lambda values: values[::2, ::2], 'fit|size|px'),
        'turned': (lambda values: np.pad(values, ((0, 0), (0, 8))), 'fit|size|px'),
        'empty files': (lambda values: b'', 'image|map|read'),
        'text': (lambda values: b'not a map', 'image|map|read'),
        'half a file': (lambda values: cv2.imencode('.png', values)[1].tobytes()[:60], 'image|map|read|trunc'),
        'none': (lambda values: None, '[Nn]o such file|not there|does not exist|holds no file|no map'),
        'nothing but 255': (lambda values: np.full_like(values, 255), '255|label'),
    }
    for split in SPLITS:
        for name, (change, says) in refused.items():
            expected = 'warned' if (split, name) == ('val', 'nothing but 255') else 'refused'
            yield Case('maps', f'{split}: {name}', train(SEGMENTATION), expected, says, edit(change, split))
        for name in ('ids beyond the classes', 'colours', '16 bits', 'half the size', 'none', 'empty files'):
            change, says = refused[name]
            yield Case(
                'maps', f'{split}: {name}, the first alone', train(SEGMENTATION), 'refused', says, edit(change, split, 1)
            )
    binary = [f'{split}_dataloader.dataset.metainfo.classes=["nothing","thing"]' for split in ('train', 'val', 'test')]
    heads = ['model.decode_head.num_classes=2', 'model.auxiliary_head.num_classes=2']
    yield Case(
        'maps',
        'train: 0 and 255 for two classes',
        train(SEGMENTATION, *binary, *heads),
        'refused',
        '255',
        lambda root: [edit(lambda values: (values > 0).astype(np.uint8) * 255, split)(root) for split in SPLITS],
    )
    yield Case(
        'maps',
        'train: class 0 alone',
        train(SEGMENTATION),
        'counted',
        'without a pixel|no pixel',
        edit(np.zeros_like, 'train'),
    )
    for split in SPLITS:
        yield Case('maps', f'{split}: with a palette', train(SEGMENTATION), 'right', '', edit(_palette, split))


def _palette(values):
    image = Image.fromarray(values)
    image.putpalette(list(range(256)) * 3)
    return image


def _image_cases():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3), np.uint8)

    def encoded(array, suffix='.png'):
        return cv2.imencode(suffix, array)[1].tobytes()

    def several_pages():
        return cv2.imencodemulti('.tiff', [noise, noise])[1].tobytes()

    contents = {
        'float TIFF': (encoded(noise[..., 0].astype(np.float32) / 255, '.tiff'), 'float'),
        'signed TIFF': (encoded(noise[..., 0].astype(np.int16) - 99, '.tiff'), 'sign|int16|kind|values|decod|16'),
        '12 bits in 16, grey PNG': (encoded(noise[..., 0].astype(np.uint16) * 16), '16'),
        '12 bits in 16, colour PNG': (encoded(noise.astype(np.uint16) * 16), '16'),
        '12 bits in 16, grey TIFF': (encoded(noise[..., 0].astype(np.uint16) * 16, '.tiff'), '16'),
        '12 bits in 16, colour TIFF': (encoded(noise.astype(np.uint16) * 16, '.tiff'), '16|decod'),
        'several pages': (several_pages(), 'page'),
        'empty': (b'', 'empty'),
        'text': (b'no image', 'not an image'),
        'half': (encoded(noise)[:900], 'truncated|altered'),
        'a flipped bit': (_flip(encoded(noise)), 'truncated|altered|check'),
    }
    starts = {
        'training': (train(PRETRAINING), 'unlabelled'),
        'check_data': (['check_data', 'folder', 'DATA/unlabelled', '--full'], 'unlabelled'),
        'packing': (['pack_dataset', 'DATA/unlabelled', 'packed', '--short-side', '64'], 'unlabelled'),
        'drawing': (
            [
                'visualize',
                'reconstruct',
                PRETRAINING,
                f'CHECKPOINT:{PRETRAINING}',
                'DATA/unlabelled/first.png',
                '--out',
                'shown',
            ],
            'unlabelled',
        ),
        'probing': (['knn', CLASSIFICATION, f'CHECKPOINT:{PRETRAINING}', '--k', '2'], 'imagenet/train/circle'),
    }
    for what, (args, folder) in starts.items():
        for name, (content, says) in contents.items():

            def change(root, folder=folder, content=content, everywhere=what != 'drawing'):
                for path in sorted((root / folder).rglob('*.jpg')) if everywhere else ():
                    path.unlink()
                    path.with_suffix('.png').write_bytes(content)  # Pillow looks at the content
                (root / folder / 'first.png').write_bytes(content)

            yield Case('images', f'{what}: {name}', args, 'refused', says, change)
    for name, content in {
        'grey': encoded(noise[..., 0]),
        'with transparency': encoded(np.dstack([noise, noise[..., 0]])),
        'BMP in a .png': encoded(noise, '.bmp'),
        'WebP in a .png': encoded(noise, '.webp'),
    }.items():

        def change(root, content=content):
            (root / 'unlabelled/first.png').write_bytes(content)

        yield Case('images', f'training: {name}', train(PRETRAINING), 'right', '', change)
    yield Case(
        'images',
        'suffixes that are not read',
        train(PRETRAINING),
        'counted',
        'avif|npy',
        lambda root: [(root / f'unlabelled/x.{suffix}').write_bytes(b'x') for suffix in ('avif', 'npy')],
    )
    yield Case(
        'images',
        'a line of 20000 × 2 px',
        train(PRETRAINING),
        'right',
        '',
        lambda root: [_replace(path, encoded(np.zeros((2, 20000, 3), np.uint8))) for path in [root / 'unlabelled/line.png']],
    )


def _flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _folder_cases():
    def without(*parts):
        return lambda root: [
            shutil.rmtree(root / part) if (root / part).is_dir() else (root / part).unlink() for part in parts
        ]

    def renamed(old, new):
        return lambda root: (root / old).rename(root / new)

    def emptied(part, keep=0):
        def change(root):
            for path in sorted(path for path in (root / part).rglob('*') if path.is_file())[keep:]:
                path.unlink()

        return change

    yield Case('folders', 'val without a class', train(CLASSIFICATION), 'refused', 'star', without('imagenet/val/star'))
    yield Case('folders', 'train without a class', train(CLASSIFICATION), 'refused', 'star', without('imagenet/train/star'))
    yield Case(
        'folders',
        'a class more in val',
        train(CLASSIFICATION),
        'refused',
        'hexagon',
        lambda root: shutil.copytree(root / 'imagenet/val/star', root / 'imagenet/val/hexagon'),
    )
    yield Case(
        'folders',
        'a class more in both',
        train(CLASSIFICATION),
        'refused',
        '5|6|hexagon',
        lambda root: [
            shutil.copytree(root / f'imagenet/{split}/star', root / f'imagenet/{split}/hexagon') for split in SPLITS
        ],
    )
    yield Case(
        'folders',
        'another name in val',
        train(CLASSIFICATION),
        'refused',
        'stars|star',
        renamed('imagenet/val/star', 'imagenet/val/stars'),
    )
    yield Case(
        'folders', 'an empty class in train', train(CLASSIFICATION), 'counted', 'star', emptied('imagenet/train/star')
    )
    yield Case('folders', 'test without a class', test(CLASSIFICATION), 'refused', 'star', without('imagenet/test/star'))
    for part, task in (
        ('unlabelled', PRETRAINING),
        ('imagenet/train', CLASSIFICATION),
        ('imagenet/val', CLASSIFICATION),
        ('ade20k/images/training', SEGMENTATION),
        ('ade20k/images/validation', SEGMENTATION),
        ('ade20k/annotations/training', SEGMENTATION),
        ('ade20k/annotations/validation', SEGMENTATION),
        ('coco/train', DETECTION),
        ('coco/val', DETECTION),
        ('coco/annotations/instances_train.json', DETECTION),
        ('coco/annotations/instances_val.json', DETECTION),
    ):
        yield Case('folders', f'no {part}', train(task), 'refused', part.rpartition('/')[2], without(part))
        if '.json' not in part:
            yield Case('folders', f'{part} is empty', train(task), 'refused', '', emptied(part))
            yield Case(
                'folders',
                f'{part} is a file',
                train(task),
                'refused',
                part.rpartition('/')[2],
                lambda root, part=part: (shutil.rmtree(root / part), (root / part).write_text('')),
            )
    yield Case(
        'folders', 'three images for a batch of four', train(PRETRAINING), 'refused', 'batch', emptied('unlabelled', 3)
    )
    yield Case(
        'folders',
        'a map without its image',
        train(SEGMENTATION),
        'counted',
        'map',
        lambda root: sorted((root / 'ade20k/images/training').iterdir())[0].unlink(),
    )
    for kind in ('imagenet', 'ade20k', 'coco'):
        yield Case('folders', f'check_data {kind} of another kind', ['check_data', kind, 'DATA/unlabelled'], 'refused', '')
    yield Case('folders', 'check_data of nothing', ['check_data', 'folder', 'nowhere'], 'refused', 'nowhere')
    yield Case('folders', 'check_data of an unknown kind', ['check_data', 'imagnet', 'DATA/imagenet'], 'refused', 'imagenet')
    yield Case(
        'folders',
        'k-NN with one class',
        ['knn', CLASSIFICATION, f'CHECKPOINT:{PRETRAINING}', '--k', '1'],
        'refused',
        'class',
        lambda root: [
            shutil.rmtree(root / f'imagenet/{split}/{name}')
            for split in ('train', 'val', 'test')
            for name in ('cross', 'square', 'star', 'triangle')
        ],
    )
    yield Case('folders', 'k of 200 among 10', ['knn', CLASSIFICATION, f'CHECKPOINT:{PRETRAINING}'], 'right')
    yield Case(
        'folders',
        'a linear probe with one class',
        ['linear_probe', CLASSIFICATION, f'CHECKPOINT:{PRETRAINING}'],
        'refused',
        'class',
        lambda root: [
            shutil.rmtree(root / f'imagenet/{split}/{name}')
            for split in ('train', 'val', 'test')
            for name in ('cross', 'square', 'star', 'triangle')
        ],
    )
    yield Case(
        'folders',
        'a pack of an empty folder',
        ['pack_dataset', 'DATA/unlabelled', 'packed', '--short-side', '64'],
        'refused',
        '',
        emptied('unlabelled'),
    )
    yield Case('folders', 'a pack into a full folder', ['pack_dataset', 'DATA/unlabelled', 'DATA/coco'], 'refused', 'coco')
    yield Case('folders', 'a work_dir that is a file', ['train', PRETRAINING, '--work-dir', 'user.py'], 'refused', 'user.py')
    yield Case(
        'folders', 'a work_dir below a file', ['train', PRETRAINING, '--work-dir', 'user.py/run'], 'refused', 'user.py'
    )
    yield Case(
        'folders', 'a work_dir where nobody may write', ['train', PRETRAINING, '--work-dir', '/proc/run'], 'refused', '/proc'
    )
    for name, where in (('no folder of runs', 'nowhere'), ('a folder without runs', 'DATA/coco'), ('a file', 'user.py')):
        for command in ('collect', 'tables', 'report'):
            expected = 'counted' if where == 'DATA/coco' else 'refused'
            yield Case('folders', f'benchmark {command}: {name}', ['benchmark', command, where], expected, 'no run|run')


def _checkpoint_cases():
    def made(content):
        return lambda root: torch.save(content, root / 'made.pth')

    def written(content):
        return lambda root: (root / 'made.pth').write_bytes(content)

    weights = dict(weight=torch.zeros(2, 2))
    contents = {
        'an empty file': written(b''),
        'text': written(b'weights, honestly'),
        'JSON': written(b'{"state_dict": {}}'),
        'a JPEG': lambda root: shutil.copy(next((root / 'unlabelled').rglob('*.jpg')), root / 'made.pth'),
        'half a ZIP': written(b'PK\x03\x04' + bytes(100)),
        'an empty dict': made({}),
        'a list': made([1, 2]),
        'a tensor': made(torch.zeros(3)),
        'no weights of the model': made(dict(state_dict=weights, meta={})),
        'a text for weights': made(dict(state_dict='weights', meta={})),
        'texts among the weights': made(dict(state_dict={'backbone.stem.weight': 'x'}, meta={})),
        'numbers for names': made(dict(state_dict={3: torch.zeros(2)}, meta={})),
        'a folder': lambda root: (root / 'made.pth').mkdir(),
        'no file': lambda root: None,
        'a link to itself': lambda root: os.symlink(root / 'made.pth', root / 'made.pth'),
    }
    starts = {
        'tested': ['test', CLASSIFICATION, 'DATA/made.pth', '--work-dir', 'run'],
        'resumed': ['train', PRETRAINING, '--work-dir', 'run', '--resume', 'DATA/made.pth'],
        'loaded': train(PRETRAINING, 'load_from=DATA/made.pth'),
        'as pre-trained': train(
            CLASSIFICATION,
            'model.backbone.init_cfg.type=Pretrained',
            'model.backbone.init_cfg.checkpoint=DATA/made.pth',
            'model.backbone.init_cfg.prefix=backbone.',
        ),
        'exported': ['export_backbone', 'DATA/made.pth', 'out.safetensors'],
        'probed': ['linear_probe', CLASSIFICATION, 'DATA/made.pth'],
        'drawn': ['visualize', 'reconstruct', PRETRAINING, 'DATA/made.pth', 'DATA/unlabelled', '--out', 'shown'],
    }
    for start, args in starts.items():
        for name, change in contents.items():
            yield Case('checkpoints', f'{start}: {name}', args, 'refused', r'made\.pth', change)
    for meta in (
        None,
        3,
        'meta',
        [],
        dict(dataset_meta=3),
        dict(dataset_meta=dict(classes=5)),
        dict(epoch='x', iter=[]),
        dict(coma_mm='x' * 10**6),
    ):

        def change(root, meta=meta):
            path = next(root.parent.parent.glob('pretraining/run/epoch_1.pth'))
            checkpoint = torch.load(path, weights_only=False)
            checkpoint['meta'] = meta
            torch.save(checkpoint, root / 'made.pth')

        yield Case(
            'checkpoints',
            f'exported: meta {str(meta)[:40]}',
            ['export_backbone', 'DATA/made.pth', 'out.safetensors'],
            'either',
            '',
            change,
        )
        yield Case(
            'checkpoints',
            f'resumed: meta {str(meta)[:40]}',
            ['train', PRETRAINING, '--work-dir', 'run', '--resume', 'DATA/made.pth', '--cfg-options', 'epochs=1'],
            'either',
            '',
            change,
        )
    yield Case(
        'checkpoints',
        'tested: of another task',
        ['test', DETECTION, f'CHECKPOINT:{CLASSIFICATION}', '--work-dir', 'run'],
        'refused',
        '',
    )
    yield Case(
        'checkpoints',
        'tested: of another arch',
        [
            'test',
            CLASSIFICATION,
            f'CHECKPOINT:{CLASSIFICATION}',
            '--work-dir',
            'run',
            '--cfg-options',
            'model.backbone.arch=small',
        ],
        'refused',
        'arch|shape',
    )
    yield Case(
        'checkpoints',
        'as pre-trained: other bands',
        train(
            CLASSIFICATION,
            'model.backbone.in_channels=4',
            'model.data_preprocessor.mean=[1,1,1,1]',
            'model.data_preprocessor.std=[1,1,1,1]',
            'model.backbone.init_cfg.type=Pretrained',
            'model.backbone.init_cfg.checkpoint=PRETRAINED',
            'model.backbone.init_cfg.prefix=backbone.',
        ),
        'refused',
        'in_channels|bands|channels',
        lambda root: shutil.copy(next(root.parent.parent.glob('pretraining/run/epoch_1.pth')), root.parent / 'PRETRAINED'),
    )
    yield Case(
        'checkpoints',
        'tested: with augmentation of a detector',
        ['test', DETECTION, f'CHECKPOINT:{DETECTION}', '--work-dir', 'run', '--tta'],
        'counted',
        'merges the boxes',
    )


def _variable_cases():
    coma = CLASSIFICATION.replace('scratch', 'coma')

    def run(task):
        return ['train', f'coma_mm::shapes/{task}.py', '--work-dir', 'run']

    for value in (
        'nowhere',
        '',
        ' ',
        "it's",
        '"',
        '{{x}}',
        '../..',
        '/',
        'a' * 300,
        'a\nb',
        '~',
        'DATA/coco_shapes.json',
        '$HOME',
    ):
        yield Case(
            'variables', f'SHAPES_ROOT={value[:20]!r}', train(PRETRAINING), 'refused', '', env=dict(SHAPES_ROOT=value)
        )
    for value in ('nowhere.pth', ' ', "it's.pth", '"', '.', '/'):
        yield Case('variables', f'PRETRAINED={value!r}', run(coma), 'refused', '', env=dict(PRETRAINED=value))
    config = 'mine.py'
    texts = {
        'a syntax error': 'model = dict(',
        'a base that is not there': "_base_ = 'nowhere.py'",
        'a base of itself': "_base_ = 'mine.py'",
        'nothing': '',
        'an import that fails': 'import nothing_of_the_kind',
        'an error while it runs': 'x = 1 / 0',
        'no Python': 'once upon a time',
        'bytes': '\x00\x01',
        'a number for a model': "_base_ = 'BASE'\nmodel = 3",
        'a key misspelt': "_base_ = 'BASE'\ntrain_dataloder = dict(batch_size=2)",
        'a model of no type': 'model = dict()',
        'a loader of no data set': "_base_ = 'BASE'\ntrain_dataloader = dict(_delete_=True, batch_size=2)",
        'a pipeline of no step': "_base_ = 'BASE'\ntrain_dataloader = dict(dataset=dict(pipeline=[]))",
        'an unknown step': "_base_ = 'BASE'\ntrain_dataloader = dict(dataset=dict(pipeline=[dict(type='LaodImage')]))",
        'an unknown sampler': "_base_ = 'BASE'\ntrain_dataloader = dict(sampler=dict(type='RandomSampeler'))",
        'an unknown metric': "_base_ = 'BASE'\nval_evaluator = dict(type='Acuracy')",
        'val without an evaluator': "_base_ = 'BASE'\nval_evaluator = None",
        'an unknown loop': "_base_ = 'BASE'\ntrain_cfg = dict(type='EpochLoop')",
        'both lengths': "_base_ = 'BASE'\ntrain_cfg = dict(max_iters=5)",
        'an optimiser misspelt': "_base_ = 'BASE'\noptim_wrapper = dict(optimizer=dict(type='AdmW'))",
        'a schedule misspelt': "_base_ = 'BASE'\nparam_scheduler = dict(type='CosinLR')",
        'an unknown visualiser': "_base_ = 'BASE'\nvisualizer = dict(type='Visualiser')",
        'an unknown writer': "_base_ = 'BASE'\nvisualizer = dict(vis_backends=[dict(type='WandBackend')])",
        'an argument too many': "_base_ = 'BASE'\nmodel = dict(backbone=dict(depthh=3))",
        'a step with a wrong argument': "_base_ = 'BASE'\ntrain_dataloader = dict(dataset=dict(pipeline=["
        "dict(type='LoadImage', to_gray=True)]))",
    }
    for name, text in texts.items():

        def change(root, text=text):
            Path(root.parent, config).write_text(text.replace('BASE', f'coma_mm::shapes/{PRETRAINING}.py'))

        yield Case('configs', name, ['train', config, '--work-dir', 'run'], 'refused', '', change)
    for name, path in (
        ('no file', 'nowhere.py'),
        ('a folder', '.'),
        ('not Python', 'notes.txt'),
        ('of the package', 'coma_mm::nowhere.py'),
        ('an empty package', '::'),
        ('an unknown package', 'mmnothing::x.py'),
        ('a long name', 'x' * 5000 + '.py'),
    ):
        yield Case(
            'configs',
            f'a path: {name}',
            ['train', path, '--work-dir', 'run'],
            'refused',
            '',
            lambda root: (root.parent / 'notes.txt').write_text('x'),
        )
    for name, args in {
        'no command': [],
        'an unknown command': ['trian'],
        'no config': ['train'],
        'an unknown option': ['train', PRETRAINING, '--epochs', '3'],
        'too many': ['test', PRETRAINING, 'a.pth', 'b.pth'],
        'an empty value': ['train', PRETRAINING, '--work-dir', ''],
        'an unknown benchmark': ['benchmark', 'sped'],
        'an unknown drawing': ['visualize', 'atention'],
        'show-dir and tta': ['test', PRETRAINING, 'x.pth', '--show-dir', 'a', '--tta'],
    }.items():
        yield Case('configs', f'command line: {name}', args, 'refused', '')
    for options in (('GPUS', '0'), ('GPUS', 'two'), ('GPUS', '1.5'), ('GPUS', '-1')):
        yield Case(
            'variables',
            f'dist_train with {options[1]} processes',
            ['dist_train', f'coma_mm::shapes/{PRETRAINING}.py', options[1]],
            'refused',
            options[1],
        )
    for name, value in (
        ('PORT', 'abc'),
        ('PORT', '0x'),
        ('PORT', '99999999'),
        ('NNODES', '0'),
        ('NNODES', 'x'),
        ('NODE_RANK', '7'),
        ('NODE_RANK', 'x'),
        ('MAX_RESTARTS', '-1'),
        ('MAX_RESTARTS', 'x'),
    ):
        yield Case(
            'variables',
            f'dist_train with {name}={value}',
            ['dist_train', f'coma_mm::shapes/{PRETRAINING}.py', '2'],
            'refused',
            name,
            env={name: value},
        )
