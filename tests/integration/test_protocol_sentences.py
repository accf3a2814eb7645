"""Sentences of docs/protocol.md, each tried against a live node, and said in the page's own words: a sentence that
changes there must change here.

One node serves all tests of this file. It has the page's limits; only its times are shorter, and its outbox is smaller,
so that their ends can be seen. Golden frames, and what developers asked, are in `test_protocol_page.py`; what needs
several nodes (redirects, `going`, drains) is played by the conversations of `test_second_client.py`.
"""

import asyncio
import itertools
import json
import re
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import jwt
import msgpack
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from server.sessions.tokens import issue
from server.settings import GatewaySettings
from tests.integration.match_refusals import refusals_of_people
from tests.integration.party_refusals import refusals_of_parties
from tests.integration.test_protocol_page import DESCRIBED, DOCS, Line
from tests.support.program import Running, here
from tests.support.second_client import Wire
from tests.support.waiting import until
from tests.unit.test_http_handshake import head

PAGE = " ".join((DOCS / "protocol.md").read_text("utf-8").split())
KEY = "0123456789abcdef0123456789abcdef"
HELLO_S, BEAT_S, RESUME_S = 1.5, 2.0, 3.0
OUTBOX = 64
JSON, MSGPACK = "garrison.v1.json", "garrison.v1.msgpack"

Test = TypeVar("Test", bound=Callable[..., Any])


def says(*sentences: str) -> Callable[[Test], Test]:
    """Mark a test with the sentences of the page that it tries."""

    def marked(test: Test) -> Test:
        test.says = sentences  # type: ignore[attr-defined]
        return test

    return marked


class Node:
    """A live node: its url, tokens for it, and clients that are welcome there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._numbers = itertools.count(1)

    def name(self, start: str = "x") -> str:
        """A name that no other test has."""
        return f"{start}-{next(self._numbers)}"

    @staticmethod
    def token(subject: str, role: str = "player", ttl_s: float = 60.0) -> str:
        return issue(KEY.encode(), subject, role, ttl_s, int(time.time() * 1000))

    async def line(self, subprotocol: str = JSON, **options: Any) -> Line:
        """A connection before its hello."""
        return Line(await connect(self.url, subprotocols=[Subprotocol(subprotocol)], compression=None, **options))

    async def enter(
        self, role: str = "player", subject: str = "", *fields: Any, subprotocol: str = JSON, **options: Any
    ) -> Line:
        """A client that is welcome; `fields` are those of the hello after the token."""
        client = await self.line(subprotocol, **options)
        client.welcome = await client.ask("hello", 1, self.token(subject or self.name(role), role), *fields)
        assert client.welcome[0] == "welcome", client.welcome
        return client

    async def http(self, request: bytes) -> tuple[int, bytes]:
        """The status of the answer to raw bytes, and all of it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", int(self.url.rpartition(":")[2]))
        writer.write(request)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return int(answer.split()[1]), answer


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    path = tmp_path_factory.mktemp("sentences")
    values = {
        "security.signing_key": KEY,
        "store.url": f"sqlite:///{path}/x.db",
        "gateway.port": "0",
        "gateway.hello_timeout_s": HELLO_S,
        "gateway.heartbeat_interval_s": BEAT_S,
        "gateway.resume_window_s": RESUME_S,
        "gateway.outbox_max_messages": OUTBOX,
        "admin.enabled": "false",
    }
    given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    assert here("migrate", *given, cwd=path).returncode == 0
    with Running("node", *given, cwd=path) as process:
        assert process.process.stdout is not None
        ready = json.loads(process.process.stdout.readline())
        yield Node(ready["client_url"])
        process.process.terminate()
        assert process.end()[0] == 0
        assert not any("Traceback" in line for line in process.lines)


def test_sentences_stand_on_the_page() -> None:
    tests = [test for name, test in vars(sys.modules[__name__]).items() if name.startswith("test_")]
    said = [sentence for test in tests for sentence in getattr(test, "says", ())]
    assert len(said) > 60
    assert [sentence for sentence in said if " ".join(sentence.split()) not in PAGE] == []


# ---- 1. connecting ----


@says("Extensions (compression) are not agreed.", "The messages are the same in both.")
async def test_subprotocols(node: Node) -> None:
    for subprotocol, text in ((JSON, True), (MSGPACK, False)):
        client = await node.line(subprotocol)
        assert client.ws.subprotocol == subprotocol and client.text is text
        assert (await client.ask("hello", 1, node.token(node.name())))[0] == "welcome"
        await client.ws.close()
    _, answer = await node.http(
        head(Sec_WebSocket_Protocol=JSON, Sec_WebSocket_Extensions="permessage-deflate") + b"\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 101 ") and b"Sec-WebSocket-Extensions" not in answer


