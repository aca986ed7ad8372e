"""Less noise on the terminal: what the libraries say in every run and nobody acts on. Log files keep it all."""
import logging
import warnings

from mmengine.logging import MMLogger

from coma_mm.notices import hold

NOISE = (
    '\n------------------------------------------------------------\nSystem environment:',  # some forty lines
    'Config:\n',  # some hundreds
    'paramwise_options -- ',  # a line for each parameter
    'Hooks will be executed in the following order',  # some sixty lines
    'Distributed training is not used, all SyncBatchNorm',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Auto resumed from the latest checkpoint None',
    'Using env variable `',  # the config has the value
    'Checkpoints will be saved to ',  # the first lines say where a run writes
    'Exp name: ',  # at every epoch
    '`resume_param_scheduler` is True but `self.param_schedulers` is None',  # the learning rate is constant
    'Load checkpoint from ',  # a line of ours says what of it was loaded
    'The prefix is not set in metric class',  # which is so in mmsegmentation
)
"""How the messages start that are left out."""

verbose = False
"""Whether the terminal shows what the log file has: `--verbose`."""


def is_worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record is for the terminal now; a warning may be held back until a run has started."""
    if verbose or record.levelno >= logging.ERROR:
        return True
    message = record.getMessage()
    return not message.startswith(NOISE) and not (record.levelno == logging.WARNING and hold(message))


def quieten(logger: MMLogger | None = None) -> None:
    """Leave `NOISE` out of what a logger shows on the terminal, and pycocotools' progress and mmseg's advice too.

    Nothing is left out if the terminal is `verbose`.

    Args:
        logger (MMLogger, optional): Defaults to the current one.
    """
    if verbose:
        return
    for handler in (logger or MMLogger.get_current_instance()).handlers:
        if not isinstance(handler, logging.FileHandler) and is_worth_showing not in handler.filters:
            handler.addFilter(is_worth_showing)
    # "loading annotations into memory..." and the like; the table of average precision is printed elsewhere.
    from pycocotools import coco
    coco.print = lambda *args, **kwargs: None
    for advice in ('Default ``avg_non_ignore`` is False', '`broadcast_buffers` is deprecated'):
        warnings.filterwarnings('ignore', message=advice)
