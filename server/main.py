"""The program `garrison`: runs the command that its arguments name, and ends the process. Nobody imports it;
processes of a local cluster are started as `python -m server.main`."""

import os
import sys

from server.runtime.loading import load_structlog, no_collection


def main() -> None:
    """The script `garrison`."""
    with no_collection():
        load_structlog()
        from server.cli.app import run
    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    if "kinship" in sys.modules:  # its threads can crash an interpreter that is being taken down
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
