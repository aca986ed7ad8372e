"""Wrong settings of configs and wrong options of commands, each with the values that must not be taken in silence."""

import re

from tests.campaigns.inputs.case import CLASSIFICATION, DETECTION, PRETRAINING, SEGMENTATION, Case, train

NAN = "float('nan')"
NO_RATE = ('nan', '-1', 'inf', 'fast')
NO_COUNT = ('0', '-3', '1.5', 'nan', 'many')
NO_SHARE = ('1.5', '-0.1', 'nan', 'some')
TEXT_SWITCH = ('no', '0.5', "'False'")

EVERYWHERE = {
    'train_cfg.max_epochs': NO_COUNT,
    'train_cfg.val_interval': NO_COUNT,
    'optim_wrapper.optimizer.lr': NO_RATE,
    'optim_wrapper.optimizer.weight_decay': ('nan', '-1', 'some'),
    'optim_wrapper.optimizer.betas': ('(0.9,1.5)', '(0.9,)', '0.9', '(-1,0.9)'),
    'optim_wrapper.optimizer.eps': ('nan', '-1'),
    'optim_wrapper.clip_grad.max_norm': ('-1', '0', 'nan', 'small'),
    'optim_wrapper.accumulative_counts': ('0', '-2', '1.5', 'many', 'nan'),
    'default_hooks.checkpoint.interval': ('0', '1.5', 'nan', 'often'),
    'default_hooks.checkpoint.max_keep_ckpts': ('0', '-2', '1.5', 'few'),
    'default_hooks.checkpoint.intervall': ('2',),
    'default_hooks.checkpoint.filename_tmpl': ('last.pth', 'epoch.pth'),
    'default_hooks.logger.interval': ('0', '-5', '1.5', 'often'),
    'default_hooks.logger.intervall': ('5',),
    'param_scheduler.0.start_factor': ('0', '2', 'nan', 'low'),
    'param_scheduler.0.end': ('0', '-1', 'nan', 'late'),
    'param_scheduler.0.begin': ('-1', 'nan', 'early'),
    'param_scheduler.1.eta_min': ('nan', '-1', 'low'),
    'param_scheduler.1.T_max': ('0', '-4', 'nan'),
    'train_dataloader.batch_size': ('0', '-4', '2.5', 'many', 'None'),
    'train_dataloader.num_workers': ('-1', '1.5', 'many', '100000'),
    'val_dataloader.batch_size': ('0', '-4', '2.5', 'many'),
    'train_dataloader.drop_last': TEXT_SWITCH,
    'train_dataloader.batchsize': ('4',),
    'randomness.seed': ('-1', '1.5', 'nan', 'lucky'),
    'randomness.deterministic': TEXT_SWITCH,
    'model.data_preprocessor.std': ('[0,0,0]', '[1,0,1]', '[1,1]', f'[{NAN},1,1]'.replace(NAN, '"nan"'), 'wide', '[-1,1,1]'),
    'model.data_preprocessor.mean': ('[0,0]', 'grey', '["a","b","c"]'),
    'model.backbone.drop_path_rate': NO_SHARE,
    'model.backbone.mlp_ratio': ('0', '-1', 'nan', 'wide'),
    'model.backbone.in_channels': ('0', '-3', '1.5', 'rgb'),
    'model.backbone.patch_size': ('0', '5', '16.5', 'large'),
    'model.backbone.arch': (
        'tinny',
        '5',
        'dict(dims=(32,64,128,256),depths=(1,1,-3,1),num_heads=(1,2,4,8))',
        'dict(dims=(32,64,128),depths=(1,1,3,1),num_heads=(1,2,4,8))',
        'dict(dims=(32,64,128,255),depths=(1,1,3,1),num_heads=(1,2,4,8))',
    ),
    'model.backbone.with_cp': TEXT_SWITCH,
    'model.backbone.frozen_stages': ('7', '-2', '1.5', 'all'),
    'model.backbone.depht': ('2',),
    'model.backbone.type': ('DyVit', 'Resnet50'),
    'log_processor.window_size': ('0', '-1', '1.5'),
    'log_level': ('LOUD',),
    'load_from': ('nowhere.pth', '.'),
    'env_cfg.mp_cfg.mp_start_method': ('swpan',),
    'default_scope': ('mmpretrian',),
    'epochs': ('0', '-3', '1.5', 'few'),
}
"""Settings that all configs have."""

