#!/usr/bin/env python
"""Estimate a training run's memory and operations from its config, without a GPU and without computing anything.

Only shapes pass through the model. Counted are the weights, gradients and AdamW's two moments in float32, the evaluation
model, and what the forward pass saves for the backward pass; with an optim_wrapper for mixed precision under bf16
autocast. Not counted: what lives within one operation, memory lost between blocks, cuDNN's and NCCL's own, and, in
bf16, the float32 inputs of layer norms, which autocast makes on GPUs alone. Of detectors it takes the heads' outputs for
512 boxes and 128 masks of an image, without the losses.
"""
import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.engine import cli, config  # noqa: E402
from coma_mm.engine.hooks import find_key  # noqa: E402
from coma_mm.models import MaskedAutoencoder  # noqa: E402


def parse_args():
    """Namespace: The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', metavar='CONFIG')
    parser.add_argument('--batch-size', type=int, help="images per process (default: the config's)")
    parser.add_argument('--size', type=int, default=224, help='side of the images in px (default: 224)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.ParseOptions, metavar='KEY=VALUE',
                        help='settings that replace those of the config')
    return parser.parse_args()


def training_forward(model, images, ratio):
    """What a training step computes from images up to the loss, as far as it has fixed shapes.

    Args:
        model (nn.Module): A pre-training model, classifier, segmentor or detector of the three libraries.
        images (Tensor): (B, 3, H, W).
        ratio (float): Share of masked patches.

    Returns:
        Any: Tensors in dicts, lists and tuples.
    """
    batch = len(images)
    if isinstance(model, MaskedAutoencoder):
        patches = (images.shape[-1] // model.head.patch_size)**2
        ids = torch.arange(patches).expand(batch, -1)
        kept = patches - round(ratio * patches)
        return model.loss(images, ids[:, :kept], ids[:, kept:])
    if hasattr(model, 'target_generator'):  # mmpretrain's own pre-training, which draws its masks itself
        return model.loss(images, None)
    feats = model.extract_feat(images)
    outs = [feats]
    for name in ('head', 'rpn_head'):
        if getattr(model, name, None) is not None:
            outs.append(getattr(model, name)(feats))
    for name in ('decode_head', 'auxiliary_head'):
        if getattr(model, name, None) is not None:
            logits = F.interpolate(getattr(model, name)(feats), images.shape[-2:], mode='bilinear')
            outs.append(F.cross_entropy(logits.float(), torch.zeros(batch, *images.shape[-2:], dtype=torch.int64)))
    if hasattr(model, 'roi_head'):
        for name, number, side in (('bbox_head', 512, 7), ('mask_head', 128, 14)):
            outs.append(getattr(model.roi_head, name)(torch.zeros(number * batch, feats[0].shape[1], side, side)))
    return outs


def measure(model, batch, size, ratio=0.6, bf16=False):
    """Operations and memory of a training step.

    Args:
        model (nn.Module): As in `training_forward`.
        batch (int): Images.
        size (int): Their side in px.
        ratio (float): Share of masked patches. Defaults to 0.6.
        bf16 (bool): Under autocast. Defaults to False.

    Returns:
        dict[str, float]: 'parameters' (that are trained), 'macs' (of an image, in forward and backward pass),
        'state_bytes' (weights, gradients, moments, evaluation model) and 'saved_bytes' (for the backward pass).
    """
    model.train()
    if hasattr(model, '_followed'):
        model._followed = True
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    state = sum(value.numel() * value.element_size() for value in [*model.parameters(), *model.buffers()])
    saved = {}  # storages, by their addresses; they are kept, as an address is used again

    def keep(tensor):
        storage = tensor.untyped_storage()
        saved[storage._cdata] = (storage, tensor)
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.autocast('cpu', torch.bfloat16, bf16):
        weights = [mode.from_tensor(value) for value in [*model.parameters(), *model.buffers()]]
        images = torch.zeros(batch, 3, size, size)
        with FlopCounterMode(display=False) as counter:
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                outs = training_forward(model, images, ratio)
            outs = [out for out in tree_leaves(outs) if isinstance(out, torch.Tensor) and out.requires_grad]
            torch.autograd.backward(outs, [torch.zeros_like(out) for out in outs])
    for weight in weights:
        saved.pop(weight.untyped_storage()._cdata, None)
    return dict(parameters=trained, macs=counter.get_total_flops() / 2 / batch, state_bytes=state + 12 * trained,
                saved_bytes=sum(storage.nbytes() for storage, _ in saved.values()))


def main():
    """Print the estimate."""
    args = parse_args()
    cfg = config.read_config(args.config, args.cfg_options)
    DefaultScope.get_instance('estimate', scope_name=cfg.get('default_scope', 'mmengine'))
    batch = args.batch_size or cfg.train_dataloader.batch_size
    cfg.model.setdefault('data_preprocessor', cfg.get('data_preprocessor'))
    ratio = find_key(cfg.train_dataloader.dataset, 'ratio')
    bf16 = config.is_type(cfg.optim_wrapper, 'AutocastOptimWrapper') or config.is_type(cfg.optim_wrapper, 'AmpOptimWrapper')
    found = measure(MODELS.build(cfg.model), batch, args.size, 0.6 if ratio is None else ratio, bf16)
    state, saved = (found[name] / 2**30 for name in ('state_bytes', 'saved_bytes'))
    print(f'{found["parameters"] / 1e6:.1f} M parameters, {found["macs"] / 1e9:.2f} GMACs per image and step; '
          f'{batch} images of {args.size} px in {"bf16" if bf16 else "float32"}: {state:.1f} GiB of weights, gradients and '
          f'moments + {saved:.1f} GiB saved for the backward pass')


if __name__ == '__main__':
    cli.main(main)
