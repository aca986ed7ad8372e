"""Operations and memory of a model, counted from the shapes that pass through it: nothing is computed.

Everything that the project says about parameters, MACs and bytes of activations is counted here.
"""
import copy
import weakref
from functools import partial
from math import prod

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, flop_registry

from coma_mm.datasets.mask_samplers import UniformMaskSampler
from coma_mm.models import MaskedAutoencoder

RULES = dict(
    layers='convolutions and linear layers: every product with a weight',
    attention="the same and attention's own products, Q·Kᵀ and the weighted sum of V, which have no weights")
"""The two rules by which operations are counted; norms, activations, softmax and sums count as nothing in both."""


class Operations(FlopCounterMode):
    """Multiply-accumulates (MACs) of what runs while it is entered, by both `RULES`.

    Args:
        weights (Iterable[Tensor]): Parameters and buffers, to tell a linear layer that runs as a batched product from
            attention written as one.
    """

    def __init__(self, weights=()):
        self._weights = {weight.untyped_storage()._cdata for weight in weights}
        self._batched = 0  # FLOPs of batched products without a weight

        def bmm(a, b, *args, out_val=None, **kwargs):
            flops = bmm_flop(a, b)
            if not {a.untyped_storage()._cdata, b.untyped_storage()._cdata} & self._weights:
                self._batched += flops
            return flops

        bmm._get_raw = True
        aten = torch.ops.aten
        # Torch before 2.12 has formulas for attention on a GPU alone; those on a CPU are the same.
        attention, on_cpu = '_scaled_dot_product_flash_attention', {}
        for end in ('', '_backward'):
            formula = partial(flop_registry[getattr(aten, attention + end)])
            formula._get_raw = True  # it looks at the shapes of tensors by itself
            on_cpu[getattr(aten, f'{attention}_for_cpu{end}')] = formula
        super().__init__(display=False, custom_mapping={
            **on_cpu, aten.bmm: bmm, aten.convolution_backward: _convolution_backward_flop})

    def _count_flops(self, func_packet, *args):
        """Count an operator as the parent does, but no attention as nothing."""
        if 'attention' in func_packet.__name__ and func_packet not in self.flop_registry:
            raise NotImplementedError(f'torch {torch.__version__} has no formula for the operations of '
                                      f'{func_packet.__name__}, which would count as nothing')
        return super()._count_flops(func_packet, *args)

    def macs(self):
        """dict[str, int]: By rule."""
        total = self.get_total_flops()
        fused = sum(flops for op, flops in self.get_flop_counts()['Global'].items() if 'attention' in str(op))
        return dict(layers=(total - fused - self._batched) // 2, attention=total // 2)


def _convolution_backward_flop(grad_out, x, weight, _bias, _stride, _padding, _dilation, transposed, _output_padding,
                               _groups, output_mask, **_):
    """int: The input's and the weight's gradient cost what the output does. torch's own formula forgets the groups."""
    return 2 * sum(output_mask[:2]) * prod(x if transposed else grad_out) * prod(weight[1:])


class LivingTensors(TorchDispatchMode):
    """Bytes of the tensors made since it was entered that live at once: `now`, and the most so far, `peak`.

    Memory that an operator takes and frees inside itself is not seen.

    Args:
        known (Iterable[Tensor]): Tensors that were there before; views of them are not new.
    """

    def __init__(self, known=()):
        super().__init__()
        self.now = self.peak = 0
        self._known = [tensor.untyped_storage() for tensor in known]
        self._living = {storage._cdata for storage in self._known}
        self._saved = weakref.WeakValueDictionary()  # storages by their addresses

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run an operator, and note what it has made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return out

    def _note(self, storage):
        address, size = storage._cdata, storage.nbytes()
        if address in self._living:
            return
        self._living.add(address)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, address, size)

    def save(self, tensor):
        """For `saved_tensors_hooks`: note what a forward pass keeps for the backward pass."""
        self._saved[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    def saved_bytes(self):
        """int: Of those that still live, known ones apart."""
        known = {storage._cdata for storage in self._known}
        return sum(storage.nbytes() for address, storage in self._saved.items() if address not in known)

    def _forget(self, address, size):
        self._living.discard(address)
        self.now -= size


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
        grid = model.head.grid(images)
        ids = torch.arange(grid[0] * grid[1]).expand(batch, -1)  # which patches they are makes no difference
        kept = UniformMaskSampler(ratio).num_keep(grid)
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


def measure(model, batch, size, ratio=0.6, bf16=False, forward=training_forward):
    """Operations and memory of a model in training and in inference.

    Args:
        model (nn.Module): As in `training_forward`. It stays in training mode, without gradients.
        batch (int): Images.
        size (int): Their side in px.
        ratio (float): Share of masked patches. Defaults to 0.6.
        bf16 (bool): Under autocast. Defaults to False.
        forward (Callable): Takes model, images and ratio. Defaults to `training_forward`.

    Returns:
        dict[str, float]: 'parameters' (all, a frozen copy apart) and 'trained' ones; of an image, in the forward pass,
        'macs_layers' and 'macs_attention' (see `RULES`), and with the backward pass 'step_macs' (attention counted);
        'state_bytes' (weights, gradients, AdamW's moments, evaluation model); 'saved_bytes' (what the forward pass
        keeps for the backward pass); 'step_peak_bytes' (state and living tensors at their peak in forward and backward
        pass); 'inference_peak_bytes' (living tensors at their peak in the forward pass without autograd, weights
        apart).
    """
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    state = sum(value.numel() * value.element_size() for value in [*parameters, *model.buffers()]) + 12 * trained
    found = dict(parameters=sum(parameter.numel() for parameter in parameters), trained=trained, state_bytes=state)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with FakeCopyMode(mode):
        model = copy.deepcopy(model)
    weights = [*model.parameters(), *model.buffers()]
    with mode, torch.autocast('cpu', torch.bfloat16, bf16):
        images = torch.zeros(batch, 3, size, size)
        model.eval()
        with torch.no_grad(), LivingTensors([*weights, images]) as living:
            forward(model, images, ratio)
        found['inference_peak_bytes'] = living.peak
        model.train()  # apart, as mmpretrain's backbones return nothing
        with Operations(weights) as operations, LivingTensors([*weights, images]) as living:
            with torch.autograd.graph.saved_tensors_hooks(living.save, lambda tensor: tensor):
                outs = forward(model, images, ratio)
            found.update({f'macs_{rule}': macs / batch for rule, macs in operations.macs().items()})
            found['saved_bytes'] = living.saved_bytes()
            outs = [out for out in tree_leaves(outs) if isinstance(out, torch.Tensor) and out.requires_grad]
            torch.autograd.backward(outs, [torch.zeros_like(out) for out in outs])
    found.update(step_macs=operations.macs()['attention'] / batch, step_peak_bytes=state - 4 * trained + living.peak)
    return found
