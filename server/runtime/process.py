"""This process as the system sees it."""

import os
from typing import Final

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not tell."""
    return _pages()[0] * _PAGE_BYTES


def own_bytes() -> int:
    """Resident memory that is this process's alone: no program text, no mapped files, no shared memory; 0 where the
    system does not tell."""
    resident, shared = _pages()
    return (resident - shared) * _PAGE_BYTES


def _pages() -> tuple[int, int]:
    """Resident pages, and those of them that are shared or of a file."""
    try:
        with open("/proc/self/statm", "rb") as file:
            _, resident, shared, *_ = map(int, file.read().split())
            return resident, shared
    except (OSError, ValueError):
        return 0, 0
