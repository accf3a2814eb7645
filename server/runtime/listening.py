"""Listening sockets of servers: a host in the settings means the same on every TCP port of a node.

`0.0.0.0` is every interface by IPv4; `::`, and an empty text, every interface by IPv6 and IPv4 (by IPv4 alone where the
machine has no IPv6). A name is listened on at each address that it has. None of the first three is an address that
others could be told.
"""

import errno
import socket
from typing import Final

EVERY: Final = frozenset({"", "::", "0.0.0.0"})
"""Hosts that mean every interface, and so are nobody's address."""
_ATTEMPTS: Final = 8


def is_every(host: str) -> bool:
    """Whether `host` means every interface, in whatever spelling."""
    name = host.strip("[]")
    if name in EVERY:
        return True
    try:
        return not any(socket.inet_pton(socket.AF_INET6 if ":" in name else socket.AF_INET, name))
    except OSError:
        return False


def url_host(host: str) -> str:
    """A host as it stands in a URL: IPv6 in brackets, whether or not it has them already."""
    name = host.strip("[]")
    return f"[{name}]" if ":" in name else name


def dialled_host(host: str) -> str:
    """The host, as it stands in a URL, at which a server that listens on `host` is reached from this machine."""
    name = host.strip("[]")
    if not is_every(name):
        return url_host(name)
    return "127.0.0.1" if name in EVERY else "[::1]"


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen on `host` and `port`, all on one port also where that is 0. Raises `OSError`."""
    for attempt in range(_ATTEMPTS):
        try:
            return _listen(host, port, backlog)
        except OSError as error:  # a free port was free on the first address only
            if port or error.errno != errno.EADDRINUSE or attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def _listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    if host.strip("[]") in ("", "::"):
        try:
            return [_bound(socket.AF_INET6, ("::", port), backlog, both=True)]
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT):
                raise
            host = "0.0.0.0"
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    refused: OSError | None = None
    try:
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            place = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
            try:
                sockets.append(_bound(family, place, backlog, both=False))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:  # a name's IPv6 address, where there is no IPv6
                    raise
                refused = error
        if not sockets and refused is not None:
            raise refused
    except OSError:
        for made in sockets:
            made.close()
        raise
    return sockets


def _bound(family: int, place: tuple[object, ...], backlog: int, both: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        made.bind(place)
        made.listen(backlog)  # a bound port is only really held by a listener
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
