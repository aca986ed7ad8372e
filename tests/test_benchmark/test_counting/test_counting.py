"""Operations and memory counted from shapes, against counting by hand, other counters, and real steps."""
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from coma_mm.benchmark.counting.counting import LivingTensors, Operations, measure
from coma_mm.models import DyViT
from coma_mm.models.decoders import ConvNeXtDecoder

from ...helpers.small_models import giga_macs, small_coma, small_mae


class TwoLayers(nn.Module):
    """Two layers on the pixels of 4×4 images, and a head; the first is frozen."""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(48, 10).requires_grad_(False)
        self.hidden = nn.Linear(10, 20)
        self.head = nn.Linear(20, 5)

    def extract_feat(self, images):
        return self.hidden(self.backbone(images.flatten(1))).relu()


@pytest.mark.parametrize('bf16', [False, True])
def test_counts_of_a_small_network(bf16):
    found = measure(TwoLayers(), batch=7, size=4, bf16=bf16)
    trained = 10 * 20 + 20 + 20 * 5 + 5
    assert found['trained'] == trained and found['parameters'] == trained + 48 * 10 + 10
    # Forward: all layers; backward: the weights' gradients of two, and the input's of one.
    forward = 48 * 10 + 10 * 20 + 20 * 5
    assert found['macs_layers'] == found['macs_attention'] == forward
    assert found['step_macs'] == 48 * 10 + 2 * 10 * 20 + 3 * 20 * 5
    assert found['state_bytes'] == 4 * (48 * 10 + 10) + 16 * trained
    # Saved: the input of the second layer and that of the third, which the activation function needs too; in bf16 also
    # the weight of the third, as a copy.
    assert found['saved_bytes'] == (2 * (7 * 10 + 7 * 20 + 20 * 5) if bf16 else 4 * (7 * 10 + 7 * 20))


def macs(module, *inputs, backward=False):
    """MACs by both rules."""
    with Operations([*module.parameters()]) as operations:
        out = module(*inputs)
        if backward:
            out.sum().backward()
    return operations.macs()


@pytest.mark.parametrize('make', [
    lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1),
    lambda: nn.Conv2d(6, 12, 3, groups=3),
    lambda: nn.Conv2d(6, 6, 5, groups=6, bias=False),
    lambda: nn.ConvTranspose2d(6, 8, 2, stride=2),
    lambda: nn.ConvTranspose2d(6, 8, 2, groups=2),
])
def test_convolutions_and_their_gradients(make):
    conv, x = make(), torch.randn(2, 6, 9, 9, requires_grad=True)
    out = conv(x)
    # Every output (of a transposed one: every input) meets one filter of kernel area × channels of its group.
    positions = x if isinstance(conv, nn.ConvTranspose2d) else out
    forward = positions.numel() * conv.weight[0].numel()
    assert macs(conv, x) == dict(layers=forward, attention=forward)
    assert macs(conv, x, backward=True)['layers'] == 3 * forward


class Attention(nn.Module):
    """One head; fused, or written as products."""

    def __init__(self, fused):
        super().__init__()
        self.fused = fused
        self.qkv = nn.Linear(16, 48, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        if self.fused:
            return F.scaled_dot_product_attention(q, k, v)
        return (q @ k.transpose(-1, -2)).softmax(-1) @ v


@pytest.mark.parametrize('fused', [False, True])
@pytest.mark.parametrize('contiguous', [False, True])  # a linear layer without bias then runs as a batched product
def test_the_two_rules(fused, contiguous):
    x = torch.randn(3, 10, 16) if contiguous else torch.randn(3, 16, 10).transpose(1, 2)
    layers, products = 3 * 10 * 16 * 48, 2 * 3 * 10 * 10 * 16
    with torch.no_grad():
        assert macs(Attention(fused), x) == dict(layers=layers, attention=layers + products)
    assert macs(Attention(fused), x, backward=True)['layers'] == 2 * layers


def test_no_attention_counts_as_nothing(monkeypatch):
    """Older torch has no formulas for what runs on a CPU; and of others nobody has one."""
    x = torch.randn(3, 10, 16, requires_grad=True)
    expected = macs(Attention(True), x, backward=True)
    for name in ('_scaled_dot_product_flash_attention_for_cpu', '_scaled_dot_product_flash_attention_for_cpu_backward'):
        monkeypatch.delitem(flop_registry, getattr(torch.ops.aten, name), raising=False)
    assert macs(Attention(True), x, backward=True) == expected
    counter = Operations()
    counter.flop_registry = {}
    with pytest.raises(NotImplementedError, match='no formula for the operations of _scaled_dot_product'), counter:
        Attention(True)(x)


def test_a_weight_in_a_batched_product_is_a_layer():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4, 5))

        def forward(self, x):
            return torch.bmm(x, self.weight)

    assert macs(Grouped(), torch.randn(3, 2, 4)) == dict(layers=120, attention=120)


