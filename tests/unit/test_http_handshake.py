"""The opening handshake, as RFC 6455 (4.2) has it: what is accepted, and the HTTP answer to everything else."""

import pytest

from server.sessions.door import FrameGauge
from server.sessions.http_handshake import MAX_HEADERS, Handshake, Refusal, judge

GOOD = {
    "Host": "play.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Protocol": "garrison.v1.msgpack",
}


def head(line: str = "GET / HTTP/1.1", *more: str, **changes: str | None) -> bytes:
    """A request's head: the good headers with some changed (underscores stand for hyphens; None leaves one out)."""
    headers: dict[str, str | None] = {**GOOD, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([line, *lines, *more]).encode("latin-1")


ACCEPTED = {
    "plain": head(),
    "F11: as Firefox sends it": head(Connection="keep-alive, Upgrade"),
    "F11: in any case, with spaces": head(Connection="Keep-Alive ,\tUPGRADE", Upgrade="WebSocket"),
    "F11: over two lines": head("GET / HTTP/1.1", "Connection: Upgrade", Connection="keep-alive"),
    "F11: empty members": head(Connection=", ,upgrade,"),
    "F11: a choice of protocols": head(Upgrade="h2c, websocket"),
    "header names in any case": head("GET / HTTP/1.1", "UPGRADE: websocket", Upgrade=None),
    "a path and a query": head("GET /play?x=1 HTTP/1.1"),
    "a body of nothing": head(Content_Length="0"),
    "latin-1 in a cookie": head(Cookie="name=\xe9"),
    "128 headers": head("GET / HTTP/1.1", *[f"X-{number}: 1" for number in range(MAX_HEADERS - len(GOOD))]),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_a_handshake_is_accepted(what: str) -> None:
    assert judge(ACCEPTED[what]) == Handshake(GOOD["Sec-WebSocket-Key"], "garrison.v1.msgpack", "msgpack")


def test_the_first_known_subprotocol_of_a_list_over_lines_is_taken() -> None:
    offered = head("GET / HTTP/1.1", "Sec-WebSocket-Protocol: garrison.v1.json", Sec_WebSocket_Protocol="chat, x")
    assert judge(offered) == Handshake(GOOD["Sec-WebSocket-Key"], "garrison.v1.json", "json")


REFUSED: dict[str, tuple[bytes, int]] = {
    "F25: version 8": (head(Sec_WebSocket_Version="8"), 426),
    "F25: version 7": (head(Sec_WebSocket_Version="7"), 426),
    "F25: several versions": (head(Sec_WebSocket_Version="13, 8"), 426),
    "F25: no version": (head(Sec_WebSocket_Version=None), 426),
    "no websocket": (head(Upgrade=None), 426),
    "another protocol": (head(Upgrade="h2c"), 426),
    "F11: no upgrade in connection": (head(Connection="keep-alive"), 400),
    "F11: a word that contains upgrade": (head(Connection="no-upgrade"), 400),
    "no connection header": (head(Connection=None), 400),
    "no key": (head(Sec_WebSocket_Key=None), 400),
    "a short key": (head(Sec_WebSocket_Key="c2hvcnQ="), 400),
    "a key that is no base64": (head(Sec_WebSocket_Key="!" * 24), 400),
    "a key beyond ascii": (head(Sec_WebSocket_Key="\xe9" * 24), 400),
    "two keys": (head("GET / HTTP/1.1", "sec-websocket-key: " + GOOD["Sec-WebSocket-Key"]), 400),
    "no subprotocol": (head(Sec_WebSocket_Protocol=None), 400),
    "an unknown subprotocol": (head(Sec_WebSocket_Protocol="garrison.v2.json"), 400),
    "a body": (head(Content_Length="5"), 400),
    "a chunked body": (head(Transfer_Encoding="chunked"), 400),
    "POST": (head("POST / HTTP/1.1"), 405),
    "HTTP/1.0": (head("GET / HTTP/1.0"), 505),
    "HTTP/2": (head("PRI * HTTP/2.0"), 505),
    "no target": (head("GET  HTTP/1.1"), 400),
    "no request": (b"\x16\x03\x01\x02\x00\x01", 400),
    "nothing": (b"", 400),
    "a folded header": (head("GET / HTTP/1.1", " folded: yes"), 400),
    "a header without a colon": (head("GET / HTTP/1.1", "what"), 400),
    "a header with a space in its name": (head("GET / HTTP/1.1", "a b: c"), 400),
    "a control character in a value": (head("GET / HTTP/1.1", "a: \x00"), 400),
    "129 headers": (head("GET / HTTP/1.1", *[f"X-{number}: 1" for number in range(MAX_HEADERS)]), 431),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_handshake_is_refused_in_http(what: str) -> None:
    request, status = REFUSED[what]
    verdict = judge(request)
    assert isinstance(verdict, Refusal)
    assert verdict.status == status
    answer, _, body = verdict.render().partition(b"\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert f"Content-Length: {len(body)}".encode() in answer
    assert (b"Sec-WebSocket-Version: 13" in answer and b"Upgrade: websocket" in answer) == (status == 426)


def frame(size: int, masked: bool = True) -> bytes:
    mask = 0x80 if masked else 0
    if size < 126:
        start = bytes([0x82, mask | size])
    elif size < 65_536:
        start = bytes([0x82, mask | 126]) + size.to_bytes(2, "big")
    else:
        start = bytes([0x82, mask | 127]) + size.to_bytes(8, "big")
    return start + (b"\xaa" * 4 if masked else b"")


@pytest.mark.parametrize("piece", [1, 3, 1_000_000])
def test_a_gauge_stops_in_the_head_of_the_frame_that_is_too_large(piece: int) -> None:
    good = b"".join(frame(size, masked) + bytes(size) for size in (0, 1, 125, 126, 1_000) for masked in (True, False))
    for bad in (frame(1_001), frame(65_536), frame(2**63, masked=False)):
        data, gauge, passed = good + bad + bytes(50), FrameGauge(1_000), 0
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            count = gauge.measure(part)
            passed += count
            if count < len(part):
                break
        assert passed == len(good + bad) - 1
