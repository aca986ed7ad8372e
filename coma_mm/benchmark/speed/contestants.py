"""What the speed benchmark compares: steps of our models and of the libraries' own, built alike."""
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from coma_mm.datasets.masking import draw_masks
from coma_mm.engine.models import build_model, compile_training
from coma_mm.errors import UserError
from coma_mm.files import CONFIGS
from coma_mm.models.masked_autoencoder import CoMA

RATIO = 0.6  # of masked patches, the paper's

# Of a vision transformer, in mmpretrain's names, that stands beside each DyViT.
VITS = dict(tiny='deit-tiny', small='deit-small', base='base')
# Pre-training decoders: that of the configs, which is MAE's, but for 'tiny'.
DECODERS = dict(
    tiny=dict(embed_dims=128, depth=2, num_heads=4), small=dict(embed_dims=512, depth=8, num_heads=16),
    base=dict(embed_dims=512, depth=8, num_heads=16))
UPERNET = dict(
    tiny='shapes/upernet_dyvit-tiny_scratch_shapes.py',
    small='segmentation/upernet_dyvit-small_8xb2-160k_ade20k-512x512.py',
    base='segmentation/upernet_dyvit-base_8xb2-160k_ade20k-512x512.py')
MASK_RCNN = dict(
    tiny='shapes/mask-rcnn_dyvit-tiny_scratch_shapes.py',
    small='detection/mask-rcnn_dyvit-small_fpn_8xb8-lsj-100e_coco-768px.py',
    base='detection/mask-rcnn_dyvit-base_fpn_8xb8-lsj-100e_coco-768px.py')
MASK_RCNN_SWIN = dict(  # mmdet ships none with Swin-B
    tiny='mask-rcnn_swin-t-p4-w7_fpn_amp-ms-crop-3x_coco', small='mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco',
    base='mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco')


@dataclass
class Setting:
    """What all contestants of a comparison share.

    Args:
        arch (str): 'tiny', 'small' or 'base', of DyViT and, as near as there is one, of its peers.
        device (torch.device): Where it runs.
        size (int): Side of the images in px.
        batch (int): Images.
        precision (str): 'fp32'; 'tf32', fp32 with such products, which whoever measures sets; or 'bf16', by autocast.
            Defaults to 'fp32'.
        compiled (bool): As `compile=True` does in a training run; of inference, the whole backbone. Defaults to False.
        seed (int): Of weights, images and masks. Defaults to 0.
    """
    arch: str
    device: torch.device
    size: int
    batch: int
    precision: str = 'fp32'
    compiled: bool = False
    seed: int = 0


@dataclass
class Contestant:
    """Something to time.

    Args:
        name (str): GROUP/NAME, as the user picks it.
        title (str): For the table.
        build (Callable): From a `Setting` to a `TrainingStep` or `InferenceStep`.
        peers (tuple[str, ...]): Names of those it is compared with. Defaults to none.
        needs_cuda (bool): Whether it runs on a GPU only. Defaults to False.
    """
    name: str
    title: str
    build: Callable
    peers: tuple = ()
    needs_cuda: bool = False

    @property
    def group(self):
        """str: The part of its name before the slash."""
        return self.name.partition('/')[0]


@dataclass
class TrainingStep:
    """One step of mmengine's training loop on the same batch: to the device, normalise, forward, backward, update.

    Args:
        model (BaseModel): Of one of the three libraries.
        optim_wrapper (OptimWrapper): Of its parameters.
        data (dict): A batch as a data loader gives it, on the device already.
    """
    model: torch.nn.Module
    optim_wrapper: object
    data: dict

    def __call__(self):
        """Do it; returns the losses."""
        return self.model.train_step(self.data, self.optim_wrapper)

    def optimizer_tensors(self):
        """list[Tensor]: The optimiser's own."""
        states = self.optim_wrapper.optimizer.state.values()
        return [value for state in states for value in state.values() if isinstance(value, torch.Tensor)]


