"""Client addresses, and how many connections each may have (`gateway.max_connections_per_address`).

An address is what one customer has: all of IPv4, the first 64 bits of IPv6. Counted are connections whose WebSocket
handshake is not done yet, too. An address without connections has no entry, so the table is never larger than the
number of connections. Pure, but for a line in the log.
"""

from ipaddress import IPv6Address, ip_address
from typing import Final

import structlog

from server.runtime.metrics import Metrics
from server.runtime.sparse import Sparse

log = structlog.get_logger(__name__)

_PREFIX: Final = (2**64 - 1) << 64


class AddressLimit:
    """Connections by address. `most` of each; 0: no limit, and nothing is counted."""

    def __init__(self, most: int, metrics: Metrics) -> None:
        self._most, self._metrics, self._sparse = most, metrics, Sparse()
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """The number of addresses that are known."""
        return len(self._counts)

    def enter(self, remote: str) -> str | None:
        """Count a connection from `remote`. Returns the word to `leave` with, empty where it does not count (no limit,
        no address); None: it is refused."""
        if not self._most or not remote:
            return ""
        address = prefix(remote)
        count = self._counts.get(address, 0)
        if count >= self._most:
            self._metrics.connections_refused_by_address_total += 1
            if (more := self._sparse.passes()) is not None:
                log.warning("too many connections from one address", address=address, most=self._most, **more)
            return None
        self._counts[address] = count + 1
        return address

    def leave(self, address: str) -> None:
        """Count a connection no more that `enter` gave `address` for."""
        if address:
            count = self._counts[address] - 1
            if count:
                self._counts[address] = count
            else:
                del self._counts[address]


def prefix(remote: str) -> str:
    """The part of an address that one customer has. `remote` may have a port behind it, as `Client` is written; each
    connection comes from another one. A text that is no address is itself."""
    text = remote
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else str(IPv6Address(int(address) & _PREFIX))
    return str(address)
