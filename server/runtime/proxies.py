"""Trusted proxies: from which addresses it is believed who the client is, and which client is meant. Pure.

A proxy that is trusted may say the client's address in two ways: by a PROXY prefix on the connection
(`proxy_prefix.py`), and by headers of a request (`Forwarded`, RFC 7239, or `X-Forwarded-For`). Headers are read from
the right: each proxy adds the address that it was asked from, so the first address from the right that is no trusted
proxy is the last one that somebody trusted has vouched for. All further left may be the client's own invention.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec

MAX_HOPS: Final = 32
"""Addresses of a header that are looked at, from its right end."""
_PAIR: Final = re.compile(r"""([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=("[^"\\]*"|[^\s"]*)""")
_WITH_PORT: Final = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::(\d{1,5}))?")


class Client(msgspec.Struct, frozen=True):
    """The other end of a connection or of a request. `port` is 0 where it is not known.
    `scheme`: how the client came to the proxy, as the proxy says; empty if it does not."""

    address: str
    port: int = 0
    scheme: str = ""

    def __str__(self) -> str:
        """`address:port`, IPv6 in brackets; the address alone where the port is not known."""
        if not self.port:
            return self.address
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Via(msgspec.Struct, frozen=True):
    """The headers of a request in which proxies say for whom they ask: all lines of each, in their order."""

    forwarded: Sequence[str] = ()
    forwarded_for: Sequence[str] = ()
    forwarded_proto: Sequence[str] = ()


class Hop(msgspec.Struct, frozen=True):
    """A step of the way, as a header tells it: who asked (None: hidden, or no address), and by which scheme."""

    client: Client | None
    scheme: str = ""


class TrustedProxies:
    """Networks whose proxies are believed. Raises `ValueError` for a text that is no network."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks: tuple[IPv4Network | IPv6Network, ...] = tuple(ip_network(text) for text in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def __contains__(self, text: str) -> bool:
        if not self._networks:
            return False
        try:
            address = ip_address(plain_address(text))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client(self, peer: Client, via: Via) -> Client:
        """The client of a request that came from `peer` with the headers `via`. Two headers that name different
        clients are both not believed: one of them is the client's own, passed on by a proxy that writes the other."""
        if peer.address not in self:
            return peer
        told = [_hops(via.forwarded)] if via.forwarded else []
        if via.forwarded_for:
            scheme = _last(via.forwarded_proto)
            told.append([Hop(_client(text), scheme) for text in _listed(via.forwarded_for)])
        found = {self._walk(peer, hops) for hops in told}
        if len({client.address for client in found}) > 1:
            return peer
        if not found:
            return msgspec.structs.replace(peer, scheme=_last(via.forwarded_proto))
        return max(found, key=lambda client: (bool(client.scheme), client.port))

    def _walk(self, peer: Client, hops: Sequence[Hop]) -> Client:
        """The first address from the right that is no trusted proxy; the leftmost, if all are."""
        client = peer
        for hop in reversed(hops[-MAX_HOPS:]):
            if hop.client is None:
                break
            client = msgspec.structs.replace(hop.client, scheme=hop.scheme)
            if client.address not in self:
                break
        return client


NO_PROXIES: Final = TrustedProxies()


def plain_address(address: str) -> str:
    """An address as it is compared: without a zone, and that of IPv4 within IPv6 as one of IPv4."""
    text = address.partition("%")[0]
    if not text.lower().startswith("::ffff:"):
        return text
    try:
        return str(IPv6Address(text).ipv4_mapped or text)
    except ValueError:
        return text


def peer_of(peername: object) -> Client:
    """The other end of a socket, from what the socket says of it."""
    if isinstance(peername, tuple) and len(peername) >= 2:
        return Client(plain_address(str(peername[0])), int(peername[1]))
    return Client("")


# ---- headers ----


def _listed(lines: Iterable[str]) -> list[str]:
    return [part for line in lines for part in (piece.strip(" \t") for piece in line.split(",")) if part]


def _last(lines: Sequence[str]) -> str:
    listed = _listed(lines)
    return _scheme(listed[-1]) if listed else ""


def _scheme(text: str) -> str:
    return text.lower() if text.lower() in ("http", "https", "ws", "wss") else ""


def _client(text: str) -> Client | None:
    """The address of `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`."""
    name, port = text, 0
    if text.count(":") < 2 or text.startswith("["):
        parts = _WITH_PORT.fullmatch(text)
        if parts is None:
            return None
        name, port = parts[1] or parts[2] or "", int(parts[3] or 0)
        if (parts[1] is not None) != (":" in name) or port > 65_535:
            return None
    try:
        address: IPv4Address | IPv6Address = ip_address(plain_address(name))
    except ValueError:
        return None
    return Client(str(address), port)


def _hops(lines: Sequence[str]) -> list[Hop]:
    """The elements of `Forwarded`. Commas and semicolons separate also within quotes: no proxy writes such ones, and a
    quote that a client has left open must not swallow what a proxy has added behind it."""
    return [_hop(element) for element in _listed(lines)]


def _hop(element: str) -> Hop:
    """A hop; hidden where it cannot be read."""
    pairs: dict[str, str] = {}
    for text in element.split(";"):
        found = _PAIR.fullmatch(text.strip(" \t"))
        if found is None or found[1].lower() in pairs:
            return Hop(None)
        pairs[found[1].lower()] = found[2].strip('"')
    return Hop(_client(pairs.get("for", "")), _scheme(pairs.get("proto", "")))
