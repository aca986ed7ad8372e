"""What a run is built of says the same, or one line names the two places that differ and what to set."""
from types import SimpleNamespace

import pytest
import torch
from mmdet.datasets import ConcatDataset
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.evaluator import MultiDatasetsEvaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim import ReduceOnPlateauLR
from mmpretrain.evaluation import Accuracy, AveragePrecision, MultiLabelMetric, SingleLabelMetric
from mmpretrain.models import LinearClsHead
from mmseg.evaluation import IoUMetric
from mmseg.models import FCNHead
from torch import nn

from coma_mm.config.read import register_libraries
from coma_mm.datasets import SeededDataset
from coma_mm.engine import ComaRunner
from coma_mm.engine.agreement.class_names import check_class_names
from coma_mm.engine.agreement.class_numbers import check_class_numbers
from coma_mm.engine.agreement.ground_truth import check_ground_truth
from coma_mm.engine.agreement.maps import check_maps
from coma_mm.engine.agreement.metric_names import check_metric_names, names_of
from coma_mm.engine.agreement.parts import Parts, Split, splits_of
from coma_mm.errors import UserError
from coma_mm.evaluation import ReconstructionError
from tests.test_datasets.test_coco_names import NAMES, dataset, scores, write
from tests.test_engine.test_runs import Squares, make_cfg


@pytest.fixture(autouse=True, scope='module')
def named():
    register_libraries('mmdet')


@pytest.fixture
def warnings(monkeypatch):
    """The lines that were said."""
    said = []
    for module in ('class_names', 'class_numbers', 'maps'):
        monkeypatch.setattr(f'coma_mm.engine.agreement.{module}.warn', said.append)
    return said


def parts(train=None, val=None, metrics=(), model=None, hooks=(), schedules=(), trained_on=None):
    splits = [Split(name, data if isinstance(data, list) else [data], list(metrics) if name == 'val' else [])
              for name, data in (('train', train), ('val', val)) if data is not None]
    return Parts(model or nn.Module(), splits, list(hooks), list(schedules), 'model.data_preprocessor', trained_on)


def module(children=None, **values):
    """A module with some values and children."""
    made = nn.Module()
    for key, value in {**values, **(children or {})}.items():
        setattr(made, key, value)
    return made


