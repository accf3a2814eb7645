"""The PROXY prefix (HAProxy's PROXY protocol, versions 1 and 2): the address of a client, said by a proxy before the
first byte of the client. Pure: bytes in, a verdict out.

Strict, as the specification asks of a receiver: a prefix that has anything wrong with it is no prefix that may be
passed over. It says how long it is, so what comes behind it (TLS, HTTP) is left as it is.
"""

import struct
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Literal

import msgspec

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
"""Beginning of version 2."""
WORD: Final = b"PROXY"
"""Beginning of version 1."""
MAX_LINE_BYTES: Final = 107
"""The longest prefix of version 1, its line end included."""
MAX_BYTES: Final = 4096
"""The longest prefix that is taken. Version 2 could announce 64 KiB; proxies add some hundred bytes."""
_MARK: Final = 5
"""Bytes after which a beginning is known for a prefix: no HTTP request and no TLS handshake begins with them."""
_FIXED_BYTES: Final = 16
_FAMILIES: Final = {0x00: 0, 0x11: 12, 0x12: 12, 0x21: 36, 0x22: 36, 0x31: 216, 0x32: 216}
"""Families and protocols of version 2 with the bytes that their addresses take."""
_TCP4: Final = 0x11
_TCP6: Final = 0x21

Source = tuple[str, int]
"""Address and port of a client."""


class Prefix(msgspec.Struct, frozen=True):
    """A good prefix of `length` bytes. `source` is None where the connection's own addresses count: the proxy speaks
    for itself (`LOCAL`, as for a health check), or does not know (`UNKNOWN`), or the client did not come by TCP."""

    length: int
    source: Source | None


class BadPrefix(msgspec.Struct, frozen=True):
    """A prefix that must not be believed; `why` is for people."""

    why: str


Verdict = Prefix | BadPrefix | Literal["absent", "incomplete"]


def begins_like_prefix(data: bytes | bytearray) -> bool:
    """Whether `data` can only be the beginning of a prefix, good or bad."""
    return data[:_MARK] in (WORD, SIGNATURE[:_MARK])


def read_prefix(data: bytes) -> Verdict:
    """The verdict on the beginning of a connection. `incomplete`: more bytes may make it a prefix."""
    if not begins_like_prefix(data):
        short = len(data) < _MARK and (WORD.startswith(data) or SIGNATURE.startswith(data))
        return "incomplete" if short else "absent"
    return _version_1(data) if data[:_MARK] == WORD else _version_2(data)


# ---- version 1: a line of text ----


def _version_1(data: bytes) -> Verdict:
    end = data.find(b"\r\n", 0, MAX_LINE_BYTES)
    if end < 0:
        if len(data) >= MAX_LINE_BYTES:
            return BadPrefix(f"a line of more than {MAX_LINE_BYTES} bytes")
        return "incomplete"
    words = data[:end].split(b" ")
    length = end + 2
    if words[:2] == [WORD, b"UNKNOWN"]:
        return Prefix(length, None)
    if len(words) != 6 or words[0] != WORD or words[1] not in (b"TCP4", b"TCP6"):
        return BadPrefix("no line of version 1")
    try:
        kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
        source, _ = (_plain(kind(_address_text(word))) for word in words[2:4])
        port, _ = (_port(word) for word in words[4:6])
    except ValueError:  # also of text that is not ASCII, and of addresses
        return BadPrefix("an address or a port that is none")
    return Prefix(length, (source, port))


def _address_text(word: bytes) -> str:
    text = word.decode("ascii")
    if "%" in text:
        raise AddressValueError("a zone is no part of an address here")
    return text


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 65_535:
        raise ValueError("no port")
    return int(word)


# ---- version 2: binary ----


def _version_2(data: bytes) -> Verdict:
    if not SIGNATURE.startswith(data[: len(SIGNATURE)]):
        return BadPrefix("a signature that is nearly that of version 2")
    if len(data) < _FIXED_BYTES:
        return "incomplete"
    version, command = data[12] >> 4, data[12] & 0x0F
    family, size = data[13], int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        return BadPrefix(f"version {version}, command {command}")
    if _FIXED_BYTES + size > MAX_BYTES:
        return BadPrefix(f"{_FIXED_BYTES + size} bytes; at most {MAX_BYTES} are taken")
    if command and family not in _FAMILIES:
        return BadPrefix(f"family and protocol {family:#04x}")
    if command and size < _FAMILIES[family]:
        return BadPrefix(f"{size} bytes are too few for its addresses")
    if len(data) < _FIXED_BYTES + size:
        return "incomplete"
    source: Source | None = None
    if command and family == _TCP4:
        address, port = struct.unpack_from("!4s4xH", data, _FIXED_BYTES)
        source = str(IPv4Address(address)), port
    elif command and family == _TCP6:
        address, port = struct.unpack_from("!16s16xH", data, _FIXED_BYTES)
        source = _plain(IPv6Address(address)), port
    return Prefix(_FIXED_BYTES + size, source)


def _plain(address: IPv4Address | IPv6Address) -> str:
    """An address as it is shown and compared: that of IPv4 within IPv6 is one of IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
