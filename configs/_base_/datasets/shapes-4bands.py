"""CoMA-Shapes with a near-infrared band (`coma-mm make_shapes --bands 4 --level easy`): classes, bands and their moments.

The moments are those of a set of 800 unlabelled scenes of 64 px; `--moments FILE.json` takes those of another.
"""
bands = 4
moments = dict(dtype='uint16', bands=[
    dict(name='red', mean=3214, std=2170, low=331, high=8885),
    dict(name='green', mean=3171, std=2266, low=342, high=9002),
    dict(name='blue', mean=3073, std=2139, low=281, high=8838),
    dict(name='nir', mean=5256, std=1463, low=1159, high=8776),
])
bands_classes = ('circle', 'cross', 'field', 'roof', 'triangle')
bands_metainfo = dict(classes=bands_classes)
pretrained_bands = '{{$PRETRAINED:work_dirs/coma_dyvit-tiny-p16_12e_shapes-4bands/epoch_12.pth}}'
