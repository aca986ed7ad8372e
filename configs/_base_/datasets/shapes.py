"""Where CoMA-Shapes is, its levels' classes (as in coma_mm/prepare/shape_scenes.py), and the checkpoints to start from."""
shapes_root = '{{$SHAPES_ROOT:data/shapes}}'
unlabelled_root = shapes_root + '/unlabelled'
imagenet_root = shapes_root + '/imagenet'
ade20k_root = shapes_root + '/ade20k'
coco_root = shapes_root + '/coco/'
coco_val_file = coco_root + 'annotations/instances_val.json'
coco_test_file = coco_root + 'annotations/instances_test.json'

shapes_classes = ('arrow', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'ring', 'square', 'star', 'triangle')
shapes_metainfo = dict(classes=shapes_classes)
easy_classes = ('circle', 'cross', 'square', 'star', 'triangle')
easy_metainfo = dict(classes=easy_classes)

pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-tiny_shapes/epoch_12.pth}}'
pretrained_easy = '{{$PRETRAINED:work_dirs/coma_dyvit-tiny-p16_shapes-easy/epoch_12.pth}}'
pretrained_all_stages = '{{$PRETRAINED:work_dirs/coma_dyvit-tiny-p16_all-stages_shapes-easy/epoch_12.pth}}'