OF_A_TASK = {
    PRETRAINING: {
        'train_dataloader.dataset.pipeline.3.sampler.ratio': ('0', '1', '1.5', '-0.5', 'nan', 'most'),
        'train_dataloader.dataset.pipeline.1.crop_ratio_range': ('(0,0)', '(-1,1)', '(0.5,)', '(2,3)', 'all'),
        'train_dataloader.dataset.pipeline.1.scale': ('0', '-64', '50', 'large'),
        'train_dataloader.dataset.pipeline.2.prob': NO_SHARE,
        'mask_sampler.ratio': ('0', '1', '1.5', 'nan'),
        'model.decoder.depth': ('0', '-1', '1.5', 'deep'),
        'model.decoder.embed_dims': ('0', '-8', '33', 'wide'),
        'model.decoder.num_heads': ('0', '3', '-4'),
        'model.decoder.dpeth': ('2',),
        'model.head.norm_pix': TEXT_SWITCH,
        'model.complement': ('frozn', '5'),
        'custom_hooks.0.interval': ('0', '-1', '1.5'),
        'custom_hooks.0.intervall': ('2',),
        'train_dataloader.on_bad_image': ('skipp', '1'),
        'size': ('0', '-64', '50', 'large'),
        'mask_unit': ('0', '24', '-16'),
        'mask_pair': ('independant', 'independent'),
        'default_hooks.checkpoint.save_best': ('mIoU', 'accuracy/top1'),
    },
    CLASSIFICATION: {
        'val_evaluator.topk': ('(0,)', '0', '(-1,)', '(1.5,)', 'best'),
        'model.head.num_classes': ('0', '-5', '1.5', '4', '1000', 'many'),
        'model.head.loss.loss_weight': ('nan', '-1', 'heavy'),
        'model.data_preprocessor.num_classes': ('3', '1000'),
        'model.head.loss': (
            "dict(type='LabelSmoothLoss',label_smooth_val=2)",
            "dict(type='LabelSmoothLoss',label_smooth_val=-1)",
            "dict(type='CrossEntropyLos')",
        ),
        'model.train_cfg.augments': (
            "dict(type='Mixup',alpha=-1)",
            "dict(type='Mixup',alpha=0)",
            "dict(type='Mixupp',alpha=1)",
        ),
        'train_dataloader.dataset.classes': ('circle', '["circle","cross"]'),
        'default_hooks.checkpoint.save_best': ('mIoU', 'acuracy/top1', 'accuracy/top5'),
        'custom_hooks': (
            "[dict(type='EarlyStoppingHook',monitor='mIoU')]",
            "[dict(type='EarlyStoppingHook')]",
            "[dict(type='EMAHook',momentum=2)]",
            "[dict(type='EMAHok')]",
            "[dict(type='EMAHook',momentun=0.1)]",
        ),
    },
    SEGMENTATION: {
        'model.decode_head.num_classes': ('0', '-5', '1.5', '4', '150', 'many'),
        'model.auxiliary_head.num_classes': ('0', '4', '150', '1.5'),
        'model.decode_head.ignore_index': ('0', '3', 'none'),
        'model.decode_head.dropout_ratio': NO_SHARE,
        'model.decode_head.channels': ('0', '-64', '1.5'),
        'model.decode_head.loss_decode.loss_weight': ('nan', '-1', 'heavy'),
        'model.test_cfg.mode': ('wohle', 'slide'),
        'val_evaluator.iou_metrics': ('mIou', '["mIoX"]'),
        'val_dataloader.dataset.reduce_zero_label': ('False', 'no'),
        'train_dataloader.dataset.reduce_zero_label': ('False', 'no'),
        'train_dataloader.dataset.metainfo.classes': (
            'background',
            '["background","circle"]',
            '["circle","background","cross","square","star","triangle"]',
        ),
        'default_hooks.checkpoint.save_best': ('coco/bbox_mAP', 'mIou'),
        'custom_hooks': ("[dict(type='EarlyStoppingHook',monitor='coco/bbox_mAP')]",),
    },
    DETECTION: {
        'model.roi_head.bbox_head.num_classes': ('0', '-5', '1.5', '4', '80', 'many'),
        'model.roi_head.mask_head.num_classes': ('0', '4', '80', '1.5'),
        'model.train_cfg.rpn.assigner.pos_iou_thr': ('2', '-1', 'nan'),
        'model.test_cfg.rcnn.score_thr': ('nan', 'low'),
        'model.test_cfg.rcnn.max_per_img': ('0', '1.5', 'many'),
        'model.test_cfg.rcnn.nms.iou_threshold': ('2', '-1', 'nan'),
        'model.rpn_head.anchor_generator.scales': ('[]', '[0]', '[-4]', 'large'),
        'model.roi_head.bbox_head.loss_cls.loss_weight': ('nan', '-1'),
        'train_dataloader.dataset.metainfo.classes': (
            'circle',
            '["circle","cross"]',
            '["circle","cross","square","star","triangel"]',
        ),
        'val_evaluator.metric': ('bboxx', '["bbox","segmm"]', '[]'),
        'val_evaluator.ann_file': ('nowhere.json',),
        'train_dataloader.dataset.ann_file': ('nowhere.json', 'annotations'),
        'default_hooks.checkpoint.save_best': ('mIoU', 'coco/bbox_map'),
        'custom_hooks': ("[dict(type='EarlyStoppingHook',monitor='mIoU')]",),
    },
}