@says(
    "Fragmented messages are accepted.",
    "A WebSocket ping is answered with a pong (several that come together with one, for the last)",
)
async def test_fragments_and_pings(node: Node) -> None:
    client = await node.enter()
    await client.ws.send(['["presence.get", ', '2, "x', '"]'])
    assert (await client.hear())[:3] == ["presence", 2, "x"]
    await client.ws.ping(b"alone")
    pongs: list[bytes] = []
    together = [Frame(Opcode.PING, payload) for payload in (b"one", b"two", b"last")]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
    writer.write(head(Sec_WebSocket_Protocol=JSON) + b"\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"".join(frame.serialize(mask=True) for frame in together))
    async with asyncio.timeout(30):
        first, size = await reader.readexactly(2)
        pongs.append(await reader.readexactly(size))
    assert first == 0x8A and pongs == [b"last"]
    writer.close()
    await client.ws.close()


HANDSHAKES = {
    "400: a header is wrong": (head(Sec_WebSocket_Key="short"), 400),
    "400: no subprotocol": (head(Sec_WebSocket_Protocol=None), 400),
    "400: an unknown one": (head(Sec_WebSocket_Protocol="chat"), 400),
    "405": (head("POST / HTTP/1.1"), 405),
    "408": (b"GET / HTTP/1.1\r\nHost: x\r\n", 408),
    "426: no WebSocket": (b"GET / HTTP/1.1\r\nHost: x", 426),
    "426: another version": (head(Sec_WebSocket_Version="8"), 426),
    "431: 16 KiB": (head(Cookie="c" * 16 * 1024), 431),
    "431: 128 headers": (head("GET / HTTP/1.1", *[f"X-{number}: 1" for number in range(129)]), 431),
    "505": (head("GET / HTTP/1.0"), 505),
}


@says(
    "A handshake that is not accepted is answered in HTTP, with a line for people: 400 (a header is wrong, or none of"
    " the subprotocols was offered), 405 (not a GET), 408 (not complete in time), 426 (no WebSocket, or another version"
    " than 13, which the answer names), 431 (headers of more than 16 KiB, cookies included, or more than 128)",
    "505 (not HTTP/1.1)",
    "HTTP 400 if no known subprotocol was offered",
)
@pytest.mark.parametrize("what", HANDSHAKES)
async def test_refused_handshake(node: Node, what: str) -> None:
    request, status = HANDSHAKES[what]
    got, answer = await node.http(request + (b"" if what == "408" else b"\r\n\r\n"))
    assert got == status
    assert len(answer.partition(b"\r\n\r\n")[2].decode().splitlines()) == 1
    assert (b"Sec-WebSocket-Version: 13" in answer) is (status == 426)


@says(
    "**Requests** carry an `id` that the client chooses: a whole number from 1 to 2^53",
    "Each gets exactly one answer with the same `id`",
    "a float with a whole value below 2^53 (`7.0`) is taken for one",
)
async def test_numbers_of_requests(node: Node) -> None:
    for subprotocol in (JSON, MSGPACK):
        client = await node.enter(subprotocol=subprotocol)
        for number in (1, 2**53, 7.0, 1):
            assert (await client.ask("presence.get", number, "x"))[:2] == ["presence", number]
        for number in (0, -1, 2**53 + 1, 2**64 - 1, 7.5, "7", None):
            answer = await client.ask("presence.get", number, "x")
            assert answer[0::2][:2] == ["error", "bad_input" if number == 0 else "bad_frame"], answer
        assert (await client.ask("heartbeat", 9))[:2] == ["beat", 9]
        await client.ws.close()


@says(
    "Trailing fields that have a default may be left out when sending.",
    "Each has bounds, which stand in protocol.json (`min`, `max`); beyond them a message is a `bad_frame`.",
    "Texts are lines: without control and format characters, but for the joiners U+200C and U+200D (`pattern`).",
)
async def test_fields_have_defaults_and_bounds(node: Node) -> None:
    client = await node.enter()
    assert (await client.ask("profile.set", 1, "l", 1, "Ann"))[0] == "saved"
    assert (await client.ask("match.list", 2))[0] == "matches"
    for limit in (0, 501, -1):
        assert (await client.ask("match.list", 3, limit))[2] == "bad_frame"
    assert (await client.ask("profile.set", 4, "l", 2, "a\u200cb\u200dc"))[0] == "saved"
    for text in ("a\x07", "a\u202eb", "a\u009b", "a\nb", "x" * 129):
        assert (await client.ask("profile.set", 5, "l", 3, text))[2] == "bad_frame", text
        assert (await client.ask("presence.set", 6, "online", text))[2] == "bad_frame", text
    await client.ws.close()


@says(
    "A message to the server may have `max_frame_bytes` bytes (64 KiB unless the welcome says otherwise), and 8 KiB"
    " before the welcome.",
)
async def test_messages_have_a_size(node: Node) -> None:
    client = await node.enter()
    assert client.welcome[10] == 64 * 1024
    padded = json.dumps(["presence.get", 2, "x"]).ljust(64 * 1024)
    await client.ws.send(padded)
    assert (await client.hear())[0] == "presence"
    await client.ws.send(padded + " ")
    assert await client.close_code() == 1009
    early = await node.line()
    await early.ws.send(json.dumps(["hello", 1, "x"]).ljust(8 * 1024 + 1))
    assert await early.close_code() == 1009
    just = await node.line()
    await just.ws.send(json.dumps(["hello", 1, node.token(node.name())]).ljust(8 * 1024))
    assert (await just.hear())[0] == "welcome"
    await just.ws.close()


@says("The first message on a connection, within 5 s:", "**Error**: the connection is closed after it")
async def test_first_message_is_a_good_hello(node: Node) -> None:
    for line in (["profile.get", 1, "x"], ["hello", 1], ["nonsense", 1], ["heartbeat", 1]):
        client = await node.line()
        assert (await client.ask(*line))[:2] == ["error", 1]
        assert await client.close_code() == 1002
    client = await node.line()
    began = time.monotonic()
    assert await client.close_code() == 4003
    assert HELLO_S - 0.1 < time.monotonic() - began < HELLO_S + 2


def forged(**changes: Any) -> str:
    now_s = int(time.time())
    claims = {"iss": "garrison", "sub": "ann", "role": "player", "iat": now_s, "exp": now_s + 60} | changes
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, KEY, "HS256")


NOW_S = int(time.time())
TOKENS: dict[str, tuple[str, str, int]] = {
    "none": ("", "bad_token", 4001),
    "no token": ("x.y.z", "bad_token", 4001),
    "signed with another key": (jwt.encode({"sub": "a"}, KEY + "x", "HS256"), "bad_token", 4001),
    "not signed": (jwt.encode({"sub": "a"}, None, "none"), "bad_token", 4001),  # type: ignore[arg-type]
    "longer than 4,096": (forged(more="x" * 4096), "bad_frame", 1002),
    "a foreign issuer": (forged(iss="shop"), "bad_token", 4001),
    "a role that is none": (forged(role="admin"), "bad_token", 4001),
    "a name that is none": (forged(sub="a b"), "bad_token", 4001),
    "a name of 65": (forged(sub="a" * 65), "bad_token", 4001),
    "a foreign audience": (forged(aud="shop"), "bad_token", 4001),
    "without exp": (forged(exp=None), "bad_token", 4001),
    "without iat": (forged(iat=None), "bad_token", 4001),
    "expired": (forged(iat=NOW_S - 3600, exp=NOW_S - 1800), "token_expired", 4002),
    "not good yet, by nbf": (forged(nbf=NOW_S + 3600), "unavailable", 1011),
    "not good yet, by iat": (forged(iat=NOW_S + 3600, exp=NOW_S + 7200), "unavailable", 1011),
}


