"""Sockets on their way from one process to another: their numbers differ there, their cookies are the same."""

import socket
from typing import Final

_SO_COOKIE: Final = 57
"""See socket(7) of Linux; the module `socket` does not name it."""


def cookie_of(descriptor: int) -> int:
    """The kernel's name of a descriptor's socket, the same in each process that has it. Raises `OSError`."""
    sock = socket.socket(fileno=descriptor)
    try:
        return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")
    finally:
        sock.detach()