FOR_RIGHT = {  # what one could take for wrong, and is not
    'optim_wrapper.clip_grad.max_norm': '3.0',
    'default_hooks.checkpoint.interval': '-1',
    'default_hooks.checkpoint.max_keep_ckpts': '-1',
    'default_hooks.checkpoint.filename_tmpl': 'step_{}.pth',
    'train_dataloader.drop_last': 'False',
    'randomness.seed': 'None',
    'randomness.deterministic': 'True',
    'model.backbone.with_cp': 'True',
    'model.backbone.frozen_stages': '-1',
    'optim_wrapper.optimizer.weight_decay': '0',
    'train_cfg.val_interval': '2',
    'val_dataloader.batch_size': '3',
}
LR_0 = 'optim_wrapper.optimizer.lr=0'


def cases():
    """Iterator[Case]: All of them."""
    for task in OF_A_TASK:
        every = EVERYWHERE if task == PRETRAINING else {}  # what all configs have is tried with one of them
        for key, values in {**every, **OF_A_TASK[task]}.items():
            for value in values:
                yield _case(task, key, value)
    for key, value in FOR_RIGHT.items():
        yield Case('settings', f'{PRETRAINING}: {key}={value}', train(PRETRAINING, f'{key}={value}'), 'right')
    yield Case('settings', f'{PRETRAINING}: {LR_0}', train(PRETRAINING, LR_0), 'warned', says=r'lr')
    option = 'train_dataloader.dataset.classes=["circle","cross","square","star","triangel"]'
    yield Case('settings', f'{CLASSIFICATION}: {option}', train(CLASSIFICATION, option), 'warned', says='triangel|different')
    for value in ('0', '3'):
        option = f'val_evaluator.ignore_index={value}'
        yield Case('settings', f'{SEGMENTATION}: {option}', train(SEGMENTATION, option), 'warned', says='ignore_index')
    for command, options in OPTIONS.items():
        for option, values in options.items():
            for value in values:
                name, *rest = option.split(' ')
                given = [name, *value.split(' ')] if name.startswith('-') else [value]
                yield Case('options', f'{command} {option} {value}', [*START[command], *rest, *given], 'refused')


def _case(task, key, value):
    """Case: A setting; on the command line, or in a file where that takes no such value (a dict, a text in quotes)."""
    name = f'{task}: {key}={value}'
    if not re.match(r"'|\[?dict\(", value):
        return Case('settings', name, train(task, f'{key}={value}'), 'refused', _words(key))
    text = re.sub(r'^dict\(', 'dict(_delete_=True, ', value)
    first, *others = key.split('.')
    for part in reversed(others):
        text = f'dict({part}={text})'

    def change(root):
        (root.parent / 'mine.py').write_text(f"_base_ = 'coma_mm::shapes/{task}.py'\n{first} = {text}\n")

    return Case('settings', name, ['train', 'mine.py', *train(task)[2:]], 'refused', change=change)


_ALSO = {
    'load_from': ['checkpoint'],
    'mask_unit': ['unit'],
    'train_dataloader.dataset.pipeline.1.scale': ['crop size'],
    'default_scope': ['scope'],
}
"""Other words by which a line may name a setting."""


def _words(key):
    """What a line about a setting must name, one of: its last word, or that of its owner."""
    return '|'.join([part for part in key.split('.')[-2:] if not part.isdigit()] + _ALSO.get(key, []))


