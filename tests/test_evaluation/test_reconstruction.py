import pytest
from mmengine.evaluator import Evaluator
from mmpretrain.structures import DataSample


def test_means_over_the_data_set():
    evaluator = Evaluator(dict(type='ReconstructionError'))
    for batch in ([1., 2.], [6.]):
        samples = []
        for error in batch:
            sample = DataSample()
            sample.set_field(dict(masked=error, assembled=2 * error), 'reconstruction_error')
            samples.append(sample)
        evaluator.process(samples, {})
    values = evaluator.evaluate(3)
    assert values == {'reconstruction/masked': pytest.approx(3), 'reconstruction/assembled': pytest.approx(6)}