@says(
    "One that is not good yet, by `nbf` or `iat`, is answered `unavailable` with the time to wait.",
    "the token is missing, forged or foreign",
    "| 4002 | token_expired | it was good once; also while connected | again, with a new token |",
)
@pytest.mark.parametrize("what", TOKENS)
async def test_token_that_is_not_taken(node: Node, what: str) -> None:
    token, code, closed = TOKENS[what]
    client = await node.line()
    answer = await client.ask("hello", 1, token)
    assert answer[:3] == ["error", 1, code], answer
    assert (answer[4] is not None) is (code == "unavailable")
    assert await client.close_code() == closed


@says("where none is set it may be absent, or name `garrison`")
async def test_token_that_is_taken(node: Node) -> None:
    for token in (forged(), forged(aud="garrison"), forged(nbf=NOW_S - 60), forged(iat=int(time.time()) + 3)):
        client = await node.line()
        assert (await client.ask("hello", 1, token))[0] == "welcome"
        await client.ws.close()


@says("`session` and `node` are names for logs.", "name and version of your client, for operators")
async def test_welcome_has_what_the_page_says(node: Node) -> None:
    client = await node.enter("player", "spartan-117", None, 0, "mine/1.0")
    (
        kind,
        number,
        session,
        name,
        subject,
        role,
        resume,
        recovered,
        beat_ms,
        resume_ms,
        size,
        wall_ms,
        left_ms,
        watches,
    ) = client.welcome
    assert (kind, number, subject, role, recovered, watches) == ("welcome", 1, "spartan-117", "player", False, False)
    assert session and name == "node-1" and resume and size == 65536
    assert (beat_ms, resume_ms) == (BEAT_S * 1000, RESUME_S * 1000)
    assert abs(wall_ms - time.time() * 1000) < 60_000
    assert 30_000 < left_ms <= 65_000  # the token's minute, and the clock skew
    long = await node.line()
    assert (await long.ask("hello", 1, node.token(node.name()), None, 0, "c" * 65))[2] == "bad_frame"
    await client.ws.close()


FORBIDDEN = {
    "player": [["match.create", 1, "l", 1, "m"], ["match.start", 1, "l", 1, "m"], ["match.tick", 1, "m", 0]],
    "host": [["presence.set", 1, "away"], ["match.join", 1, "l", 1, "m"], ["profile.set", 1, "l", 1, "x"]],
    "service": [["presence.set", 1, "away"], ["match.join", 1, "l", 1, "m"], ["profile.set", 1, "l", 1, "x"]],
}


@says("it may send what a host may, and nothing else", "What each may send is in section 6.")
@pytest.mark.parametrize("role", FORBIDDEN)
async def test_roles_may_send_what_the_page_says(node: Node, role: str) -> None:
    client = await node.enter(role)
    for line in FORBIDDEN[role]:
        assert (await client.ask(*line))[:3] == ["error", 1, "forbidden"], line
    if role != "player":
        assert (await client.ask("match.create", 2, "l", 2, node.name("m")))[0] == "accepted"
    await client.ws.close()


# ---- 2. errors and commands ----


@says(
    "An `error` with id 0 answers a message that cannot be read and shows no id, or a request with id 0",
    "A heartbeat with id 0 that fails is not answered, and not counted in `beats`.",
    "A message that cannot be read is answered with `bad_frame` or `unknown_type` and counts as refused.",
)
async def test_messages_that_cannot_be_read(node: Node) -> None:
    client = await node.enter()
    for text, number, code in (
        ("{}", 0, "bad_frame"), ("[", 0, "bad_frame"), ('["profile.get", 5]', 5, "bad_frame"),
        ('["no.such", 6]', 6, "unknown_type"), ('["profile.get", 0, "x"]', 0, "bad_input"), ("[]", 0, None),
    ):  # fmt: skip
        await client.ws.send(text)
        answer = await client.hear()
        assert answer[:2] == ["error", number] and code in (None, answer[2]), (text, answer)
        assert len(answer) == 5 and answer[4] is None
    await client.say("heartbeat", 0, 0, "dancing")
    await client.say("heartbeat", 0)
    answers = [await client.ask("heartbeat", 7)]
    while not any(answer[0] == "beats" for answer in answers):
        answers.append(await client.hear())
    assert [answer for answer in answers if answer[0] == "beats"] == [["beats", 1]]
    await client.ws.close()


@says(
    "repeating a command, with a new request id if you like and over a new connection, repeats the first answer and"
    " changes nothing",
    "A match remembers the last 64 commands of each kind and lineage of each host and player",
    "a player's profile, and its friends, the last 16 of its last 8 lineages",
    "Asking for an older one gives `outcome_unknown`",
    "a word of at most 32 characters",
)
async def test_commands_are_remembered(node: Node) -> None:
    host, name = await node.enter("host", "rememberer"), node.name("m")
    assert (await host.ask("match.create", 1, "l", 1, name, ["recorded"]))[0] == "accepted"
    player = await node.enter("player", "remembered")
    joined = await player.ask("match.join", 1, "l", 1, name)
    assert joined[0] == "accepted"
    assert (await host.ask("match.start", 2, "l", 2, name))[0] == "accepted"
    first = await host.ask("match.report", 3, "l", 3, name, [["kill", 1, "remembered", None]])
    await host.ws.close()
    host = await node.enter("host", "rememberer")
    again = await host.ask("match.report", 44, "l", 3, name, [["kill", 1, "remembered", None]])
    assert again == [*first[:1], 44, *first[2:]]
    for number in range(4, 4 + 63):
        await host.ask("match.report", number, "l", number, name, [["kill", 1, "remembered", None]])
        await player.ask("heartbeat", 9)  # or it has fallen silent, where this takes its time
    assert (await host.ask("match.report", 1, "l", 3, name, [["kill", 1, "remembered", None]]))[3:] == first[3:]
    await host.ask("match.report", 1, "l", 67, name, [["kill", 1, "remembered", None]])
    late = await host.ask("match.report", 1, "l", 3, name, [["kill", 1, "remembered", None]])
    assert late[:3] == ["error", 1, "outcome_unknown"]
    board = await host.ask("match.get", 2, name)
    assert board[9][0][3] == 65  # each once
    for number in range(1, 18):
        await player.ask("profile.set", number, "p", number, f"name {number}")
    assert (await player.ask("profile.set", 1, "p", 2, "name 2"))[0] == "saved"
    assert (await player.ask("profile.set", 1, "p", 1, "name 1"))[2] == "outcome_unknown"
    assert (await player.ask("profile.get", 1, "remembered"))[3] == "name 17"
    assert (await player.ask("profile.set", 1, "l" * 33, 1, "x"))[2] == "bad_frame"
    assert (await player.ask("profile.set", 1, "l", 0, "x"))[2] == "bad_frame"
    for client in (host, player):
        await client.ws.close()


