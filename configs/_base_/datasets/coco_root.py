"""Where COCO is, for models that take mmdetection's own pipelines for it."""
coco2017_root = '{{$DATA_ROOT:data}}/coco/'
coco2017_val_file = coco2017_root + 'annotations/instances_val2017.json'
coco2017_panoptic_val_file = coco2017_root + 'annotations/panoptic_val2017.json'
coco2017_panoptic_val_root = coco2017_root + 'annotations/panoptic_val2017/'
