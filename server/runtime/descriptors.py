"""File descriptors: a process has a limited number of them, and each connection, file and link is one."""

import errno
import os
import resource
from typing import Final

_NONE_FREE: Final = frozenset({errno.EMFILE, errno.ENFILE})


def shortage() -> str:
    """A sentence for people if no descriptor is free: connections are cut as they come then, without a word, and files
    cannot be opened. Empty else."""
    try:
        os.close(os.dup(2))
    except OSError as error:
        if error.errno in _NONE_FREE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return f"no file descriptor is free (the limit is {limit:,}): no connection is taken, raise `ulimit -n`"
    return ""
