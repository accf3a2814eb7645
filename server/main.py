"""The program `garrison`: runs the command that its arguments name, and ends the process. Nobody imports it;
processes of a local cluster are started as `python -m server.main`."""

import os
import signal
import sys

from server.runtime.loading import load_structlog, no_collection


def main() -> None:
    """The script `garrison`."""
    heeds = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeds:  # before there is a command, Ctrl-C ends the process without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    with no_collection():
        load_structlog()
        from server.cli.app import run
    if heeds:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    if "kinship" in sys.modules:  # its threads can crash an interpreter that is being taken down
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
