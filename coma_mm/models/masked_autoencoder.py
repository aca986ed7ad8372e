"""Masked autoencoding (MAE) and CoMA: Section "Complementary Masked Autoencoders" of the paper."""
import copy
import inspect

import torch
from mmengine.model import BaseDataPreprocessor
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import nn

from coma_mm.errors import UserError, choice
from coma_mm.ranges import above, each, number

from .attention import WindowConv
from .copying import copied_ahead
from .decoders import PatchDecoder
from .heads import LatentHead


@MODELS.register_module()
class MaskedImagePreprocessor(BaseDataPreprocessor):
    """Moves a batch of masked images to the device and normalises the images there.

    Args:
        mean (Sequence[float]): Per channel, in 0 to 255, in the order RGB. Defaults to ImageNet's.
        std (Sequence[float]): Likewise.
        to_rgb (bool): Images arrive as BGR. Defaults to True.
        view (dict, optional): For images of other bands than RGB: the three that are looked at, `rgb`, and the values of
            each that are black and white, `low` and `high`; see `coma_mm.datasets.bands`. Defaults to None: 0 to 255.
    """

    def __init__(self, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), to_rgb: bool = True,
                 view: dict | None = None):
        super().__init__(non_blocking=True)  # loaders pin their memory
        each(number()).check('MaskedImagePreprocessor: mean', mean)
        each(above(0)).check('MaskedImagePreprocessor: std', std)
        if len(mean) != len(std):
            raise UserError(f'MaskedImagePreprocessor: mean has {len(mean)} numbers and std {len(std)}: expected one '
                            'for each channel in both')
        self.to_rgb, self.view = to_rgb, view
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)

    def forward(self, data: dict, training: bool = False) -> dict:
        """`data['inputs']`: uint8 (B, 3, H, W) -> float32, RGB, normalised; or bands of any depth, in their order."""
        # Not the samples: they hold names alone, and to walk hundreds of them takes milliseconds.
        batch = {key: value for key, value in data.items() if key != 'data_samples'}
        data = {**data, **copied_ahead(self.cast_data, batch, self.device)}
        images = data['inputs'].flip(1) if self.to_rgb else data['inputs']
        return {**data, 'inputs': (images - self.mean).div_(self.std)}

    def to_uint8(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images -> uint8 RGB, for looking."""
        images = images * self.std + self.mean
        if self.view:
            rgb = self.view['rgb']
            low, high = (images.new_tensor(self.view[key]).view(-1, 1, 1) for key in ('low', 'high'))
            images = (images[:, list(rgb)] - low) * (255 / (high - low).clamp(min=1e-12))
        return images.round().clamp(0, 255).to(torch.uint8)


@MODELS.register_module()
class MaskedAutoencoder(BaseSelfSupervisor):
    """Encode some patches, reconstruct the others (He et al. 2022), with any masked encoder.

    Args:
        backbone (dict): A masked encoder: called with images and the indices of the patches to keep, it returns
            tokens of those patches.
        neck (dict): Fuses the encoder's outputs to one token per patch, (B, K, C). Its `in_channels` and `sides`
            default to the backbone's `out_channels` and `out_sides`.
        decoder (dict): Predicts all patches from the tokens, their indices and the grid. Its `in_channels` default to
            the last of the backbone's `out_channels`, its `patch_size` to the backbone's, its `out_channels` to the
            bands that the backbone sees, `in_channels`, if it says so.
        head (dict): Target and error. Its `patch_size` defaults to the backbone's.
        data_preprocessor (dict, optional): Defaults to `MaskedImagePreprocessor` with ImageNet's moments.
        init_cfg (dict, optional): Defaults to None.

    Raises:
        UserError: The backbone is no masked encoder, or backbone, decoder and head have not the same `patch_size`.
    """

    def __init__(self, backbone: dict, neck: dict, decoder: dict, head: dict, data_preprocessor=None, init_cfg=None):
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = dict(type='MaskedImagePreprocessor') | (data_preprocessor or {})
        if not isinstance(backbone, nn.Module):
            backbone = MODELS.build(backbone)
        _check_encoder(backbone)
        channels, patch_size = getattr(backbone, 'out_channels', None), backbone.patch_size
        super().__init__(
            backbone=backbone,
            neck=_with_defaults(neck, in_channels=channels, sides=getattr(backbone, 'out_sides', None)),
            head=_with_defaults(head, patch_size=patch_size),
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg)
        decoder = _with_defaults(decoder, in_channels=channels and channels[-1], patch_size=patch_size,
                                 out_channels=getattr(backbone, 'in_channels', None))
        self.decoder = decoder if isinstance(decoder, nn.Module) else MODELS.build(decoder)
        sizes = {name: getattr(self, name).patch_size for name in ('backbone', 'decoder', 'head')}
        if len(set(sizes.values())) > 1:
            raise UserError(f'{type(self).__name__}: patch_size differs: {sizes}; set it to the same number of px in '
                            'all three (and in PatchMask)')

    def forward(self,
                inputs: torch.Tensor,
                ids_keep: torch.Tensor | None = None,
                ids_rest: torch.Tensor | None = None,
                data_samples: list[DataSample] | None = None,
                mode: str = 'tensor',
                **options):
        """Entry for training, validation and feature extraction.

        Args:
            inputs (Tensor): Normalised images, (B, 3, H, W).
            ids_keep (Tensor, optional): int64 indices of the patches that the adaptive model sees, (B, K).
            ids_rest (Tensor, optional): The other patches, (B, n - K).
            data_samples (list[DataSample], optional): Names of the images. Only passed on.
            mode (str): 'loss': a dict with the loss; 'predict': a list of samples with a `reconstruction_error`
                dict each; 'tensor': the backbone's outputs, on the patches in `ids_keep` (None: on all).
            **options: Further arguments of `loss`.

        Returns:
            dict | list[DataSample] | tuple[Tensor]: By `mode`.
        """
        if mode == 'tensor':
            return self.backbone(inputs, ids_keep)
        self._check_masks(inputs, ids_keep, ids_rest)
        if mode == 'loss':
            if 'second_keep' in options and getattr(self, 'complement', None) != 'full':
                raise UserError(f"PatchMask draws a second mask (pair='independent'), and {type(self).__name__} has no use "
                                "for it; expected CoMA with complement='full', or pair='complementary'")
            return self.loss(inputs, ids_keep, ids_rest, **options)
        if mode == 'predict':
            return self.predict(inputs, ids_keep, ids_rest, data_samples)
        raise ValueError(f'mode {mode!r}: expected loss, predict or tensor')

    def _check_masks(self, images, ids_keep, ids_rest):
        rows, columns = self.head.grid(images)
        if ids_keep is None or ids_rest is None:
            raise UserError(f'{type(self).__name__} got images without masks: put PatchMask and PackMaskedImage at the '
                            'end of the pipeline')
        drawn = ids_keep.shape[1] + ids_rest.shape[1]
        if drawn != rows * columns:
            raise UserError(f'masks were drawn for {drawn} patches, the images have {rows}×{columns} of '
                            f'{self.head.patch_size} px: PatchMask.patch_size must be that of the model')

    def reconstruct(self, images: torch.Tensor, ids_keep: torch.Tensor, branch=None, ids=None) -> torch.Tensor:
        """Predict all patches, or some, from the kept ones.

        Args:
            images (Tensor): (B, 3, H, W).
            ids_keep (Tensor): int64, (B, K).
            branch (optional): What has `backbone`, `neck` and `decoder`. Defaults to this model.
            ids (Tensor, optional): The patches to predict, int64, (B, M). Defaults to all.

        Returns:
            Tensor: (B, M, patch_size²·3).
        """
        branch = self if branch is None else branch
        tokens = branch.neck(branch.backbone(images, ids_keep))
        return branch.decoder(tokens, ids_keep, self.head.grid(images), ids)

    def loss(self, inputs: torch.Tensor, ids_keep: torch.Tensor, ids_rest: torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared error over the masked patches, as in MAE."""
        pred = self.reconstruct(inputs, ids_keep, ids=ids_rest)
        return dict(loss=self.head.patch_errors(pred, inputs, ids_rest).mean())

    def reconstruct_both(self, images: torch.Tensor, ids_keep: torch.Tensor,
                         ids_rest: torch.Tensor, unseen_only: bool = False) -> dict[str, torch.Tensor]:
        """What each branch predicts, (B, n, patch_size²·3) each: 'adaptive', and 'evaluation' where there is one.

        With `unseen_only` each predicts the patches alone that it does not see: `ids_rest` and `ids_keep`.
        """
        return dict(adaptive=self.reconstruct(images, ids_keep, ids=ids_rest if unseen_only else None))

    def predict(self, inputs, ids_keep, ids_rest, data_samples=None) -> list[DataSample]:
        """Reconstruction errors of each image.

        Returns:
            list[DataSample]: With `reconstruction_error`: 'masked', the adaptive model's mean squared error over
            the patches that it did not see; with an evaluation branch also 'complement', that branch's over the
            patches that *it* did not see, and 'assembled', over the assembled image (Eq. 2 and 3).
        """
        preds = self.reconstruct_both(inputs, ids_keep, ids_rest, unseen_only=True)
        masked = self.head.patch_errors(preds['adaptive'], inputs, ids_rest)
        values = dict(masked=masked.mean(1))
        if 'evaluation' in preds:
            complement = self.head.patch_errors(preds['evaluation'], inputs, ids_keep)
            values['complement'] = complement.mean(1)
            values['assembled'] = torch.cat([masked, complement], 1).mean(1)
        values = {key: value.tolist() for key, value in values.items()}  # not one by one: each would wait for the GPU
        samples = data_samples or [DataSample() for _ in inputs]
        for i, sample in enumerate(samples):
            sample.set_field({key: value[i] for key, value in values.items()}, 'reconstruction_error')
        return samples


@MODELS.register_module()
class CoMA(MaskedAutoencoder):
    """Masked autoencoding with complementary masks.

    The adaptive model sees the patches `ids_keep` and is supervised on `ids_rest`; the complementary branch sees
    `ids_rest` and is supervised on `ids_keep`; the loss is the mean over all patches of the image assembled from
    both (Eq. 2 and 3). The evaluation model lags the adaptive model by exactly one update (Eq. 4): `follow`,
    which `EvaluationModelHook` calls, sets it just before each update that is really made.

    That hook can also have the complementary branch computed in some iterations only, by an argument of `loss`; in
    the others the loss is the adaptive model's part of the same mean alone.

    Args:
        complement (str): The complementary branch.

            - 'frozen': the evaluation model, encoder to decoder, without gradient. The paper's reading. Its half of
              the loss teaches nothing: the gradient is `MaskedAutoencoder`'s times the share of masked
              patches.
            - 'decoder': the evaluation *encoder*, without gradient, then the trained neck and decoder, which so are
              supervised on every patch at every step.
            - 'full': the adaptive model itself, trained on both masks, at twice the cost. With `PatchMask(pair=
              'independent')` the second mask is no complement: the control that shows what complementarity adds.
            - 'latent': the evaluation *encoder*, a moving average without gradient, teaches by what it makes of `ids_rest`,
              which is all that it sees: the last of the backbone's outputs, one token per patch, normalised over its
              channels. The adaptive model predicts these tokens as it does the pixels there, by a `LatentHead` on the
              decoder's tokens, and the loss is the weighted sum of both errors over `ids_rest`. Ours; the relatives are
              data2vec 2.0, I-JEPA and Sapiens2, whose teachers see whole images.
            - 'none': no branch: `MaskedAutoencoder`.

            Defaults to 'frozen'.
        momentum (float, optional): Share of its old weights that the evaluation model keeps at each update. 0 copies (Eq.
            4), more makes it an exponential moving average. Defaults to 0; in 'latent' to 0.996 (I-JEPA).
        end_momentum (float, optional): It goes there linearly over a run's iterations. Defaults to `momentum`; in 'latent'
            to 1 (I-JEPA).
        latent_weight (float): Of the tokens' error, in 'latent'. Defaults to 1.
        pixel_weight (float): Of the pixels' error, in 'latent'; with 0 the layer that predicts them learns nothing.
            Defaults to 1.
        **kwargs: Arguments of `MaskedAutoencoder`.
    """
    COPIES = dict(frozen=('backbone', 'neck', 'decoder'), decoder=('backbone', ), full=(), latent=('backbone', ), none=())

    def __init__(self, *args, complement: str = 'frozen', momentum: float | None = None, end_momentum: float | None = None,
                 latent_weight: float = 1., pixel_weight: float = 1., **kwargs):
        super().__init__(*args, **kwargs)
        self.complement = choice('CoMA: complement', complement, self.COPIES)
        latent = complement == 'latent'
        self.momentum = momentum if momentum is not None else 0.996 if latent else 0.
        self.end_momentum = end_momentum if end_momentum is not None else 1. if latent else self.momentum
        self.progress = 0.  # share of the run that is done, which EvaluationModelHook keeps
        if not 0 <= self.momentum < 1:
            raise UserError(f'CoMA: momentum {momentum} is outside [0, 1)')
        number(0, 1).check('CoMA: end_momentum', self.end_momentum)
        self.latent_weight = above(0).check('CoMA: latent_weight', latent_weight)
        self.pixel_weight = number(0).check('CoMA: pixel_weight', pixel_weight)
        if latent:
            self.latent_head = _latent_head(self.backbone, self.decoder)
        self.evaluation = nn.ModuleDict({
            name: _freeze(copy.deepcopy(getattr(self, name))) for name in self.COPIES[complement]
        }).eval()
        self._handle = None  # of the hook in an optimiser's step that updates the evaluation model
        self._rounded = ()  # the evaluation model in autocast's precision; in a tuple, as it is no part of the model
        self.register_load_state_dict_post_hook(lambda model, _: model._round())

    def init_weights(self):
        """Initialise; the evaluation model starts equal."""
        super().init_weights()
        self.sync_evaluation()

    def train(self, mode: bool = True):
        """Set training mode; the evaluation model stays in evaluation mode."""
        super().train(mode)
        self.evaluation.eval()
        return self

    def _pairs(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Tensors of the evaluation model and, in the same order, of the adaptive one."""
        lagged, current = [], []
        for name, module in self.evaluation.items():
            theirs, ours = module.state_dict(), getattr(self, name).state_dict()
            lagged += theirs.values()
            current += [ours[key] for key in theirs]
        return lagged, current

    @torch.no_grad()
    def sync_evaluation(self, momentum: float = 0., unless: torch.Tensor | None = None) -> None:
        """Set the evaluation model from the adaptive one.

        Args:
            momentum (float): Share of its old weights that it keeps. Defaults to 0.
            unless (Tensor, optional): 1: leave it as it is; 0: set it. The host does not look at it. Defaults to 0.
        """
        lagged, current = self._pairs()
        if not lagged:
            return
        if unless is not None:
            # A weight of exactly 0 or 1 gives the one or the other. Not lerp: with a weight on the device that is a kernel
            # for each tensor.
            weight = (1 - momentum) * (1 - unless.to(lagged[0]))
            torch._foreach_mul_(lagged, 1 - weight)
            torch._foreach_add_(lagged, torch._foreach_mul(current, weight))
        elif momentum:
            torch._foreach_lerp_(lagged, current, 1 - momentum)
        else:
            torch._foreach_copy_(lagged, current)
        self._round()

    @torch.no_grad()
    def _round(self) -> None:
        """Set the evaluation model in autocast's precision, if there is one, from the evaluation model."""
        for rounded in self._rounded:
            pairs = [(low, full) for low, full in zip(rounded.buffers(), self.evaluation.buffers(), strict=True)
                     if low.dtype != full.dtype]
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))

    def _branch(self, device: torch.device) -> nn.ModuleDict:
        """The evaluation model; under autocast the one that `follow` has prepared for it."""
        return self._rounded[0] if self._rounded and torch.is_autocast_enabled(device.type) else self.evaluation

    def follow(self, optimizer: torch.optim.Optimizer, dtype: torch.dtype | None = None) -> None:
        """Let the evaluation model lag by one update of `optimizer`.

        Another call follows another optimiser instead.

        Args:
            optimizer (Optimizer): Of this model's parameters.
            dtype (torch.dtype, optional): The precision of autocast in training. The evaluation model is kept in it too
                then, so that its weights, which no gradient needs, are cast once for each update and not in each forward
                pass. What it computes is the same. Defaults to None: autocast casts them.

        Tied to the optimiser's own step, so that gradient accumulation counts as one update, and a step that is left
        out as none: one that a gradient scaler skips (fused optimisers are called even then, with `found_inf`), or
        one without gradients.
        """

        def before_step(optimizer, args, kwargs):
            if any(p.grad is not None for group in optimizer.param_groups for p in group['params']):
                momentum = self.momentum + (self.end_momentum - self.momentum) * self.progress
                self.sync_evaluation(momentum, getattr(optimizer, 'found_inf', None))

        self._rounded = (_rounded(self.evaluation, dtype), ) if dtype and self.evaluation else ()
        if self._handle:
            self._handle.remove()
        self._handle = optimizer.register_step_pre_hook(before_step)

    def reconstruct_both(self, images, ids_keep, ids_rest, unseen_only=False, second=None):
        """See the base class; the complementary branch sees `ids_rest`, or the first of `second`: (sees, does not see)."""
        preds = super().reconstruct_both(images, ids_keep, ids_rest, unseen_only)
        ids_rest, ids_keep = second or (ids_rest, ids_keep)
        ids = ids_keep if unseen_only else None
        if self.complement == 'frozen':
            with torch.no_grad():
                preds['evaluation'] = self.reconstruct(images, ids_rest, self._branch(images.device), ids)
        elif self.complement in ('decoder', 'latent'):  # in 'latent' for validation and pictures
            with torch.no_grad():
                feats = self._branch(images.device)['backbone'](images, ids_rest)
            preds['evaluation'] = self.decoder(self.neck(feats), ids_rest, self.head.grid(images), ids)
        elif self.complement == 'full':
            preds['evaluation'] = self.reconstruct(images, ids_rest, ids=ids)
        return preds

    def loss(self, inputs, ids_keep, ids_rest, both_branches: bool = True, second_keep=None, second_rest=None):
        """Mean squared error over the assembled image (Eq. 3), and for the log each branch's own error.

        Args:
            inputs (Tensor): Normalised images, (B, 3, H, W).
            ids_keep (Tensor): The patches that the adaptive model sees, (B, K).
            ids_rest (Tensor): The patches that the complementary branch sees, (B, n - K).
            both_branches (bool): Whether the complementary branch is computed. Else its errors count as 0: the gradient
                is bit for bit that of 'frozen', in which they have none; that of 'latent' then comes from pixels alone.
                Defaults to True.
            second_keep (Tensor, optional): For 'full': the patches that the second branch sees in the place of the
                complement, (B, n - K). Defaults to None: `ids_rest`.
            second_rest (Tensor, optional): The patches that it does not see, (B, K).

        Returns:
            dict[str, Tensor]: 'loss', and with a complementary branch 'mse_adaptive' (over `ids_rest`) and, where
            that is computed, 'mse_evaluation' (over `ids_keep`, or `second_rest`); of 'latent' see `latent_loss`.
        """
        if self.complement == 'none':
            return super().loss(inputs, ids_keep, ids_rest)
        if self.complement == 'latent':
            return self.latent_loss(inputs, ids_keep, ids_rest, both_branches)
        if not both_branches:
            adaptive = self.head.patch_errors(self.reconstruct(inputs, ids_keep, ids=ids_rest), inputs, ids_rest)
            # The sum over the number of all patches: the gradient is that of the mean below, to the last bit.
            loss = adaptive.sum() / (adaptive.numel() + ids_keep.numel())
            return dict(loss=loss, mse_adaptive=adaptive.detach().mean())
        second = (ids_rest, ids_keep) if second_keep is None else (second_keep, second_rest)
        preds = self.reconstruct_both(inputs, ids_keep, ids_rest, unseen_only=True, second=second)
        adaptive = self.head.patch_errors(preds['adaptive'], inputs, ids_rest)
        evaluation = self.head.patch_errors(preds['evaluation'], inputs, second[1])
        return dict(
            loss=torch.cat([adaptive, evaluation], 1).mean(),
            mse_adaptive=adaptive.detach().mean(),
            mse_evaluation=evaluation.detach().mean())

    def latent_loss(self, images: torch.Tensor, ids_keep: torch.Tensor, ids_rest: torch.Tensor,
                    both_branches: bool = True) -> dict[str, torch.Tensor]:
        """The loss of 'latent'; the arguments are those of `loss`.

        Returns:
            dict[str, Tensor]: 'loss', the weighted sum, and 'mse_adaptive', of pixels; where the branch is computed also
            'mse_latent', of tokens, and 'target_std' (`LatentHead.spread`), which falls towards 0 in a collapse.
        """
        grid = self.head.grid(images)
        tokens = self.decoder.describe(self.neck(self.backbone(images, ids_keep)), ids_keep, grid, ids_rest)
        pixels = self.head.patch_errors(self.decoder.predict(tokens), images, ids_rest).mean()
        predicted = self.latent_head(tokens)
        if not both_branches:
            # Of every parameter DDP expects a gradient.
            return dict(loss=self.pixel_weight * pixels + 0 * predicted.mean(), mse_adaptive=pixels.detach())
        with torch.no_grad():
            target = self.latent_head.target(self._branch(images.device)['backbone'](images, ids_rest)[-1])
        latents = self.latent_head.patch_errors(predicted, target).mean()
        return dict(
            loss=self.pixel_weight * pixels + self.latent_weight * latents,
            mse_adaptive=pixels.detach(),
            mse_latent=latents.detach(),
            target_std=self.latent_head.spread(target, ids_rest, grid[0] * grid[1]))