def line(check, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        check(parts(*args, **kwargs))
    assert '\n' not in str(caught.value)
    return str(caught.value)


# Names of classes.

def test_files_that_list_the_same_categories_in_other_orders_agree(tmp_path, warnings):
    train, val = write(tmp_path / 'train.json'), write(tmp_path / 'val.json', NAMES[::-1])
    for classes in (NAMES, NAMES[::-1]):
        check_class_names(parts(dataset(train, classes), dataset(val, classes), [CocoMetric(val)]))
    assert not warnings


def test_a_misspelt_class_is_named_with_the_one_that_is_meant(tmp_path):
    path = write(tmp_path / 'a.json')
    for split in ('train', 'val'):
        found = line(check_class_names, **{split: dataset(path, ('disk', 'box', 'bar'))})
        assert found == (f"metainfo.classes of {split}_dataloader has 'disk', and {path} has no such category, but disc: is "
                         "it 'disc'? set the name as the file has it")


def test_a_class_without_a_category_is_a_warning(tmp_path, warnings):
    path, classes = write(tmp_path / 'a.json'), (*NAMES, 'star')
    check_class_names(parts(dataset(path, classes)))
    check_class_names(parts(val=dataset(path, classes)))
    assert warnings == [f'{path} has no category star of metainfo.classes of {effect} of it{end}' for effect, end in (
        ('train_dataloader: no object', ' is trained'), ('val_dataloader: val_evaluator counts no object', ''))]
    warnings.clear()
    other = write(tmp_path / 'b.json', ('star', ), used=('star', ))  # of a training set of two files
    check_class_names(parts([dataset(path, classes), dataset(other, classes)]))
    assert len(warnings) == 0


def test_a_class_without_a_category_beside_objects_without_a_class_is_an_error_in_training(tmp_path, warnings):
    path = write(tmp_path / 'a.json')
    found = line(check_class_names, dataset(path, ('disc', 'box', 'star')))
    assert f"'star', and {path} has no such category, but bar; expected each class that is trained in a file" in found
    check_class_names(parts(val=dataset(path, ('disc', 'box', 'star'))))
    assert len(warnings) == 2
    check_class_names(parts(dataset(write(tmp_path / 'b.json', used=('disc', 'box')), ('disc', 'box', 'star'))))
    assert len(warnings) == 3


def test_names_that_differ_by_a_number_are_not_misspelt(tmp_path, warnings):
    path = write(tmp_path / 'a.json', ('class_1', 'class_2', 'class_4'), used=('class_4', ))
    check_class_names(parts(val=dataset(path, ('class_1', 'class_2', 'class_3'))))
    assert 'has no category class_3' in warnings[0] and len(warnings) == 2


def test_categories_without_a_class_are_counted(tmp_path, warnings):
    path = write(tmp_path / 'a.json')
    check_class_names(parts(dataset(path, ('disc', ))))
    assert warnings == [f'{path}: 6 objects of box, bar are left out, since metainfo.classes of train_dataloader does not '
                        'name their categories']
    warnings.clear()
    check_class_names(parts(dataset(write(tmp_path / 'b.json', used=('disc', )), ('disc', ))))  # none is left out
    assert not warnings


def test_the_file_of_the_evaluator_is_that_of_the_data(tmp_path, warnings):
    path, other = write(tmp_path / 'a.json'), write(tmp_path / 'b.json', images=(4, 5))
    found = line(check_class_names, val=dataset(path), metrics=[CocoMetric(other)])
    assert found == (f'3 of 3 images of {path} (val_dataloader) are not in {other} (val_evaluator), e.g. 1.jpg with id 1; '
                     'set ann_file of val_evaluator to that of val_dataloader')
    more = write(tmp_path / 'c.json', images=(1, 2, 3, 4))
    assert 'has 4 images, and 1 of them' in line(check_class_names, val=dataset(path), metrics=[CocoMetric(more)])
    renamed = write(tmp_path / 'd.json', suffix='.png')
    assert 'is 1.jpg in' in line(check_class_names, val=dataset(path), metrics=[CocoMetric(renamed)])
    typo = write(tmp_path / 'e.json', ('disk', 'box', 'bar'), used=('disk', ))
    assert "is it 'disk'?" in line(check_class_names, val=dataset(path), metrics=[CocoMetric(typo)])
    same = write(tmp_path / 'f.json', NAMES[::-1])
    check_class_names(parts(val=dataset(path), metrics=[CocoMetric(same), CocoMetric(None)]))
    assert not warnings
    check_class_names(parts(val=dataset(path, indices=2), metrics=[CocoMetric(path)]))
    assert 'has 3 images, and 1 of them' in warnings[0]


def folders(place, *names):
    return SimpleNamespace(folder_to_idx={name: label for label, name in enumerate(names)}, img_prefix=place,
                           metainfo=dict(classes=names))


def test_class_folders_that_would_shift_labels_are_refused(warnings):
    train = folders('train', 'a', 'b', 'c')
    found = line(check_class_names, train, folders('val', 'a', 'c', 'd'))
    assert found == ('the class folders of train (train_dataloader) and val (val_dataloader) differ, and labels count them, '
                     'sorted: only the first has b, only the second has d; make the same folders in both (they may be '
                     'empty)')
    check_class_names(parts(train, folders('val', 'a', 'b', 'c')))
    assert not warnings
    check_class_names(parts(train, folders('val', 'a', 'b')))  # the labels are right
    assert 'only the first has c: no image of these is evaluated' in warnings[0]


def named_classes(*names, **values):
    return SimpleNamespace(metainfo=dict(classes=names), **values)


def test_data_sets_name_the_classes_in_one_order(warnings):
    train = named_classes('a', 'b', 'c')
    found = line(check_class_names, train, named_classes('a', 'c', 'b'))
    assert found == ('metainfo.classes of train_dataloader (a, b, c) and metainfo.classes of val_dataloader (a, c, b) have '
                     "'c' at different places, 2 and 1, so its label would mean another class; take the same classes in the "
                     'same order')
    assert 'has 3 names and metainfo' in line(check_class_names, train, named_classes('a', 'b'))
    check_class_names(parts(train, named_classes('a', 'b', 'c')))
    assert not warnings
    check_class_names(parts(train, named_classes('x', 'y', 'z')))
    assert 'have different names' in warnings[0]
    for val in (SimpleNamespace(), SimpleNamespace(metainfo=None), SimpleNamespace(metainfo={})):
        check_class_names(parts(train, val))


def test_a_checkpoint_is_tested_with_its_classes():
    tested = parts(val=folders('test', 'a', 'c'))
    for trained_on in (None, ('a', 'c'), ('x', 'y')):
        tested.trained_on = trained_on
        check_class_names(tested)
    twice = named_classes('b', 'c', 'x', 'a', 'a')  # as ImageNet's cranes
    check_class_names(parts(val=twice, trained_on=('b', 'c', 'a', 'a')))
    tested.trained_on = ('a', 'b', 'c')
    with pytest.raises(UserError, match=r"the checkpoint \(a, b, c\) and the class folders of val_dataloader \(a, c\) have"):
        check_class_names(tested)


# Numbers of classes.

def test_every_head_has_as_many_classes_as_the_data():
    data = named_classes('a', 'b', 'c')
    boxes = nn.ModuleList([module(num_classes=3), module(num_classes=80)])
    roi_head = module(dict(bbox_head=boxes, mask_head=module(num_classes=80)))
    found = line(check_class_numbers, data, model=module(dict(rpn_head=module(num_classes=1), roi_head=roi_head)))
    assert found == (
        'model.roi_head.bbox_head.1.num_classes=80 and model.roi_head.mask_head.num_classes=80, but the data have 3 classes '
        '(metainfo.classes of train_dataloader: a, b, c); set model.roi_head.bbox_head.1.num_classes=3 '
        'model.roi_head.mask_head.num_classes=3')
    roi_head.mask_head.class_agnostic = True
    boxes[1].num_classes = 3
    check_class_numbers(parts(data, model=module(dict(roi_head=roi_head))))
    for part in ('bbox_head', 'mask_head'):
        model = module({part: module(num_classes=80)})
        assert f'model.{part}.num_classes=80' in line(check_class_numbers, data, model=model)
    check_class_numbers(parts(SimpleNamespace(), model=module(dict(bbox_head=module(num_classes=80)))))


def fcn(classes, **values):
    return FCNHead(in_channels=4, channels=4, num_convs=1, num_classes=classes, **values)


def test_decode_heads_and_auxiliary_heads(warnings):
    data = named_classes('a', 'b', 'c')
    check_class_numbers(parts(data, model=module(dict(decode_head=fcn(3), auxiliary_head=nn.ModuleList([fcn(3), fcn(3)])))))
    model = module(dict(decode_head=fcn(3), auxiliary_head=nn.ModuleList([fcn(3), fcn(5)])))
    check_class_numbers(parts(data, model=model))
    assert warnings[0].startswith('model.auxiliary_head.1.num_classes=5, but')
    assert warnings[0].endswith('set model.auxiliary_head.1.num_classes=3, or leave the further outputs idle')
    assert 'decode_head.num_classes=2' in line(check_class_numbers, data, model=module(dict(decode_head=fcn(2))))
    two = named_classes('nothing', 'thing')
    check_class_numbers(parts(two, model=module(dict(decode_head=fcn(2, out_channels=1)))))
    check_class_numbers(parts(two, model=module(dict(decode_head=fcn(1)))))


def test_classifiers(warnings):
    data = named_classes('a', 'b', 'c')
    head = LinearClsHead(num_classes=5, in_channels=2)
    model = module(dict(head=head, data_preprocessor=module(num_classes=1000)))
    found = line(check_class_numbers, data, data, [SingleLabelMetric(num_classes=10)], model=model)
    assert found.startswith('model.head.num_classes=5 and model.data_preprocessor.num_classes=1000 and '
                            'val_evaluator.num_classes=10, but the data have 3 classes')
    check_class_numbers(parts(data, model=module(dict(head=module(num_classes=1)))))  # a regression
    unused = module(num_classes=1000, to_onehot=False)
    check_class_numbers(parts(data, model=module(dict(head=LinearClsHead(3, 2), data_preprocessor=unused))))
    assert not warnings
    same = module(num_classes=5, to_onehot=True)
    check_class_numbers(parts(data, model=module(dict(head=head, data_preprocessor=same))))
    assert warnings[0].startswith('model.head.num_classes=5 and model.data_preprocessor.num_classes=5, but the data have 3')
    # A part of a library's classes, by their numbers.
    some = named_classes(*map(str, range(10)), get_gt_labels=lambda: [0, 4])
    check_class_numbers(parts(some, model=module(dict(head=head))))
    some.get_gt_labels = lambda: [0, 5]
    assert 'model.head.num_classes=5, but the data have 10' in line(check_class_numbers, some, model=module(dict(head=head)))


# Maps.

def maps(reduce=False, steps=(), **values):
    return named_classes('a', 'b', 'c', reduce_zero_label=reduce, pipeline=SimpleNamespace(transforms=steps), **values)


def test_maps_are_read_alike():
    model = module(dict(decode_head=fcn(3)))
    check_maps(parts(maps(True), maps(True), [IoUMetric()], model))
    found = line(check_maps, maps(True), maps(False), model=model)
    assert found == ('reduce_zero_label=True in train_dataloader and False in val_dataloader: the labels of all classes '
                     'would differ by one; set the same for both')
    step = SimpleNamespace(reduce_zero_label=True)
    assert 'has reduce_zero_label=True and its data set False' in line(check_maps, maps(False, [step]), model=model)


def test_the_same_pixels_are_ignored_everywhere(warnings):
    zero = module(dict(decode_head=fcn(3, ignore_index=0)))
    check_maps(parts(maps(), maps(), [IoUMetric(ignore_index=0)], zero))
    assert line(check_maps, maps(), maps(), [IoUMetric()], zero) == (
        'val_evaluator.ignore_index=255 and model.decode_head.ignore_index=0: the metric would count pixels that the model '
        'was not trained on; set val_evaluator.ignore_index=0')
    assert 'set model.decode_head.ignore_index=255' in line(check_maps, maps(True), model=zero)
    assert 'metainfo.classes leaves some out' in line(check_maps, maps(label_map={0: 255, 1: 0}), model=zero)
    two = module(dict(decode_head=fcn(3), auxiliary_head=fcn(3, ignore_index=0)))
    assert 'set model.auxiliary_head.ignore_index=255' in line(check_maps, maps(), model=two)
    losses = [dict(type='CrossEntropyLoss'), dict(type='DiceLoss', ignore_index=9)]
    dice = module(dict(decode_head=fcn(3, loss_decode=losses)))
    assert 'set model.decode_head.loss_decode.1.ignore_index=255' in line(check_maps, maps(), model=dice)
    padded = module(dict(decode_head=fcn(3), data_preprocessor=module(seg_pad_val=254)))
    assert not warnings
    check_maps(parts(maps(), model=padded))  # where all images have the size nothing is padded
    assert warnings.pop().endswith('set model.data_preprocessor.seg_pad_val=255')
    padded.data_preprocessor.seg_pad_val = 0  # as background
    check_maps(parts(maps(), maps(), [IoUMetric(ignore_index=0)], padded))
    assert 'the metric leaves out the class 0' in warnings[0]


def test_a_loss_may_leave_a_class_out_that_the_others_learn(warnings):
    for name in ('DiceLoss', 'TverskyLoss'):
        losses = [dict(type='CrossEntropyLoss'), dict(type=name, ignore_index=0)]
        check_maps(parts(maps(), model=module(dict(decode_head=fcn(3, loss_decode=losses)))))
    assert not warnings
    losses[1].pop('ignore_index')
    zero = fcn(3, ignore_index=0, loss_decode=losses)
    check_maps(parts(maps(), model=module(dict(decode_head=zero))))
    assert warnings == ['model.decode_head.ignore_index=0 and model.decode_head.loss_decode.1.ignore_index=255: this loss '
                        'learns the class 0, which the head leaves out']


# Metrics.

@pytest.mark.parametrize('metric, names', [
    (Accuracy(topk=(1, 5)), ['accuracy/top1', 'accuracy/top5']),
    (Accuracy(thrs=(0., None)), ['accuracy/top1_thr-0.00', 'accuracy/top1_no-thr']),
    (SingleLabelMetric(), ['single-label/precision', 'single-label/recall', 'single-label/f1-score']),
    (MultiLabelMetric(topk=2, items=('recall', ), average='micro'), ['multi-label/recall_top2_micro']),
    (MultiLabelMetric(thr=0.3, items=('recall', )), ['multi-label/recall_thr-0.30']),
    (AveragePrecision(prefix='mine'), ['mine/mAP'])])
def test_names_of_metrics_are_those_that_they_give(metric, names):
    assert names_of(metric, ()) == names
    for label in (0, 1):
        score = torch.eye(6)[label]
        sample = dict(pred_score=score, gt_label=torch.tensor([label]), gt_score=score)
        metric.process(None, [sample])
    assert [*metric.evaluate(2)] == names


def test_names_of_metrics_of_maps_and_boxes(tmp_path):
    path = write(tmp_path / 'a.json')
    options = dict(metric=['bbox', 'proposal_fast'], classwise=True)
    assert sorted(names_of(CocoMetric(path, **options), NAMES)) == sorted(scores(dataset(path), path, **options))
    metric = IoUMetric(iou_metrics=['mIoU', 'mDice', 'mFscore'])
    metric.dataset_meta = dict(classes=NAMES)
    data = dict(data=torch.zeros(1, 4, 4, dtype=torch.int64))
    metric.process(None, [dict(pred_sem_seg=data, gt_sem_seg=data)])
    assert sorted(names_of(metric, NAMES)) == sorted(metric.evaluate(1))


@pytest.mark.parametrize('hook, where', [
    (CheckpointHook(save_best='coco/bbox_map', rule='greater'), 'default_hooks.checkpoint.save_best'),
    (EarlyStoppingHook('coco/bbox_map', strict=False, rule='greater'), 'EarlyStoppingHook.monitor')])
def test_a_metric_that_is_not_given_is_named_with_the_one_that_is_meant(tmp_path, hook, where):
    metric = CocoMetric()
    found = line(check_metric_names, val=named_classes('a'), metrics=[metric], hooks=[hook])
    assert found == (f"{where}='coco/bbox_map' is no metric of val_evaluator, which gives coco/bbox_mAP, coco/bbox_mAP_50, "
                     "coco/bbox_mAP_75, coco/bbox_mAP_s, coco/bbox_mAP_m, coco/bbox_mAP_l; did you mean 'coco/bbox_mAP'?")

    class Own(CocoMetric):
        """May give anything."""

    for metrics in ([metric, Own()], []):
        check_metric_names(parts(val=named_classes('a'), metrics=metrics, hooks=[hook]))
    for name in ('auto', 'coco/bbox_mAP', ['coco/bbox_mAP_50', 'coco/bbox_mAP']):
        check_metric_names(parts(val=named_classes('a'), metrics=[metric], hooks=[CheckpointHook(save_best=name)]))


def test_schedules_ask_for_metrics_too():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    schedule = ReduceOnPlateauLR(optimizer, monitor='reconstruction/maskd')
    found = line(check_metric_names, val=named_classes(), metrics=[ReconstructionError()], schedules=[schedule])
    assert "did you mean 'reconstruction/masked'?" in found and 'ReduceOnPlateauLR.monitor' in found


def test_each_of_several_data_sets_may_have_a_metric_of_its_own(tmp_path):
    paths = [write(tmp_path / f'{name}.json', images=images) for name, images in (('a', (1, 2)), ('b', (3, )))]
    evaluator = MultiDatasetsEvaluator([CocoMetric(path) for path in paths], ['A', 'B'])
    several = SeededDataset(ConcatDataset([dataset(path) for path in paths]))

    def found(name, evaluator=evaluator):
        hook = CheckpointHook(save_best=name, rule='greater')
        return Parts(nn.Module(), splits_of('val', several, evaluator), [hook], [], '')

    for check in (check_class_names, check_ground_truth, check_metric_names):
        check(found('B/coco/bbox_mAP'))
    with pytest.raises(UserError, match="'C/coco/bbox_mAP' is no metric of val_evaluator, which gives A/coco/bbox_mAP, "):
        check_metric_names(found('C/coco/bbox_mAP'))
    with pytest.raises(UserError, match='1 of 3 images of .* are not in'):
        check_class_names(found('auto', SimpleNamespace(metrics=evaluator.metrics[:1])))


# Masks.

def test_masks_that_are_evaluated_or_loaded_are_there(tmp_path):
    boxes, masks = write(tmp_path / 'boxes.json', masks=False), write(tmp_path / 'masks.json')
    model = module(dict(mask_head=module()))
    segm = dict(metric=['bbox', 'segm'])
    load = [dict(type='mmdet.LoadAnnotations', with_bbox=True, with_mask=True)]
    found = line(check_ground_truth, val=dataset(boxes), metrics=[CocoMetric(boxes, **segm)], model=model)
    assert found == (f"{boxes}: 9 of 9 objects have no segmentation, and val_evaluator.metric has 'segm'; give all of them "
                     'polygons or RLE, or set val_evaluator.metric=bbox and with_mask=False in the pipeline of '
                     'val_dataloader')
    found = line(check_ground_truth, val=dataset(boxes, pipeline=load), model=model)
    assert f'{boxes}: 9 of 9' in found and 'LoadAnnotations of val_dataloader has with_mask=True' in found
    check_ground_truth(parts(val=dataset(masks, pipeline=load), metrics=[CocoMetric(masks, **segm)], model=model))
    check_ground_truth(parts(val=dataset(boxes), metrics=[CocoMetric(boxes)], model=model))
    found = line(check_ground_truth, val=dataset(masks), metrics=[CocoMetric(masks, **segm)], model=module())
    assert found == ("val_evaluator.metric has 'segm', and Module predicts no masks; set val_evaluator.metric=bbox, or take "
                     'a model with a mask_head')


# The whole run.

def test_a_run_that_disagrees_ends_before_its_first_iteration(tmp_path):
    val = dict(dataset=dict(type='Squares'), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
    checkpoint = dict(type='CheckpointHook', save_best='reconstruction/maskd', rule='less')
    cfg = make_cfg(tmp_path, val_dataloader=val, val_evaluator=dict(type='ReconstructionError'), val_cfg={},
                   default_hooks=dict(checkpoint=checkpoint))
    runner = ComaRunner.from_cfg(cfg)
    with pytest.raises(UserError, match="default_hooks.checkpoint.save_best='reconstruction/maskd' is no metric"):
        runner.train()
    assert not runner.model.seen and not runner.in_loop


def test_a_test_is_compared_too(tmp_path, monkeypatch):
    loader = dict(dataset=dict(type='Squares'), batch_size=2, sampler=dict(type='DefaultSampler', shuffle=False))
    metric = dict(type='mmpretrain.SingleLabelMetric', num_classes=4)
    runner = ComaRunner.from_cfg(make_cfg(tmp_path, test_dataloader=loader, test_cfg={}, test_evaluator=metric))
    monkeypatch.setattr(Squares, 'metainfo', dict(classes=NAMES), raising=False)
    with pytest.raises(UserError, match='test_evaluator.num_classes=4, but the data have 3 classes .*test_dataloader: disc'):
        runner.test()
    assert not runner.in_loop