START = {
    'linear_probe': ['linear_probe', CLASSIFICATION, 'CHECKPOINT:pretraining'],
    'knn': ['knn', CLASSIFICATION, 'CHECKPOINT:pretraining'],
    'reconstruct': ['visualize', 'reconstruct', PRETRAINING, 'CHECKPOINT:pretraining', 'DATA/unlabelled', '--out', 'shown'],
    'attention': ['visualize', 'attention', PRETRAINING, 'CHECKPOINT:pretraining', 'DATA/unlabelled', '--out', 'shown'],
    'train': ['train', PRETRAINING, '--work-dir', 'run'],
    'test': ['test', CLASSIFICATION, 'CHECKPOINT:classification', '--work-dir', 'run'],
    'check_data': ['check_data', 'folder', 'DATA/unlabelled', '--full'],
    'pack_dataset': ['pack_dataset', 'DATA/unlabelled', 'packed', '--short-side', '64'],
    'make_shapes': ['make_shapes', 'made', '--images', '20'],
    'demo': ['demo', '--work-dir', 'demo'],
    'study': ['study', '--work-dir', 'study'],
    'complement_study': ['complement_study', '--data', 'DATA/unlabelled', '--work-dir', 'study', '--out', 'facts.json'],
    'small_study': ['small_study', '--data', 'DATA/unlabelled', '--work-dir', 'study', '--out', 'facts.json'],
    'speed': ['benchmark', 'speed'],
    'dataload': ['benchmark', 'dataload', PRETRAINING],
    'complexity': ['benchmark', 'complexity'],
    'dist_train': ['dist_train'],
    'export_backbone': ['export_backbone', 'CHECKPOINT:pretraining'],
}
OPTIONS = {
    'linear_probe': {
        '--lr': ('nan', '-1', 'inf', 'fast', '0'),
        '--epochs --solver sgd': ('0', '-2', '1.5', 'few'),
        '--l2': ('nan', '-1', 'inf', 'some'),
        '--seed': ('-1', '1.5', 'lucky'),
        '--solver': ('adam',),
        '--out': ('.', 'user.py/metrics.json', '/proc/metrics.json'),
    },
    'knn': {
        '--k': ('0', '-5', '1.5', '1000', 'few'),
        '--temperature': ('0', '-1', 'nan', 'inf', 'warm'),
        '--out': ('.', 'user.py/metrics.json'),
    },
    'reconstruct': {
        '--size': ('0', '-64', '64.5', 'nan', '1000000'),
        '--ratios': ('0', '1', 'nan', '1.5', '-1', 'half'),
        '--seed': ('-1', '1.5', 'lucky'),
    },
    'attention': {'--size': ('0', '-64', 'nan'), '--at': ('2,2', 'nan,0.5', '0.5', '-1,0', 'middle')},
    'train': {
        '--max-time': ('0', '-5', 'nan', 'soon', '90x', '1:2:3:4'),
        '--extend-to': ('0', '-1', '1.5', '3'),
        '--resume': ('nowhere.pth', '.'),
        '--launcher': ('slrum',),
        '--data-root': ('nowhere',),
        '--work-dir': ('user.py',),
        '--cfg-options': (
            'epochs',
            '=3',
            'epochs=',
            'train_cfg.max_epochs.x=3',
            'model=5',
            'train_dataloader=[]',
            'model.backbone=None',
            'train_cfg=3',
            'default_hooks=[]',
            'custom_hooks=x',
            'randomness=3',
        ),
    },
    'test': {'--out': ('.', 'user.py/metrics.json', '/proc/metrics.json'), '--show-dir': ('user.py',)},
    'check_data': {'--workers': ('0', '-1', '1.5', '100000', 'many')},
    'pack_dataset': {
        '--short-side': ('0', '-64', '1.5', 'nan'),
        '--quality': ('0', '-5', '101', '1000', 'high'),
        '--shard-size': ('0', '-1', '1.5'),
        '--workers': ('0', '-1', '100000', 'many'),
    },
    'make_shapes': {
        '--size': ('0', '16', '-64', '1.5', '1000000'),
        '--seed': ('-1', '1.5', 'x'),
        '--workers': ('0', '-1', '100000'),
        '--level': ('esay',),
        '--train': ('-1', '1.5'),
        '--images': ('0', '-4', 'many'),
    },
    'demo': {'--budget': ('0', '-1', 'nan', 'inf', 'small')},
    'study': {
        '--seeds': ('0', '-1', '1.5'),
        '--pretrainings': ('0', '-1'),
        '--jobs': ('0', '-1', '1.5'),
        '--complement': ('frozn',),
    },
    'complement_study': {
        '--minutes': ('0', '-1', 'nan', 'soon'),
        '--jobs': ('0', '-1', '1.5'),
        '--data': ('nowhere', 'user.py'),
        '--page': ('.',),
    },
    'small_study': {
        '--minutes': ('0', '-1', 'nan', 'soon'),
        '--jobs': ('0', '-1', '1.5'),
        '--data': ('nowhere', 'user.py'),
        '--only': ('lost',),
        '--page': ('.',),
    },
    'speed': {'--batch-size': ('0', '-1', '1.5', 'nan'), '--out': ('.',)},
    'dataload': {'--workers': ('-1', '100000', 'x')},
    'dist_train': {'ARGUMENTS': ('x.py',)},
    'export_backbone': {'OUT': ('.', 'user.py/out.safetensors', 'out.pth')},
}
