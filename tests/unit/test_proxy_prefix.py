"""The PROXY prefix as HAProxy's specification has it: what is good, what is bad, and that nothing else happens."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.runtime.proxy_prefix import MAX_BYTES, BadPrefix, Prefix, begins_like_prefix, read_prefix
from tests.support.prefixes import SIGNATURE, extension, local, version_1, version_2

TLVS = extension(0x01, b"h2") + extension(0x20, bytes(5)) + extension(0xEA, b"\x01vpce-08d2bf15fac5001c9")


def binary(command: int, family: int, body: bytes, size: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body) if size is None else size) + body


GOOD: dict[str, tuple[bytes, tuple[str, int] | None]] = {
    "1: IPv4": (version_1("192.0.2.7", 56324), ("192.0.2.7", 56324)),
    "1: the longest of IPv4": (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", ("255.255.255.255", 65535)
    ),
    "1: IPv6": (version_1("2001:db8::7", 1), ("2001:db8::7", 1)),
    "1: IPv6, long and in capitals": (
        version_1("2001:0DB8:0000:0000:0000:0000:0000:0007", 65535, "ffff:" * 7 + "ffff", 65535),
        ("2001:db8::7", 65535),
    ),
    "1: IPv4 within IPv6": (version_1("::ffff:192.0.2.7", 9), ("192.0.2.7", 9)),
    "1: unknown": (b"PROXY UNKNOWN\r\n", None),
    "1: unknown, the longest": (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b"x") + b"\r\n", None
    ),
    "2: IPv4": (version_2("192.0.2.7", 56324), ("192.0.2.7", 56324)),
    "2: IPv6": (version_2("2001:db8::7", 7), ("2001:db8::7", 7)),
    "2: IPv4 within IPv6": (version_2("::ffff:192.0.2.7", 7), ("192.0.2.7", 7)),
    "2: extensions are passed over": (version_2("192.0.2.7", 56324, TLVS), ("192.0.2.7", 56324)),
    "2: as long as can be": (version_2("192.0.2.7", 1, bytes(MAX_BYTES - 28)), ("192.0.2.7", 1)),
    "2: local": (local(), None),
    "2: local with extensions": (local(TLVS), None),
    "2: local, whatever the family": (binary(0x20, 0x77, b"abc"), None),
    "2: unspecified family": (binary(0x21, 0x00, b""), None),
    "2: datagrams": (binary(0x21, 0x12, bytes(12)), None),
    "2: a path": (binary(0x21, 0x31, bytes(216)), None),
}  # fmt: skip
BAD: dict[str, bytes] = {
    "1: no line end in 107 bytes": b"PROXY UNKNOWN ".ljust(107, b"x"),
    "1: a line end behind them": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "1: another word": b"PROXY TCP5 192.0.2.7 10.0.0.9 1 2\r\n",
    "1: in small letters": b"PROXY tcp4 192.0.2.7 10.0.0.9 1 2\r\n",
    "1: no space": b"PROXYTCP4 192.0.2.7 10.0.0.9 1 2\r\n",
    "1: nothing": b"PROXY\r\n",
    "1: nothing behind a space": b"PROXY \r\n",
    "1: two spaces": b"PROXY TCP4  192.0.2.7 10.0.0.9 1 2\r\n",
    "1: a tab": b"PROXY TCP4\t192.0.2.7 10.0.0.9 1 2\r\n",
    "1: a word more": b"PROXY TCP4 192.0.2.7 10.0.0.9 1 2 3\r\n",
    "1: a word less": b"PROXY TCP4 192.0.2.7 10.0.0.9 1\r\n",
    "1: a space at the end": b"PROXY TCP4 192.0.2.7 10.0.0.9 1 2 \r\n",
    "1: IPv6 as IPv4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "1: IPv4 as IPv6": b"PROXY TCP6 192.0.2.7 10.0.0.9 1 2\r\n",
    "1: leading zeros of an address": b"PROXY TCP4 192.0.02.7 10.0.0.9 1 2\r\n",
    "1: an address past 255": b"PROXY TCP4 192.0.2.256 10.0.0.9 1 2\r\n",
    "1: a short address": b"PROXY TCP4 192.2 10.0.0.9 1 2\r\n",
    "1: a zone": b"PROXY TCP6 fe80::1%eth0 fd00::9 1 2\r\n",
    "1: a name": b"PROXY TCP4 play.example 10.0.0.9 1 2\r\n",
    "1: a bad destination": b"PROXY TCP4 192.0.2.7 10.0.0 1 2\r\n",
    "1: a port with a zero before it": b"PROXY TCP4 192.0.2.7 10.0.0.9 01 2\r\n",
    "1: a port past 65535": b"PROXY TCP4 192.0.2.7 10.0.0.9 65536 2\r\n",
    "1: a negative port": b"PROXY TCP4 192.0.2.7 10.0.0.9 -1 2\r\n",
    "1: a port of other digits": "PROXY TCP4 192.0.2.7 10.0.0.9 \u0661 2\r\n".encode(),
    "1: a bad second port": b"PROXY TCP4 192.0.2.7 10.0.0.9 1 x\r\n",
    "1: a bare line feed": b"PROXY TCP4 192.0.2.7 10.0.0.9 1 2\n\r\n",
    "1: no ASCII": b"PROXY TCP4 192.0.2.\xff 10.0.0.9 1 2\r\n",
    "2: a signature that breaks off": SIGNATURE[:8] + b"X",
    "2: version 1": binary(0x11, 0x11, bytes(12)),
    "2: version 3": binary(0x31, 0x11, bytes(12)),
    "2: another command": binary(0x22, 0x11, bytes(12)),
    "2: another family": binary(0x21, 0x41, bytes(12)),
    "2: another protocol": binary(0x21, 0x13, bytes(12)),
    "2: too short for IPv4": binary(0x21, 0x11, bytes(11)),
    "2: too short for IPv6": binary(0x21, 0x21, bytes(35)),
    "2: too short for paths": binary(0x21, 0x31, bytes(215)),
    "2: too long, told at once": binary(0x21, 0x11, b"", MAX_BYTES - 15),
    "2: 64 KiB": binary(0x20, 0x00, b"", 65535),
}
ABSENT = [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00", b"PUT /", b"PROXO", b"\r\n\r\nX", b"\x00", b"proxy", b"\r\nG"]
REST = b"\x16\x03\x01 or GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize("what", GOOD)
def test_a_good_prefix_names_its_client_and_its_length(what: str) -> None:
    prefix, source = GOOD[what]
    assert read_prefix(prefix + REST) == read_prefix(prefix) == Prefix(len(prefix), source)
    for cut in range(len(prefix)):
        assert read_prefix(prefix[:cut]) == "incomplete", cut


@pytest.mark.parametrize("what", BAD)
def test_a_bad_prefix_is_refused(what: str) -> None:
    assert isinstance(read_prefix(BAD[what]), BadPrefix)
    assert isinstance(read_prefix(BAD[what] + REST), BadPrefix)
    assert begins_like_prefix(BAD[what])


@pytest.mark.parametrize("data", ABSENT)
def test_other_beginnings_are_left_alone(data: bytes) -> None:
    assert read_prefix(data) == "absent"
    assert not begins_like_prefix(data)


ADDRESSES = st.ip_addresses()
PORTS = st.integers(0, 65_535)
HINTS = st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\x00"])


@given(address=ADDRESSES, port=PORTS, more=st.binary(max_size=600), rest=st.binary(max_size=60))
def test_prefix_of_either_version_is_read_as_it_was_written(
    address: object, port: int, more: bytes, rest: bytes
) -> None:
    for prefix in (version_1(str(address), port), version_2(str(address), port, more)):
        verdict = read_prefix(prefix + rest)
        assert isinstance(verdict, Prefix) and verdict.length == len(prefix) and verdict.source is not None
        assert verdict.source[1] == port
        assert verdict.source[0] in (str(address), str(getattr(address, "ipv4_mapped", None)))


@given(data=st.tuples(HINTS, st.binary(max_size=400)).map(b"".join), cut=st.integers(0, 400))
def test_a_verdict_stands_whatever_comes_behind_and_waits_within_bounds(data: bytes, cut: int) -> None:
    """Fuzzed: any bytes have a verdict, more bytes do not change one, and no wait is without an end."""
    early, late = read_prefix(data[:cut]), read_prefix(data)
    if early != "incomplete":
        assert early == late
    assert read_prefix(data.ljust(MAX_BYTES, b"\x00")) != "incomplete"
    if isinstance(late, Prefix):
        assert late.length <= min(len(data), MAX_BYTES)


@given(prefix=st.one_of(st.just(version_1("192.0.2.7", 80)), st.just(version_2("192.0.2.7", 80))), data=st.data())
def test_a_damaged_prefix_never_passes_for_plain_bytes(prefix: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(5, len(prefix) - 1))
    damaged = prefix[:at] + bytes([data.draw(st.integers(0, 255))]) + prefix[at + 1 :]
    assert read_prefix(damaged) != "absent"