# ---- 3. pushes and resuming ----


async def joins(node: Node, player: Line, host: Line, count: int) -> None:
    """So many pushes `match.assigned` for a player, who acknowledges nothing."""
    for _ in range(count):
        name = node.name("m")
        assert (await host.ask("match.create", 1, f"l{name}", 1, name))[0] == "accepted"
        await player.ask("match.join", 1, f"j{name}", 1, name, 0)
        await player.ask("match.leave", 1, f"j{name}", 2, name)


@says(
    "An acknowledgement covers everything up to `seq`.",
    "`recovered: true`: it is the same session. Everything after `ack` follows, in order",
    "`recovered: false`: it is a new session. Pushes count from 1 again and there are no subscriptions",
    "in the same subprotocol",
    "A player who joins gets the push",
)
async def test_session_is_resumed_with_everything_after_the_acknowledgement(node: Node) -> None:
    host, subject = await node.enter("host"), node.name("p")
    player = await node.enter("player", subject)
    await joins(node, player, host, 5)
    await player.ask("heartbeat", 2)
    assert [push[:2] for push in player.pushes] == [["match.assigned", number] for number in range(1, 6)]
    await player.say("ack", 0, 2)
    await player.ask("heartbeat", 3)
    player.ws.transport.abort()
    back = await node.enter("player", subject, player.welcome[6], 3)
    assert back.welcome[7] is True
    await back.ask("heartbeat", 4)
    assert [push[1] for push in back.pushes] == [4, 5]
    back.ws.transport.abort()
    binary = await node.enter("player", subject, back.welcome[6], 3, subprotocol=MSGPACK)
    assert binary.welcome[7] is False
    await joins(node, binary, host, 1)
    assert [push[1] for push in binary.pushes] == [1]
    for client in (host, binary):
        await client.ws.close()


@says("Acknowledging a number that was never sent closes the connection with 1002.")
async def test_acknowledgement_of_a_push_that_was_never_sent(node: Node) -> None:
    for line in (["ack", 0, 1], ["heartbeat", 2, 1]):
        client = await node.enter()
        await client.say(*line)
        assert await client.close_code() == 1002


@says("then it closes with 4007", "streams (section 5) stop at half of the bound until you do")
async def test_pushes_that_are_not_acknowledged_have_a_bound(node: Node) -> None:
    host = await node.enter("host")
    player = await node.enter("player")
    name = node.name("m")
    await host.ask("match.create", 1, "l", 1, name, ["recorded"])
    await player.ask("match.join", 2, "l", 1, name)
    await host.ask("match.start", 2, "l", 2, name)
    assert (await player.ask("watch", 3, f"match/{name}"))[0] == "watching"
    for number in range(3, 3 + 50):
        await host.ask("match.report", 3, "l", number, name, [["kill", 1, player.welcome[4], None]])
        await player.ask("heartbeat", 4)  # or it has fallen silent, where this takes its time
    got: list[Wire] = []

    async def settled(ack: int) -> int:
        """The events that have come once no more do, with `ack` acknowledged."""
        await player.ask("heartbeat", 4, ack)
        before = -1
        while before != len(got):
            before = len(got)
            for _ in range(3):
                await asyncio.sleep(0.1)
                await player.ask("heartbeat", 4)
            got.extend(push for push in player.pushes if push[0] == "events")
            player.pushes.clear()
        return sum(len(push[4]) for push in got)

    some = await settled(0)
    assert some < 53 and got[-1][1] <= OUTBOX // 2 + 1  # created, joined, started and fifty more
    while some < 53:
        more = await settled(got[-1][1])
        assert more > some
        some = more
    flooded = await node.enter("player")
    with pytest.raises(ConnectionClosed) as closed:
        await joins(node, flooded, host, OUTBOX + 2)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 4007
    for client in (host, player):
        await client.ws.close()


@says(
    "a second connection of the same player that does not resume it takes its place, and the first is closed with 4004"
)
async def test_second_connection_takes_the_place_of_the_first(node: Node) -> None:
    subject = node.name("p")
    first = await node.enter("player", subject)
    second = await node.enter("player", subject)
    assert await first.close_code() == 4004
    resumed = await node.enter("player", subject, second.welcome[6])
    assert resumed.welcome[7] is True
    assert await second.close_code() == 4004
    await resumed.ws.close()


# ---- 4. heartbeats ----


@says(
    "`count` is the number of heartbeats with id 0 that took effect since the session began.",
    "`state` is a status to take on (`online`, `away`, `busy`, `invisible`) or `null` to leave it.",
)
async def test_heartbeats(node: Node) -> None:
    subject = node.name("p")
    client = await node.enter("player", subject)
    watcher = await node.enter("service")
    for state, shown in (
        ("away", "away"),
        (None, "away"),
        ("busy", "busy"),
        ("invisible", "offline"),
        ("online", "online"),
    ):
        assert await client.ask("heartbeat", 2, 0, state) == ["beat", 2]
        assert (await watcher.ask("presence.get", 1, subject))[3] == shown
    assert (await client.ask("heartbeat", 3, 0, "offline"))[2] in ("bad_status", "bad_frame")
    for _ in range(3):
        await client.say("heartbeat", 0)
    async with asyncio.timeout(BEAT_S + 3):
        assert await client.hear() == ["beats", 3]
    for one in (client, watcher):
        await one.ws.close()