@dataclass
class InferenceStep:
    """Feature maps of a batch of normalised images."""
    model: torch.nn.Module
    images: torch.Tensor
    precision: str
    forward: Callable

    @torch.no_grad()
    def __call__(self):
        """Compute them."""
        device = self.images.device.type
        with torch.autocast(device, torch.bfloat16) if self.precision == 'bf16' else nullcontext():
            return self.forward(self.images)

    def optimizer_tensors(self):
        """list: Empty."""
        return []


def contestants(windows=('default', )):
    """list[Contestant]: All of them; `windows` are the presets of DyViT for inference."""
    shipped = ('pretrain/mmpretrain-mae', 'pretrain/as-shipped')
    found = [
        *(Contestant(f'pretrain/coma-{mode}', f"CoMA DyViT, complement='{mode}'", partial(_coma, mode), shipped)
          for mode in CoMA.COPIES),
        Contestant('pretrain/mae-dyvit', 'MAE DyViT', _mae_dyvit, shipped),
        Contestant('pretrain/mae-vit', 'MAE ViT', _mae_vit, shipped),
        Contestant(shipped[0], "MAE ViT, mmpretrain's", _mae_mmpretrain),
        Contestant(shipped[1], "MAE ViT, mmpretrain's, with its own precision (fp16) and optimiser, not compiled",
                   partial(_mae_mmpretrain, as_shipped=True), needs_cuda=True),
    ]
    vit = ('inference/vit', )
    for preset in windows:
        name = 'dyvit' if preset == 'default' else f'dyvit-{preset}'
        found.append(Contestant(f'inference/{name}', f'DyViT, windows {preset}', partial(_dyvit, preset), vit))
    found += [
        Contestant('inference/vit', 'ViT/16', partial(_backbone, 'vit-base-p16')),
        Contestant('inference/swin', 'Swin', partial(_backbone, 'swin_transformer/base_224'), vit),
        Contestant('inference/hivit', 'HiViT', partial(_backbone, 'hivit/base_224'), vit),
    ]
    swin = ('upernet/swin', )
    found += [
        Contestant('upernet/dyvit', 'UperNet, DyViT', partial(_dense, lambda arch: CONFIGS / UPERNET[arch]), swin),
        Contestant('upernet/swin', 'UperNet, Swin', partial(
            _dense, lambda arch: f'mmseg::swin/swin-{arch}-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512')),
        Contestant('upernet/vit', 'UperNet, ViT-B/16', partial(
            _dense, lambda arch: 'mmseg::vit/vit_vit-b16_mln_upernet_8xb2-160k_ade20k-512x512'), swin),
        Contestant('upernet/r50', 'UperNet, ResNet-50', partial(
            _dense, lambda arch: 'mmseg::upernet/upernet_r50_4xb4-160k_ade20k-512x512'), swin),
    ]
    swin = ('mask-rcnn/swin', )
    return found + [
        Contestant('mask-rcnn/dyvit', 'Mask R-CNN, DyViT', partial(_dense, lambda arch: CONFIGS / MASK_RCNN[arch]), swin),
        Contestant('mask-rcnn/swin', 'Mask R-CNN, Swin (S for base)',
                   partial(_dense, lambda arch: f'mmdet::swin/{MASK_RCNN_SWIN[arch]}')),
        Contestant('mask-rcnn/r50', 'Mask R-CNN, ResNet-50',
                   partial(_dense, lambda arch: 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco'), swin),
    ]


def _read(path):
    """Config: A file of ours, or a library's, LIBRARY::NAME."""
    if isinstance(path, Path):
        return Config.fromfile(path)
    return Config.fromstring(f'_base_ = {path + ".py"!r}', '.py')


def _fake_images(setting):
    """Tensor: uint8 noise, (B, 3, H, W), on the device."""
    generator = torch.Generator().manual_seed(setting.seed)
    return torch.randint(
        256, (setting.batch, 3, setting.size, setting.size), dtype=torch.uint8, generator=generator).to(setting.device)


def optim_wrapper_of(model, setting):
    """OptimWrapper: The same for all: that of CoMA's configs, with the learning rate for the batch at hand.

    CoMA follows it.
    """
    cfg = _read(CONFIGS / '_base_/schedules/pretrain_bs4096-300e.py').optim_wrapper
    cfg.pop('accumulative_counts')
    cfg.type = 'AutocastOptimWrapper' if setting.precision == 'bf16' else 'OptimWrapper'
    cfg.optimizer.lr *= setting.batch / 4096
    wrapper = build_optim_wrapper(model, cfg)
    if isinstance(model, CoMA):
        model.follow(wrapper.optimizer, getattr(wrapper, 'cast_dtype', None))
    return wrapper


def _training_step(model, setting, data, optim_wrapper=None):
    torch.manual_seed(setting.seed)
    model.init_weights()
    model.to(setting.device).train()
    wrapper = optim_wrapper or optim_wrapper_of(model, setting)
    if setting.compiled:
        compile_training(model)
    return TrainingStep(model, wrapper, data)


def _masked_data(setting, patch_size):
    samples = [(setting.seed, 0, index) for index in range(setting.batch)]
    sampler = dict(type='UniformMaskSampler', ratio=RATIO)
    keep, rest = draw_masks((setting.size, setting.size), samples, sampler, patch_size)
    return dict(inputs=_fake_images(setting), ids_keep=keep.to(setting.device), ids_rest=rest.to(setting.device))


def _autoencoder(setting, path, **changes):
    """TrainingStep: Of a config of ours with DyViT, in the setting's size."""
    cfg = _read(CONFIGS / path)
    cfg.default_scope = 'mmpretrain'  # a base leaves it to the configs that inherit from it
    cfg.model.backbone.arch = setting.arch
    cfg.model.decoder.update(DECODERS[setting.arch])
    cfg.model.update(changes)
    return _training_step(build_model(cfg), setting, _masked_data(setting, 32))


def _coma(mode, setting):
    return _autoencoder(setting, '_base_/models/coma_dyvit-base.py', complement=mode)


def _mae_dyvit(setting):
    return _autoencoder(setting, '_base_/models/mae_dyvit-base.py')


def _mae_vit(setting):
    """Our `MaskedAutoencoder` of a plain ViT, with the parts of CoMA's config of ViT-B/16."""
    cfg = _read(CONFIGS / 'coma/coma_vit-base-p16_8xb512-amp-coslr-800e_in1k.py')
    model = cfg.model
    model.pop('complement')
    model.type = 'MaskedAutoencoder'
    model.backbone.update(arch=VITS[setting.arch], img_size=setting.size)
    model.decoder.update(DECODERS[setting.arch])
    return _training_step(build_model(cfg), setting, _masked_data(setting, 16))


def _mae_mmpretrain(setting, as_shipped=False):
    """mmpretrain's MAE by the config that it ships, but for the mask ratio and the setting's size.

    Args:
        setting (Setting): The precision, compilation and optimiser are taken from it unless `as_shipped`.
        as_shipped (bool): With the config's own optimiser wrapper, which needs a GPU. Defaults to False.
    """
    cfg = _read('mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k')
    model, decoder = cfg.model, DECODERS[setting.arch]
    model.backbone.update(arch=VITS[setting.arch], mask_ratio=RATIO, img_size=setting.size)
    model.neck.update(
        num_patches=(setting.size // 16)**2, embed_dim=MODELS.build(model.backbone).embed_dims,
        decoder_embed_dim=decoder['embed_dims'], decoder_depth=decoder['depth'], decoder_num_heads=decoder['num_heads'])
    model = build_model(cfg)
    data = dict(inputs=_fake_images(setting), data_samples=[DataSample() for _ in range(setting.batch)])
    if not as_shipped:
        for module in model.modules():  # NumPy's numbers, at which torch.compile would break the graph
            if hasattr(module, 'drop_prob'):
                module.drop_prob = float(module.drop_prob)
        return _training_step(model, setting, data)
    model.to(setting.device)
    cfg.optim_wrapper.optimizer.lr *= setting.batch / cfg.auto_scale_lr.base_batch_size
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    eager = Setting(setting.arch, setting.device, setting.size, setting.batch, seed=setting.seed)
    return _training_step(model, eager, data, wrapper)


def _inference_step(backbone, setting):
    torch.manual_seed(setting.seed)
    backbone.init_weights()
    backbone.to(setting.device).eval()
    images = (_fake_images(setting).float() - 128) / 58
    return InferenceStep(backbone, images, setting.precision, torch.compile(backbone) if setting.compiled else backbone)


def _dyvit(windows, setting):
    """All four feature maps, as dense prediction takes them."""
    return _inference_step(
        MODELS.build(dict(type='DyViT', arch=setting.arch, windows=windows, out_indices=(0, 1, 2, 3))), setting)


def _backbone(name, setting):
    """InferenceStep: The backbone of a base config of mmpretrain; of Swin all four maps, of the others the last one."""
    cfg = _read(f'mmpretrain::_base_/models/{name}').model.backbone
    cfg.update(arch=setting.arch, img_size=setting.size)
    if cfg.type == 'VisionTransformer':
        cfg.update(arch=VITS[setting.arch], out_type='featmap')
    elif cfg.type == 'SwinTransformer':
        cfg.update(out_indices=(0, 1, 2, 3), pad_small_map=True)  # for images below 224 px
    else:
        cfg.update(out_indices=[-1])
    return _inference_step(MODELS.build(cfg), setting)


def _dense(path, setting):
    """TrainingStep: Of a segmentor or detector, from random weights.

    Args:
        path (Callable): From an arch to a config of ours or the library's.
        setting (Setting): Its size replaces the config's.
    """
    cfg = _read(path(setting.arch))
    model = cfg.model
    if 'pretrained' in model:
        model.pretrained = None
    model.backbone.init_cfg = None
    if cfg.default_scope == 'mmseg':
        from mmseg.utils import register_all_modules
        register_all_modules(init_default_scope=False)
        model.data_preprocessor.size = (setting.size, setting.size)
        data_samples = _segmentations(setting, model.decode_head.num_classes)
    else:
        from mmdet.utils import register_all_modules
        register_all_modules(init_default_scope=False)
        model.data_preprocessor.batch_augments = None
        data_samples = _detections(setting, model.roi_head.bbox_head.num_classes)
    data = dict(inputs=list(_fake_images(setting)), data_samples=data_samples)
    return _training_step(revert_sync_batchnorm(build_model(cfg)), setting, data)


def _segmentations(setting, classes):
    """list[SegDataSample]: Blocks of 32 px, each of a random class."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample
    rng = np.random.default_rng(setting.seed)
    samples = []
    for _ in range(setting.batch):
        labels = rng.integers(classes, size=(setting.size // 32, setting.size // 32)).repeat(32, 0).repeat(32, 1)
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(labels[None])))
        sample.set_metainfo(dict(img_shape=labels.shape, ori_shape=labels.shape))
        samples.append(sample.to(setting.device))
    return samples


def _detections(setting, classes):
    """list[DetDataSample]: Eight random boxes each, with masks that fill them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    rng = np.random.default_rng(setting.seed)
    size, boxes, samples = setting.size, 8, []
    for _ in range(setting.batch):
        corner, side = rng.integers(size // 2, size=(boxes, 2)), rng.integers(size // 8, size // 2, size=(boxes, 2))
        bounds = np.concatenate([corner, corner + side], 1)
        masks = np.zeros((boxes, size, size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, bounds, strict=True):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(gt_instances=InstanceData(
            bboxes=torch.tensor(bounds, dtype=torch.float32), labels=torch.from_numpy(rng.integers(classes, size=boxes)),
            masks=BitmapMasks(masks, size, size)))
        sample.set_metainfo(dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1., 1.)))
        samples.append(sample.to(setting.device))
    return samples


def check_size(contestant, size):
    """Raises UserError: If images of `size` px do not fit a contestant."""
    if size < 64 or size % 32:
        raise UserError(f'{contestant.name}: --sizes {size}: expected multiples of 32 px, 64 at least')
