"""Whether the data sets, the evaluators, the model and the hooks of a run say the same, before its first iteration."""
from mmengine.runner import Runner

from .channels import check_channels
from .class_names import check_class_names
from .class_numbers import check_class_numbers
from .ground_truth import check_ground_truth
from .maps import check_maps
from .metric_names import check_metric_names
from .parts import parts_of

__all__ = ['check_agreement']


def check_agreement(runner: Runner) -> None:
    """Compare what a run was built of, each with the others.

    Args:
        runner (Runner): With the loops that are about to run, built.

    Raises:
        UserError: Naming two that disagree, where each is said, and what to set.
    """
    parts = parts_of(runner)
    for check in (check_channels, check_class_names, check_class_numbers, check_maps, check_ground_truth,
                  check_metric_names):
        check(parts)
