#!/usr/bin/env python
"""torchrun, ending with the exit code of the tool that it starts, and passing on the signals that stop a run well."""
import os
import sys
import tempfile
from pathlib import Path

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.errors import EXIT_STOPPED  # noqa: E402


def main():
    """Run torchrun with the command line's arguments."""
    with tempfile.NamedTemporaryFile('r') as note:
        os.environ['COMA_MM_EXIT_CODE'] = note.name  # written by coma_mm.commands
        # Else processes that are started again find the addresses of those that died, and wait for them.
        os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
        try:
            # A run that is told to stop saves first; torchrun's own 30 s are short for that. (When a process dies it keeps
            # to them: those that hang in an exchange with the dead one have nothing to save.)
            run.main(['--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1', '--shutdown-timeout=300', *sys.argv[1:]])
        except (ChildFailedError, SignalException) as error:
            code = note.readline()
            if not code and isinstance(error, SignalException):  # before the tool was ready to stop
                code = EXIT_STOPPED
            if not code:
                raise
            sys.exit(int(code))


if __name__ == '__main__':
    main()
