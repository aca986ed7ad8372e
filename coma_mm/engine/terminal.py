"""Less noise on the terminal: what the libraries say in every run and nobody acts on. Log files keep it all."""
import logging
import warnings

from mmengine.logging import MMLogger

NOISE = (
    'paramwise_options -- ',  # a line for each parameter
    'Hooks will be executed in the following order',  # some sixty lines
    'Distributed training is not used, all SyncBatchNorm',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Auto resumed from the latest checkpoint None',
    'Using env variable `',  # the config that follows has the value
)
"""How the messages start that are left out."""


def is_worth_showing(record: logging.LogRecord) -> bool:
    """Whether a log record is for the terminal."""
    return record.levelno >= logging.ERROR or not record.getMessage().startswith(NOISE)


def quieten(logger: MMLogger | None = None) -> None:
    """Leave `NOISE` out of what a logger shows on the terminal, and pycocotools' progress and mmseg's advice too.

    Args:
        logger (MMLogger, optional): Defaults to the current one.
    """
    for handler in (logger or MMLogger.get_current_instance()).handlers:
        if not isinstance(handler, logging.FileHandler) and is_worth_showing not in handler.filters:
            handler.addFilter(is_worth_showing)
    # "loading annotations into memory..." and the like; the table of average precision is printed elsewhere.
    from pycocotools import coco
    coco.print = lambda *args, **kwargs: None
    warnings.filterwarnings('ignore', message='Default ``avg_non_ignore`` is False')