@pytest.mark.skipif(torch.ops.aten._scaled_dot_product_flash_attention_for_cpu not in flop_registry,
                    reason="this torch's own counter counts no attention on a CPU")
def test_agreement_with_other_counters():
    model, x = DyViT('tiny').eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found = macs(model, x)
        with FlopCounterMode(display=False) as counter:
            model(x)
    assert 2 * found['attention'] == counter.get_total_flops()
    layers, attention = giga_macs(model, x)
    assert found['layers'] == pytest.approx(layers * 1e9) and found['attention'] == pytest.approx((layers + attention) * 1e9)
    fvcore = pytest.importorskip('fvcore.nn', reason='fvcore is not installed; torch agrees')
    theirs = fvcore.FlopCountAnalysis(model, x).unsupported_ops_warnings(False).by_operator()
    assert found['layers'] == theirs['conv'] + theirs['linear']


def test_depthwise_convolutions_of_a_decoder():
    decoder = ConvNeXtDecoder(in_channels=8, patch_size=8, embed_dims=16, depth=2)
    ids = torch.arange(4).expand(1, -1)
    forward = macs(decoder, torch.randn(1, 4, 8), ids, (2, 2))['layers']
    step = macs(decoder, torch.randn(1, 4, 8, requires_grad=True), ids, (2, 2), backward=True)['layers']
    assert step == 3 * forward


@pytest.mark.parametrize('make', [small_mae, small_coma])
def test_memory_of_shapes_is_that_of_a_real_step(make):
    model = make().float()
    found = measure(model, 2, 64, 0.5)
    assert all(p.grad is None for p in model.parameters())
    images, ids = torch.randn(2, 3, 64, 64), torch.arange(4).expand(2, -1)
    with LivingTensors([*model.parameters(), *model.buffers(), images, ids]) as living:
        sum(v for k, v in model.loss(images, ids[:, :2], ids[:, 2:]).items() if k == 'loss').backward()
    trained = sum(p.numel() for p in model.parameters())
    assert living.now == 4 * trained  # what is left are the gradients
    assert found['step_peak_bytes'] - (found['state_bytes'] - 4 * trained) == pytest.approx(living.peak, rel=0.01)


def test_living_tensors():
    known = torch.zeros(10)
    with LivingTensors([known]) as living:
        a = known.view(2, 5)
        b = a + 1
        c = b[0]
        del b
        assert living.now == living.peak == 40  # the view keeps the whole
        del c
        assert living.now == 0 and living.peak == 40


def test_a_masked_step_costs_less_than_a_whole_one():
    mae, coma = small_mae().float(), small_coma().float()
    costs = [measure(mae, 2, 64, ratio)['step_macs'] for ratio in (0.25, 0.75)]
    assert costs == sorted(costs, reverse=True)
    one, two = (measure(model, 2, 64, 0.5) for model in (mae, coma))
    assert two['saved_bytes'] == pytest.approx(one['saved_bytes'], rel=0.02)  # the evaluation model saves nothing
    assert two['step_macs'] == pytest.approx(one['step_macs'] * 4 / 3, rel=0.05)
    assert two['state_bytes'] - one['state_bytes'] == 4 * sum(p.numel() for p in mae.parameters())
    assert two['parameters'] == one['parameters']
    assert torch.is_grad_enabled()
