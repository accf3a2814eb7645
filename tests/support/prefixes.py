"""PROXY prefixes as proxies write them (HAProxy's PROXY protocol, 2.1 and 2.2)."""

import struct
from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def version_1(source: str, port: int, to: str = "", to_port: int = 7350) -> bytes:
    family = ip_address(source).version
    to = to or {4: "10.0.0.9", 6: "fd00::9"}[family]
    return f"PROXY TCP{family} {source} {to} {port} {to_port}\r\n".encode()


def version_2(source: str, port: int, more: bytes = b"") -> bytes:
    """`more`: extensions (TLVs) behind the addresses."""
    address = ip_address(source)
    ports = struct.pack("!HH", port, 7350)
    body = address.packed + bytes(len(address.packed)) + ports + more
    family = 0x11 if address.version == 4 else 0x21
    return SIGNATURE + struct.pack("!BBH", 0x21, family, len(body)) + body


def local(more: bytes = b"") -> bytes:
    """A proxy that speaks for itself: a health check."""
    return SIGNATURE + struct.pack("!BBH", 0x20, 0x00, len(more)) + more


def extension(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value
