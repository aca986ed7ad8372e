#!/usr/bin/env python
"""torchrun, ending with the exit code of the tool that it starts, and passing on the signals that stop a run well."""
import os
import re
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from threading import Thread

from torch.distributed import TCPStore, run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout runs without being installed

from coma_mm.errors import EXIT_STOPPED  # noqa: E402


def main():
    """Run torchrun with the command line's arguments."""
    with tempfile.NamedTemporaryFile('r') as note:
        os.environ['COMA_MM_EXIT_CODE'] = note.name  # written by coma_mm.commands
        # Else processes that are started again find the addresses of those that died, and wait for them.
        os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
        check_port(sys.argv[1:])
        try:
            # A run that is told to stop saves first; torchrun's own 30 s are short for that. (When a process dies it keeps
            # to them: those that hang in an exchange with the dead one have nothing to save.)
            run.main(['--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1', '--shutdown-timeout=300', *sys.argv[1:]])
        except (ChildFailedError, SignalException) as error:
            code = note.readline()
            if not code and isinstance(error, SignalException):  # before the tool was ready to stop
                code = EXIT_STOPPED
            if not code:
                rank, failure = error.get_first_failure()
                sys.exit(f'error: process {rank} of the run died ({_cause(failure.exitcode)}); why is above, if it could '
                         'say so, else the machine may have killed it, out of memory; a training goes on with --resume')
            sys.exit(int(code))
        except RendezvousError as error:
            sys.exit(f'error: the processes cannot meet: {" ".join(str(error).split())}; check MASTER_ADDR, PORT, NNODES '
                     'and RDZV_ID, the same on all machines, and that all of them were started')


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f'exit code {code}'


def check_port(arguments: Sequence[str], patience: float = 4.) -> None:
    """End with one line if another program has the port, for which torchrun would wait for minutes.

    A run that has it is welcome: several share one, by RDZV_ID.

    Args:
        arguments (Sequence[str]): The command line's.
        patience (float): How long the program may take to answer as a run does, in s. Defaults to 4.
    """
    endpoint = re.search(r'--rdzv-endpoint=(\S+):(\d+)', ' '.join(arguments))
    host, port = (endpoint[1], int(endpoint[2])) if endpoint else ('', 0)
    if not port or host not in ('localhost', '127.0.0.1') and '--rdzv-conf=is_host=1' not in arguments:
        return  # of another machine only torchrun knows when it is ready
    try:
        socket.create_connection((host, port), patience).close()
    except OSError:  # nobody is there
        return
    answered = []

    def ask() -> None:  # which does not keep to its timeout where the answer is a foreign one
        with suppress(RuntimeError):
            TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=patience))
            answered.append(True)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(patience)
    if not answered:
        print(f'error: another program has the port {port}: choose another PORT, or on one machine none', file=sys.stderr)
        sys.stderr.flush()
        os._exit(2)  # the thread may never end


if __name__ == '__main__':
    main()
