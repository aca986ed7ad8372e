"""Work of the main process that all processes of a run wait for."""
from collections.abc import Callable
from typing import TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from coma_mm.errors import SharedError

Result = TypeVar('Result')


def from_main_process(job: Callable[[], Result]) -> Result:
    """Do a job on the main process, and hand what it gives to all; if it fails all of them end, instead of waiting for it.

    Args:
        job (Callable): Takes nothing; its result is pickled.

    Returns:
        Any: What the job gave, on every process.

    Raises:
        Exception: The job's own one, on the main process.
        SharedError: The same in words, on the others.
    """
    result, failed = [None, None], None
    if is_main_process():
        try:
            result[0] = job()
        except Exception as error:
            failed, result[1] = error, str(error) or type(error).__name__
    broadcast_object_list(result)
    if failed is not None:
        raise failed
    if result[1] is not None:
        raise SharedError(result[1])
    return result[0]
