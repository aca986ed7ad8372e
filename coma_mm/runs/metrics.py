"""Which metric a run is judged by, and how it went."""
from collections.abc import Mapping, Sequence

HIGHER_IS_BETTER = {'coco/segm_mAP': True, 'coco/bbox_mAP': True, 'mIoU': True, 'accuracy/top1': True,
                    'reconstruction/masked': False}
"""The metric that stands for others of its evaluation, in order, and whether more of it is better."""
GREATER, LESS = ('acc', 'top', 'AR@', 'auc', 'precision', 'mAP', 'mDice', 'mIoU', 'mAcc', 'aAcc'), ('loss', )
"""What is in the name of a metric of which mmengine takes more, or less, for better."""
NOT_METRICS = ('step', 'logged_step', 'data_time', 'time', 'memory', 'epoch', 'iter')
"""What an entry of a validation says besides its metrics."""


def main_metric(names: Sequence[str], chosen: Mapping[str, bool] | None = None) -> tuple[str | None, bool | None]:
    """The metric that a validation is judged by.

    Args:
        names (Sequence[str]): Those of its metrics that are numbers.
        chosen (Mapping[str, bool], optional): Those that the run's best checkpoint is chosen by, which come first, and
            whether more of them is better. Defaults to none; then it is one of `HIGHER_IS_BETTER`, else the first whose name
            mmengine knows, else the first that is no probe of features.

    Returns:
        tuple[str | None, bool | None]: Its name, None if there is none; and whether more of it is better, None if nobody
        knows.
    """
    known = dict(chosen or {}) | HIGHER_IS_BETTER
    for keys, higher in ((GREATER, True), (LESS, False)):
        known |= {name: higher for name in names if name not in known and any(key in name for key in keys)}
    unknown = (name for name in names if not name.startswith('probe/'))  # which a run has before it has validated
    return next(((name, higher) for name, higher in known.items() if name in names), (next(unknown, None), None))
