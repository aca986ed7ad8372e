"""Where CoMA-Shapes is, its classes (those of coma_mm/datasets/shape_scenes.py), and the checkpoint to start from."""
shapes_root = '{{$SHAPES_ROOT:data/shapes}}'
unlabelled_root = shapes_root + '/unlabelled'
imagenet_root = shapes_root + '/imagenet'
ade20k_root = shapes_root + '/ade20k'
coco_root = shapes_root + '/coco/'
coco_val_file = coco_root + 'annotations/instances_val.json'
coco_test_file = coco_root + 'annotations/instances_test.json'

shapes_classes = ('arrow', 'circle', 'crescent', 'cross', 'heart', 'hourglass', 'ring', 'square', 'star', 'triangle')
shapes_metainfo = dict(classes=shapes_classes)

pretrained = '{{$PRETRAINED:work_dirs/coma_dyvit-tiny_shapes/epoch_12.pth}}'