# ---- 5. streams ----


@says(
    "`from_seq` is the first event that you want, 1 by default",
    "The events have the numbers `first_seq`, `first_seq + 1`, …",
    "Watching a topic that you watch already moves it to `from_seq`.",
    "The stream of a match ends with its `ended` event, and the `rated` events that follow it",
    "The command's events have the numbers `first_seq` to `next_seq - 1`; none if the two are equal.",
    "`created` | `host`, `options`, `wall_ms`, `rules` | the first event",
)
async def test_streams(node: Node) -> None:
    host, name, subject = await node.enter("host", "streamer"), node.name("m"), node.name("p")
    await host.ask("match.create", 1, "l", 1, name, ["recorded"])
    player = await node.enter("player", subject)
    await player.ask("match.join", 2, "l", 1, name)
    await host.ask("match.start", 2, "l", 2, name)
    report = [[kind, 5, subject] for kind in ("death", "assist")] + [
        ["medal", 6, subject, "gold"],
        ["score", 7, 3, None, subject],
    ]
    accepted = await host.ask("match.report", 3, "l", 3, name, report)
    assert accepted[4] - accepted[3] == 4
    assert (await host.ask("match.tick", 3, name, 8))[3] == (await host.ask("match.tick", 3, name, 9))[4]
    watching = await player.ask("watch", 3, f"match/{name}")
    assert watching[:3] == ["watching", 3, f"match/{name}"]
    await host.ask("match.end", 4, "l", 4, name, 10)

    async def events(wanted: int) -> list[Wire]:
        """Numbered events, at least so many."""
        found: list[Wire] = []
        while len(found) < wanted:
            await player.ask("heartbeat", 9)
            fresh, player.pushes = player.pushes, []
            for push in fresh:
                if push[0] == "events":
                    assert push[2] == f"match/{name}"
                    found += [[push[3] + at, *event] for at, event in enumerate(push[4])]
            await asyncio.sleep(0.02)
        return found

    told = await events(9)
    assert [event[0] for event in told] == list(range(1, 10))
    assert [event[1] for event in told] == [
        "created",
        "joined",
        "started",
        "death",
        "assist",
        "medal",
        "score",
        "ended",
        "rated",
    ]
    assert told[0][3] == "streamer" and told[7][3] == "host_ended" and told[4][2] == 5
    assert [result[:3] for result in told[8][5]] == [[subject, 0, told[7][2] - told[2][2]]]
    await player.ask("watch", 5, f"match/{name}", 7)
    assert [event[0] for event in await events(3)] == [7, 8, 9]
    assert await player.ask("unwatch", 6, f"match/{name}") == ["done", 6]
    assert await player.ask("unwatch", 7, "match/nothing") == ["done", 7]
    assert (await player.ask("watch", 8, f"match/{name}", 2**53))[2] == "bad_frame"
    assert (await player.ask("watch", 8, "match/nothing"))[2] == "not_found"
    for client in (host, player):
        await client.ws.close()


@says(
    "First, and after each seek, comes a `replay.scene`: forget what you show, this is the whole state before event",
    "Of a match it is its `scoreboard`, as `match.get` would have been answered then",
    "`end`: all was shown, and the replay is paused; seek, and play.",
    "you get only events that name it, and those that name nobody; empty for all.",
    "opening a number that is open begins it anew.",
    "A session has four replays open at most",
    "a time or event after that is refused with `past_limit`",
)
async def test_replays(node: Node) -> None:
    host, name, subject = await node.enter("host", "filmer"), node.name("m"), node.name("p")
    await host.ask("match.create", 1, "l", 1, name, ["recorded"])
    await host.ask("match.start", 2, "l", 2, name)
    medals = [["medal", at, player, "gold"] for at, player in ((0, subject), (4_000, "other"), (90_000, subject))]
    await host.ask("match.report", 3, "l", 3, name, medals)
    viewer = await node.enter("service", subprotocol=MSGPACK)
    assert (await viewer.ask("replay.open", 2, 1, f"match/{name}", 90_001))[2] == "past_limit"
    await host.ask("match.end", 4, "l", 4, name, 90_000)
    while not (status := await viewer.ask("replay.open", 3, 1, f"match/{name}", 3_000, 0, 6_400, False))[9]:
        pass
    assert status == ["replay.status", 3, 1, 3_000, 6_400, False, 4, status[7], 90_000, True]

    async def shown(upto: str) -> list[Wire]:
        """Pushes of the replay up to one of that type, without their numbers."""
        while not any(push[0] == upto for push in viewer.pushes):
            await viewer.ask("heartbeat", 9, max((push[1] for push in viewer.pushes), default=0))
            await asyncio.sleep(0.02)
        found, viewer.pushes = viewer.pushes, []
        return [[push[0], *push[3:]] for push in found]

    scene = (await shown("replay.scene"))[-1]
    assert scene[1:3] == [4, 3_000] and scene[3][:4] == ["scoreboard", 0, name, "live"]
    assert [line[0] for line in scene[3][9]] == [subject] and scene[3][10] == 4
    assert (await viewer.ask("replay.control", 4, 1, True))[5] is True
    pushes = await shown("replay.state")
    events = [event for push in pushes if push[0] == "replay.events" for event in push[2]]
    assert [number for number, _ in events] == list(range(4, status[7])) and events[0][1] == medals[1]
    assert pushes[-1] == ["replay.state", 90_000, "end"]
    await viewer.ask("replay.control", 5, 1, True, None, 0, subject)
    pushes = await shown("replay.state")
    events = [event for push in pushes if push[0] == "replay.events" for event in push[2]]
    assert pushes[0][:3] == ["replay.scene", 1, 0] and 4 not in [number for number, _ in events]
    assert [event[0] for _, event in events][:4] == ["created", "started", "medal", "medal"]
    for number in (2, 3, 4):
        assert (await viewer.ask("replay.open", 6, number, f"match/{name}"))[0] == "replay.status"
    assert (await viewer.ask("replay.open", 6, 5, f"match/{name}"))[2] == "too_many_replays"
    assert await viewer.ask("replay.close", 7, 4) == ["done", 7] == await viewer.ask("replay.close", 7, 4)
    for client in (host, viewer):
        await client.ws.close()


