"""Copies of batches to a GPU, with streams that note what they are asked for."""
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from coma_mm.models import MaskedImagePreprocessor, copying

from ..helpers.small_models import small_batch

CUDA = torch.device('cuda')


@pytest.fixture
def calls(monkeypatch):
    """What happens, in order; a stream is its name."""
    calls = []
    main = SimpleNamespace(device=torch.device('cuda', 0), wait_stream=lambda other: calls.append(('main waits for', other)))

    @contextmanager
    def on(stream):
        calls.append(('on', stream))
        yield
        calls.append(('off', stream))

    monkeypatch.setattr(torch.cuda, 'current_stream', lambda device: main)
    monkeypatch.setattr(torch.cuda, 'stream', on)
    monkeypatch.setattr(copying, '_copy_stream', lambda device: f'beside on {device}')
    monkeypatch.setattr(torch.Tensor, 'record_stream',
                        lambda tensor, stream: calls.append(('kept for main', tuple(tensor.shape))) if stream is main else 1)
    return calls


def test_a_batch_is_copied_beside_and_waited_for_where_it_is_used(calls):
    batch = dict(inputs=torch.zeros(2, 3), ids_keep=torch.zeros(2, 1), both_branches=False)

    def copy(batch):
        calls.append('copy')
        return {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in batch.items()}

    copied = copying.copied_ahead(copy, batch, CUDA)
    stream = 'beside on cuda:0'
    assert calls == [('on', stream), 'copy', ('off', stream), ('main waits for', stream), ('kept for main', (2, 3)),
                     ('kept for main', (2, 1))]
    assert list(copied) == list(batch) and copied['both_branches'] is False


@pytest.mark.parametrize(('device', 'batch'), [
    (torch.device('cpu'), dict(inputs=torch.zeros(2))), (CUDA, dict(inputs=torch.zeros(2, device='meta'))), (CUDA, {})])
def test_what_is_on_the_cpu_to_stay_or_on_the_gpu_already_needs_no_stream(calls, device, batch):
    assert copying.copied_ahead(dict, batch, device) == batch and not calls


def test_the_preprocessor_copies_so_and_leaves_the_batch_of_the_loader_as_it_is(calls, monkeypatch):
    data = dict(small_batch(), inputs=torch.arange(3 * 3 * 64 * 64).view(3, 3, 64, 64).to(torch.uint8),
                data_samples=['a', 'b', 'c'], both_branches=False)
    expected = MaskedImagePreprocessor()(dict(data), True)
    assert not calls
    on_gpu = MaskedImagePreprocessor()
    on_gpu._device = CUDA
    monkeypatch.setattr(on_gpu, 'cast_data', lambda batch: batch)  # there is none
    before = dict(data)
    found = on_gpu(data, True)
    assert calls[0] == ('on', 'beside on cuda:0') and len(calls) == 6
    assert found.keys() == expected.keys() and found['data_samples'] is data['data_samples']
    assert torch.equal(found['inputs'], expected['inputs'])
    assert all(data[key] is before[key] for key in before)