def _latent_head(backbone: nn.Module, decoder: nn.Module) -> LatentHead:
    """The predictor of a backbone's last tokens, or a UserError if these or the decoder's are not one for each patch."""
    if not hasattr(backbone, 'out_channels') or getattr(backbone, 'out_sides', (1, ))[-1] != 1:
        raise UserError(f"CoMA: complement='latent' predicts one token per patch: {type(backbone).__name__} needs "
                        'out_channels, and 1 as the last of its out_sides; with DyViT let out_indices end with 3')
    if not isinstance(decoder, PatchDecoder):
        raise UserError(f"CoMA: complement='latent' predicts from the decoder's tokens: {type(decoder).__name__} is no "
                        'PatchDecoder (coma_mm.models.decoders); take ViTDecoder or ConvNeXtDecoder')
    return LatentHead(decoder.predict.in_features, backbone.out_channels[-1])


def _check_encoder(backbone: nn.Module) -> None:
    """Raise a UserError if a backbone lacks what every masked encoder has."""
    signature = inspect.signature(backbone.forward)
    try:
        signature.bind('images', 'ids_keep')
        # mmpretrain's own encoders draw the masks themselves: forward(x, mask=True).
        takes_indices = 'mask' not in signature.parameters or signature.parameters['mask'].default is not True
    except TypeError:
        takes_indices = False
    if not takes_indices or not hasattr(backbone, 'patch_size'):
        raise UserError(f'{type(backbone).__name__} is no masked encoder: needs patch_size and forward(images, ids_keep); '
                        'take DyViT or MaskedVisionTransformer, or write one as docs/extend.md says')


def _with_defaults(part, **defaults):
    """dict | nn.Module: The config of a part of the model with what it takes and does not say; a built one as it is."""
    kind = part.get('type') if isinstance(part, dict) else None
    kind = MODELS.get(kind) if isinstance(kind, str) else kind
    if kind is None:
        return part
    taken = inspect.signature(kind).parameters
    return {**{key: value for key, value in defaults.items() if value is not None and key in taken}, **part}


def _rounded(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy of a module without parameters, with those weights in another dtype that autocast casts to it."""
    copied = copy.deepcopy(module, {id(tensor): tensor for tensor in module.buffers()})  # shares the tensors so far
    for part in copied.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d, WindowConv)):
            part.to(dtype)
    return copied


def _freeze(module: nn.Module) -> nn.Module:
    """Make a module's parameters buffers: saved with the model, unseen by optimisers and parameter counts."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module