# ---- 6. the game's messages ----


@says(
    "Names of players and matches are 1 to 64 of the characters `A-Z a-z 0-9 . _ : @ ~ + = -`.",
    "somebody who was never here is `offline` with `last_seen_ms` 0",
    "at once after `close`",
)
async def test_presence(node: Node) -> None:
    watcher, subject = await node.enter("service"), "Az09._:@~+=-" + "x" * 51
    nobody = ["presence", 1, "nobody-ever", "offline", "", None, 0, None]
    assert await watcher.ask("presence.get", 1, "nobody-ever") == nobody
    for wrong in ("", "x" * 65, "a b", "a/b", "é"):
        assert (await watcher.ask("presence.get", 1, wrong))[2] == "bad_frame", wrong
    player = await node.enter("player", subject + "y")
    assert (await player.ask("presence.set", 2, "busy", "on \u201ca map\u201d"))[:3] == [
        "saved",
        2,
        f"player/{subject}y",
    ]
    shown = await watcher.ask("presence.get", 2, subject + "y")
    assert shown[3:6] == ["busy", "on \u201ca map\u201d", None] and shown[6] > 0
    assert await player.ask("close", 3) == ["done", 3]
    assert await player.close_code() == 1000
    assert (await watcher.ask("presence.get", 3, subject + "y"))[3] == "offline"
    await watcher.ws.close()


async def until_live(phase: Callable[[], Awaitable[str]]) -> None:
    async with asyncio.timeout(10):
        await until(lambda: _is(phase, "live"))


async def _is(phase: Callable[[], Awaitable[str]], wanted: str) -> bool:
    return await phase() == wanted


@says(
    "A match goes `lobby` → `countdown` → `live` → `ended`.",
    "Only the host of a match may start, report, tick and end it: the one that made it",
    "`events` of a report are 1 to 256",
    "taken all or none",
)
async def test_life_of_a_match(node: Node) -> None:
    host, player, name = await node.enter("host"), await node.enter("player"), node.name("m")
    subject = player.welcome[4]

    async def phase() -> str:
        return str((await host.ask("match.get", 1, name))[3])

    await host.ask("match.create", 1, "l", 1, name, ["slayer", "map", 0, 8, 2, 0, True, 300])
    assert await phase() == "lobby"
    assert (await player.ask("match.join", 2, "l", 1, name))[0] == "accepted"
    await host.ask("match.start", 2, "l", 2, name)
    assert await phase() == "countdown"
    await until_live(phase)
    for events in ([], [["kill", 1, subject, subject]] * 257):
        assert (await host.ask("match.report", 3, "l", 3, name, events))[2] == "bad_frame"
    before = await host.ask("match.get", 4, name)
    mixed = [["medal", 1, subject, "gold"], ["medal", 2, "stranger", "gold"]]
    assert (await host.ask("match.report", 5, "l", 4, name, mixed))[2] == "unknown_player"
    assert (await host.ask("match.get", 4, name)) == before
    await host.ask("match.report", 6, "l", 5, name, [["medal", 1, subject, "gold"]] * 256)
    assert (await host.ask("match.get", 4, name))[9][0][6] == 256
    await host.ask("match.end", 7, "l", 6, name, 9)
    assert (await host.ask("match.get", 8, name))[3:13:9] == ["ended", "host_ended"]
    for client in (host, player):
        await client.ws.close()


def slayer(teams: int = 2, most: int = 8, late: bool = True, mode: str = "slayer", map_name: str = "") -> list[Any]:
    return [mode, map_name, teams, most, 0, 0, late, 0]


Stage = Callable[[Node], Any]


async def told_at_hello(node: Node, token: str) -> str:
    """The code with which a hello is refused, once what its player's actor must hear of has come there."""
    async with asyncio.timeout(20):
        while True:
            client = await node.line()
            try:
                answer = await client.ask("hello", 1, token)
            except ConnectionClosed:  # by the act itself, which came to the player while the hello was being answered
                continue
            await client.ws.close()
            if answer[0] == "error":
                return str(answer[2])


async def refusals_of_moderation(node: Node) -> dict[str, str]:
    """The same as `refusals`, of moderation."""
    service, found, numbers = await node.enter("service"), {}, itertools.count(1)
    shut, late = node.name("p"), node.name("p")
    for code, subject, act in (("banned", shut, "moderation.ban"), ("revoked", late, "moderation.revoke")):
        old = node.token(subject)
        assert (await service.ask(act, 5, "l", next(numbers), subject))[0] == "standing"
        found[code] = await told_at_hello(node, old)
    for code, act in (("not_banned", "moderation.unban"), ("not_muted", "moderation.unmute")):
        found[code] = str((await service.ask(act, 5, "l", next(numbers), late))[2])
    await service.ws.close()
    return found


