"""Output that nobody reads any more: `coma-mm … | head -1` closes the pipe."""
import io
import os
import select
import sys
from contextlib import suppress

CLOSED = 141
"""The exit code that shells give to a program which ended with its pipe: 128 + SIGPIPE."""


class _Lasting(io.FileIO):
    """A file that takes what is written although its reader has gone, or, once others have failed, although it is full."""
    passed_over: type[OSError] = BrokenPipeError

    def write(self, data: bytes) -> int:
        """Write, or pass over."""
        try:
            return super().write(data)
        except self.passed_over:
            _discard(self.fileno())
            return len(data)


def outlive_readers() -> None:
    """Go on when the reader of standard output or error has gone: a training's log file has all of it."""
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        if stream is None or stream is not getattr(sys, f'__{name}__'):  # a notebook's or a test's
            continue
        stream.flush()
        lasting = _Lasting(stream.fileno(), 'wb', closefd=False)
        lasting = lasting if stream.write_through else io.BufferedWriter(lasting)
        setattr(sys, name, io.TextIOWrapper(lasting, stream.encoding, stream.errors, line_buffering=stream.line_buffering,
                                            write_through=stream.write_through))


def flush(passed_over: type[OSError] = BrokenPipeError) -> None:
    """Print what is still to be printed; where nobody reads it, Python would fail at its very end.

    Args:
        passed_over (type[OSError]): What else than printing it may come of it. Defaults to a reader who has gone.
    """
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except passed_over:
            with suppress(OSError):
                _discard(stream.fileno())


def let_go() -> None:
    """Print what is still to be printed, and from now on pass over what a full disk does not take: the end is to be said."""
    flush(OSError)
    _Lasting.passed_over = OSError
    outlive_readers()


def reader_is_gone() -> bool:
    """Whether standard output or error is a pipe whose other end is closed."""
    poll = select.poll()
    for number in (1, 2):
        poll.register(number, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def say(line: str) -> None:
    """Print a line on standard error, if somebody reads it."""
    with suppress(BrokenPipeError):
        print(line, file=sys.stderr)


def _discard(number: int) -> None:
    """Send all that is written to a file descriptor nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
