"""Pre-training with CoMA on a folder of images."""
from coma_mm.datasets.usage import number
from coma_mm.errors import UserError

from .draft import Draft, absolute, beginning, depth_notes, ending, lines, list_images, literal, short_side
from .numbers import image_size, power_of_two, scaled, share_out
from .pretrained import backbone_settings

HOLDOUT = 20
"""Every how manieth image `ImageFolder` holds out."""
FEWEST = 16
"""Images that there must be."""
BASES = dict(tiny='small/coma_dyvit-tiny_2e_folder-128px.py',
             small='coma/coma_dyvit-small_1xb128-amp-coslr-300e_folder.py',
             base='coma/coma_dyvit-base_1xb128-amp-coslr-300e_folder.py')
RATES = dict(tiny=(1e-3, 64), small=(1.5e-4, 256), base=(1.5e-4, 256))
"""Learning rates and the images of an update that they are for: of the small config, and MAE's."""
MANY = 100_000
"""Images from which on the paper's 300 epochs are enough."""


def draft(images: str, *, arch: str, backbone: dict, size: int | None, epochs: int | None, gpus: int,
          pretrained: str | None) -> Draft:
    """Plan a pre-training.

    Args:
        images (str): The folder, flat or nested.
        arch, backbone, size, epochs, gpus, pretrained: See `new_config`; `backbone` is {} without weights.

    Returns:
        Draft: All but the length.

    Raises:
        UserError: If there is no such folder, or too few images are in it.
    """
    paths = list_images(images, '--images')
    if len(paths) < FEWEST:
        raise UserError(f'{len(paths)} images in --images {images}: expected {FEWEST} or more, better hundreds')
    train = len(paths) - -(-len(paths) // HOLDOUT)
    default = 128 if arch == 'tiny' else 224
    side = short_side(paths)
    size = image_size(size, side, (128, 64) if arch == 'tiny' else (224, 128, 64), multiple=16)
    patch = backbone.get('patch_size', 16 if size <= 128 else 32)
    if size % patch:
        raise UserError(f'--size {size}: expected a multiple of the patch of {patch} px, for instance '
                        f'{size // patch * patch}')
    batch, update = share_out(power_of_two(len(paths) / 3.5, 32, 4096), gpus, 64 if arch == 'tiny' else 128, train)
    rate, base = RATES[arch]
    reason = 'as was asked for' if epochs else ('the paper\'s number' if len(paths) >= MANY else
                                                f'more than the paper\'s 300, as there are fewer than {number(MANY)} images')
    epochs = epochs or (300 if len(paths) >= MANY else 400)
    notes = depth_notes(paths)
    if side < size:
        notes.append(f'A quarter of the images has a shorter side of {side} px or less, and is enlarged')

    def write(epochs: int) -> str:
        own = backbone_settings(backbone, patch, pretrained, has_init=False)
        every = max(1, epochs // 20)
        return lines([
            *beginning(f'CoMA pre-training of DyViT-{arch} at {size} px on a folder of {len(paths)} images', BASES[arch],
                       absolute(images)),
            f'update = {update}  # images of an update, on any number of GPUs',
            f'epochs = {epochs}',
            f'pretrained = {literal(absolute(pretrained))}' if pretrained else '',
            f'model = dict(backbone=dict({", ".join(own)}))' if own else '',
            _pipelines(arch, size) if size != default else '',
            *_loaders(batch, size != default),
            *ending(every, rate, base),
        ])

    return Draft(
        what=f'{len(paths)} images, every {HOLDOUT}th held out', model=f'DyViT-{arch} at {size} px, patches of {patch} px',
        images=train, update=update, batch=batch, gpus=gpus, rate=scaled(rate, update, base), epochs=epochs, reason=reason,
        write=write, notes=notes)


def _pipelines(arch: str, size: int) -> str:
    first = 'RandomResizedCrop' if arch == 'tiny' else 'LoadRandomResizedCrop'
    return f'''size = {size}
sizes = dict({first}=dict(scale=size), ResizeEdge=dict(scale=size), CenterCrop=dict(crop_size=size))
train_pipeline = [dict(step, **sizes.get(step['type'], {{}})) for step in _base_.train_pipeline]
val_pipeline = [dict(step, **sizes.get(step['type'], {{}})) for step in _base_.val_pipeline]'''


def _loaders(batch: int, own: bool) -> list[str]:
    train, val = (', pipeline=train_pipeline', ', pipeline=val_pipeline') if own else ('', '')
    return [f'train_dataloader = dict(batch_size={batch}, dataset=dict(data_root=data_root{train}))',
            f'val_dataloader = dict(dataset=dict(data_root=data_root{val}))',
            'test_dataloader = val_dataloader']