async def refusals(node: Node) -> dict[str, str]:
    """What the server says to each thing that a rule forbids: the rule's code as the page has it, and as it came."""
    host, stranger, service = await node.enter("host"), await node.enter("host"), await node.enter("service")
    players = [await node.enter("player") for _ in range(3)]
    ann, bob, eve = players
    names = [player.welcome[4] for player in players]
    numbers = itertools.count(1)
    found: dict[str, str] = {}

    async def say(client: Line, kind: str, *fields: Any) -> Wire:
        return await client.ask(kind, 5, "l", next(numbers), *fields)

    async def refused(code: str, client: Line, kind: str, *fields: Any) -> None:
        answer = await say(client, kind, *fields)
        found[code] = answer[2] if answer[0] == "error" else f"{kind}: {answer}"

    lobby, live, over, full = (node.name("m") for _ in range(4))
    assert (await say(host, "match.create", lobby, slayer()))[0] == "accepted"
    await refused("match_exists", host, "match.create", lobby, slayer())
    await refused("bad_name", host, "match.create", "latest", slayer())
    await refused("unknown_mode", host, "match.create", node.name("m"), ["tag"])
    await refused("bad_options", host, "match.create", node.name("m"), slayer(most=0))
    await refused("not_host", stranger, "match.start", lobby)
    await refused("no_players", host, "match.start", lobby)
    await refused("not_live", host, "match.report", lobby, [["death", 1, "x"]])
    await refused("bad_team", ann, "match.join", lobby, 7)
    await say(ann, "match.join", lobby, 0)
    await refused("already_joined", ann, "match.join", lobby, 1)
    await refused("not_in_match", bob, "match.leave", lobby)
    await say(bob, "match.join", lobby, 1)
    await say(host, "match.start", lobby)
    await refused("already_started", host, "match.start", lobby)
    await say(host, "match.report", lobby, [["kill", 9, names[0], names[1]]])
    await refused("clock_backwards", host, "match.report", lobby, [["kill", 8, names[0], names[1]]])
    await refused("unknown_player", host, "match.report", lobby, [["kill", 9, names[0], "nobody"]])
    await refused("victim_required", host, "match.report", lobby, [["kill", 9, names[0], None]])
    await refused("same_player", host, "match.report", lobby, [["kill", 9, names[0], names[0]]])
    await refused("no_target", host, "match.report", lobby, [["score", 9, 1, None, None]])
    await say(bob, "match.leave", lobby)
    await refused("not_present", host, "match.report", lobby, [["kill", 9, names[0], names[1]]])
    await say(host, "match.create", live, slayer(teams=0, late=False))
    await say(ann, "match.join", live)
    await say(host, "match.start", live)
    await refused("no_join_in_progress", eve, "match.join", live)
    await say(host, "match.create", full, slayer(teams=0, most=1))
    await say(ann, "match.join", full)
    await refused("match_full", eve, "match.join", full)
    await say(service, "match.create", over, slayer())
    await say(service, "match.end", over)
    await refused("match_ended", service, "match.end", over)
    found["bad_status"] = (await ann.ask("heartbeat", 6, 0, "offline"))[2]
    for client in (host, stranger, service, *players):
        await client.ws.close()
    return found


@says(
    "The rules' error codes, which are `rule_codes` in `protocol.json`.",
    "| `same_player` | killer and victim are the same player |",
)
async def test_rules_refuse_with_the_codes_of_the_page(node: Node) -> None:
    """Each code of the table but those that have a test of their own or cannot be reached: `too_many_subscriptions`
    below, `bad_text` for what only other applications take, `party_exists` for two commands with one digest, those of
    logins (`test_login_policies.py`), bounds of lists (`test_friends_rules.py`, `test_admission_rules.py`,
    `test_session_presence.py`), hosts that are players (`test_player_hosts.py`), logs that were restored
    (`test_session_streams.py`), persons that were erased (`test_tombstones.py`), replays
    (`test_session_replays.py`)."""
    table = set(
        re.findall(r"\| `([a-z_]+)` \| [a-z]", PAGE.partition("The rules' error codes")[2].partition("## 7")[0])
    )
    assert table == {rule["code"] for rule in DESCRIBED["rule_codes"]}
    found = await refusals(node) | await refusals_of_moderation(node) | await refusals_of_parties(node)
    found |= await refusals_of_people(node)
    assert {code: said for code, said in found.items() if code != said} == {}
    own = {"too_many_subscriptions", "bad_text", "party_exists", "replaced", "occupied"}
    own |= {"too_many_friends", "too_many_invites", "too_many_blocks", "too_many_names", "too_many_watched"}
    own |= {"party_late", "bad_host", "hosts_too_many", "history_changed", "too_many_replays", "past_limit", "erased"}
    assert table - set(found) == own


@says("A session may watch 64 topics.", "| watched topics | 64 | `too_many_subscriptions` |")
async def test_topics_of_a_session_have_a_bound(node: Node) -> None:
    host = await node.enter("host")
    topics = [f"match/{node.name('m')}" for _ in range(65)]
    for number, topic in enumerate(topics, 1):
        assert (await host.ask("match.create", 1, "l", number, topic.partition("/")[2]))[0] == "accepted"
    watcher = await node.enter("service")
    for topic in topics[:64]:
        assert (await watcher.ask("watch", 2, topic))[0] == "watching"
        await watcher.say("ack", 0, max((push[1] for push in watcher.pushes), default=0))
    assert (await watcher.ask("watch", 3, topics[64]))[:3] == ["error", 3, "too_many_subscriptions"]
    await watcher.ask("unwatch", 4, topics[0])
    assert (await watcher.ask("watch", 5, topics[64]))[0] == "watching"
    for client in (host, watcher):
        await client.ws.close()


# ---- 7. closing ----


@says(
    "Closing with 1000 yourself does the same.",
    "Any other end leaves the session to be resumed.",
    "the session is not kept",
)
async def test_ends_of_a_session(node: Node) -> None:
    async def is_kept(client: Line) -> bool:
        back = await node.enter("player", client.welcome[4], client.welcome[6])
        await back.ws.close()
        return bool(back.welcome[7])

    left = await node.enter()
    assert await left.ask("close", 2) == ["done", 2]
    assert await left.close_code() == 1000 and not await is_kept(left)
    for code, kept in ((1000, False), (1001, True), (3000, True), (4999, True)):
        client = await node.enter()
        await client.ws.close(code)
        assert await is_kept(client) is kept, code
    client = await node.enter()
    client.ws.transport.abort()
    assert await is_kept(client)


VIOLATIONS = {
    "1002: a reserved bit": (b"\xc1\x80\x00\x00\x00\x00", 1002),
    "1002: no mask": (b"\x81\x02[]", 1002),
    "1002: an unknown opcode": (b"\x83\x80\x00\x00\x00\x00", 1002),
    "1003: a binary frame in JSON": (b"\x82\x82\x00\x00\x00\x00[]", 1003),
    "1007: no UTF-8": (b"\x81\x82\x00\x00\x00\x00\xff\xff", 1007),
    "1009: too large": (b"\x81\xff" + struct.pack("!Q", 65_537) + bytes(4 + 65_537), 1009),
}


