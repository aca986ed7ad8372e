"""Validation of pre-training."""
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS


@METRICS.register_module()
class ReconstructionError(BaseMetric):
    """Means over the data set of each image's `reconstruction_error`, see `MaskedAutoencoder.predict`.

    The masks are those of epoch 0 at every validation, so that values can be compared along a run.
    """
    default_prefix = 'reconstruction'

    def process(self, data_batch, data_samples) -> None:
        """Collect one batch."""
        self.results.extend(sample['reconstruction_error'] for sample in data_samples)

    def compute_metrics(self, results: list[dict]) -> dict[str, float]:
        """Average each kind of error."""
        return {key: sum(r[key] for r in results) / len(results) for key in results[0]}