@says(
    "| 1002 | protocol_error | a frame broke RFC 6455",
    "| 1003 | unsupported | a text frame in the binary subprotocol, or the other way | stop |",
    "| 1007 | bad_utf8 | a text message, or a close reason, is not UTF-8 | stop |",
    "| 1009 | too_big | a message, its fragments together, over `max_frame_bytes`, or over 8 KiB before"
    " the welcome | stop |",
)
@pytest.mark.parametrize("what", VIOLATIONS)
async def test_violation_is_closed_with_its_code(node: Node, what: str) -> None:
    frames, code = VIOLATIONS[what]
    client = await node.enter()
    client.ws.transport.write(frames)
    assert await client.close_code() == code
    if code == 1003:
        other = await node.enter(subprotocol=MSGPACK)
        await other.ws.send("[]")
        assert await other.close_code() == 1003


# ---- 8. limits ----


def test_limits_of_the_page_are_the_defaults() -> None:
    """The node of this file has some shorter ones."""
    table = PAGE.partition("## 8. Limits")[2].partition("## 9")[0]
    usual = GatewaySettings()
    for words in (
        f"| messages | {usual.rate_per_s} a second, {usual.rate_burst} at once",
        f"{usual.rate_violations} refused in a row: closed, 4006",
        f"| requests that wait for an answer | {usual.max_in_flight} | `overloaded` |",
        f"| unacknowledged pushes | {usual.outbox_max_messages:,}, or {usual.outbox_max_bytes >> 20} MiB |",
        f"| watched topics | {usual.max_subscriptions} |",
        f"| time for the hello | {usual.hello_timeout_s:g} s | closed, 4003 |",
    ):
        assert words in table
    assert "(64 KiB unless the welcome says otherwise)" in PAGE and usual.max_frame_bytes == 64 * 1024
    assert "45 s after the last sign of a client that fell silent (three heartbeat intervals of 5 s" in PAGE
    assert usual.heartbeats_missed * usual.heartbeat_interval_s + usual.resume_window_s == 45


@says(
    "`rate_limited` has a `retry_after_ms` of its own for each message: of ten refused together each is told a later"
    " time.",
    "Who sends each of them again no earlier than that is never closed for it.",
    "| 4006 | flood | too many refused messages in a row",
)
async def test_rate(node: Node) -> None:
    client = await node.enter(subprotocol=MSGPACK)
    refused: list[tuple[float, Wire]] = []
    while not refused:  # a busy machine may have been slow enough for all of them
        beats = [Frame(Opcode.BINARY, msgpack.packb(["heartbeat", number])) for number in range(1, 481)]
        client.ws.transport.write(b"".join(frame.serialize(mask=True) for frame in beats))
        for _ in beats:
            answer = await client.hear()
            if answer[0] == "error":
                refused.append((time.monotonic() + answer[4] / 1000, answer))
    assert len(refused) < 100 and {answer[2] for _, answer in refused} == {"rate_limited"}
    due = [due_at for due_at, _ in refused]
    assert all(later > earlier - 0.05 for earlier, later in itertools.pairwise(due)) and due[-1] > due[0]
    for due_at, answer in refused:
        await asyncio.sleep(max(0.0, due_at - time.monotonic()) + 0.002)  # a timer may ring half a millisecond early
        await client.say("heartbeat", answer[1])
    assert {(await client.hear())[0] for _ in refused} == {"beat"}
    await client.ws.close()
    flood = await node.enter(subprotocol=MSGPACK)
    flood.ws.transport.write(b"".join(frame.serialize(mask=True) for frame in beats * 3))
    assert await flood.close_code() == 4006


# ---- what takes its time ----


@says(
    "after three intervals without any message the server closes with 4008",
    "but does not replace a heartbeat",
    "45 s after the last sign of a client that fell silent (three heartbeat intervals of 5 s, then `resume_window_ms`)",
    "Its match hears of it 10 s later, unless the player is back by then: `left` with the reason `disconnected`.",
    "When a connection breaks, the session stays for `resume_window_ms`.",
)
async def test_silence(node: Node) -> None:
    """All waits at once: a player in a match falls silent, another only pings, a session is resumed too late."""
    host, watcher, name = await node.enter("host"), await node.enter("service"), node.name("m")
    await host.ask("match.create", 1, "l", 1, name)
    silent, pinging, late = await node.enter(), await node.enter(), await node.enter()
    for player in (silent, pinging):
        await player.ask("match.join", 2, "l", 1, name, 0)
    began = time.monotonic()
    subject = silent.welcome[4]
    late.ws.transport.abort()
    closed: dict[str, tuple[int | None, float]] = {}

    async def end_of(what: str, player: Line) -> None:
        closed[what] = await player.close_code(), time.monotonic() - began

    async def ping() -> None:
        while "pinging" not in closed:
            await pinging.ws.ping()
            await asyncio.sleep(0.3)

    async def watch() -> dict[str, float]:
        """When the silent player was first seen offline, and when its place in the match was first seen left."""
        seen: dict[str, float] = {}
        while len(seen) < 2:
            await host.ask("match.tick", 3, name, 0)
            if (await watcher.ask("presence.get", 4, subject))[3] == "offline":
                seen.setdefault("offline", time.monotonic() - began)
            board = await watcher.ask("match.get", 5, name)
            if not next(row for row in board[9] if row[0] == subject)[2]:
                seen.setdefault("left", time.monotonic() - began)
            await asyncio.sleep(0.1)
        return seen

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(end_of("silent", silent))
        group.create_task(end_of("pinging", pinging))
        pings = group.create_task(ping())
        watching = group.create_task(watch())
    assert pings.done()
    silence_s = 3 * BEAT_S
    for what, (code, after_s) in closed.items():
        assert code == 4008 and silence_s - 0.5 < after_s < silence_s + BEAT_S + 2, (what, code, after_s)
    seen = watching.result()
    assert silence_s + RESUME_S - 0.5 < seen["offline"] < silence_s + RESUME_S + 5
    assert 9 < seen["left"] - seen["offline"] < 16
    back = await node.enter("player", late.welcome[4], late.welcome[6])
    assert back.welcome[7] is False
    for client in (host, watcher, back):
        await client.ws.close()
