"""Golden frames of docs/protocol.json and sentences of docs/protocol.md, tried against a live node."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import msgpack
import pytest
from msgspec.structs import replace
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from server.cli.common import token_maker
from server.cli.config import read_settings
from server.cli.local_cluster import Home, LocalCluster
from server.errors import BadToken
from server.sessions.tokens import check, own_rules
from tests.support.second_client import PUSHES, Wire

DOCS = Path(__file__).parents[2] / "docs"
DESCRIBED: dict[str, Any] = json.loads((DOCS / "protocol.json").read_text("utf-8"))
REQUESTS = {message["type"]: message for message in DESCRIBED["messages"] if message["kind"] == "request"}
TYPES = {message["name"]: message["type"] for message in DESCRIBED["messages"]}
GOLDEN = [frame for frame in DESCRIBED["golden"] if frame["type"] in REQUESTS]
FULL = [frame for at, frame in enumerate(GOLDEN) if at == 0 or GOLDEN[at - 1]["type"] != frame["type"]]
SHORT = [frame for frame in GOLDEN if frame not in FULL]

MakeToken = Callable[[str, str], str]


class Line:
    """A connection that says frames as they are, and reads what comes."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.text = ws.subprotocol == "garrison.v1.json"
        self.welcome: Wire = []
        self.pushes: list[Wire] = []

    async def say(self, *wire: Any) -> None:
        await self.ws.send(json.dumps(wire) if self.text else msgpack.packb(wire))

    async def hear(self) -> Wire:
        """The next answer; pushes are put aside."""
        while True:
            frame = await self.ws.recv()
            wire: Wire = json.loads(frame) if self.text else msgpack.unpackb(frame)  # type: ignore[arg-type]
            if wire[0] not in PUSHES:
                return wire
            self.pushes.append(wire)

    async def ask(self, *wire: Any) -> Wire:
        await self.say(*wire)
        return await self.hear()

    async def close_code(self) -> int | None:
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await self.hear()
        return closed.value.rcvd.code if closed.value.rcvd else None


async def line(url: str, subprotocol: str = "garrison.v1.json") -> Line:
    return Line(await connect(url, subprotocols=[Subprotocol(subprotocol)], compression=None))


async def welcomed(url: str, token: str, *fields: Any, subprotocol: str = "garrison.v1.json") -> Line:
    client = await line(url, subprotocol)
    client.welcome = await client.ask("hello", 1, token, *fields)
    assert client.welcome[0] == "welcome"
    return client


@asynccontextmanager
async def one_node(path: Path) -> AsyncIterator[tuple[str, MakeToken, Path]]:
    """The client url of a node with the game, its `token(subject, role)`, and its database."""
    nodes = LocalCluster(Home(path), 1, 0, [])
    try:
        await nodes.prepare("page")
        await nodes.start(lambda text: None)
        yield nodes.gateways[0], token_maker(read_settings(nodes.home.config)), nodes.home.database
    finally:
        await nodes.stop()


NAMES_NOBODY = {
    "match.pass_host": ["match_ended", "bad_host"],  # players host no matches where the application does not let them
    "match.report": ["unknown_player"],  # the victim takes part in a match of the mode "recorded" only
    "match.reserve": ["bad_reservation"],  # what may be left out says for whom
    "match.unkick": ["match_ended"],  # the last player was kicked
    "match.end": ["match_ended"],
}


def names_nobody(kind: str, answer: Wire) -> bool:
    """Whether a well-formed request is answered that what it names is not there; the name and code of a party are its
    node's to give."""
    codes = ["not_found", "no_such_code"] if kind.startswith("party.") else NAMES_NOBODY.get(kind, [])
    return answer[:2] == ["error", 12] and answer[2] in codes


LAST = (
    "unwatch", "close", "watch_latest", "match.kick", "match.unkick", "match.end", "match.get", "match.pass_host",
)  # fmt: skip
"""Requests after which others have nothing to act on, in the order in which they are said."""


def in_order(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those about matches first, and each time the last ones last."""
    order = {kind: place for place, kind in enumerate(LAST, 1)}
    return sorted(frames, key=lambda frame: ("match." not in frame["type"], order.get(frame["type"], 0)))


async def say_golden(frames: list[dict[str, Any]], url: str, token: MakeToken, subprotocol: str) -> None:
    """Say each frame as its role, byte by byte as it is described; each is answered as it is described. Only the
    token of a hello and of a renewal is put in, and `ack` has something to acknowledge."""
    players: dict[str, Line] = {}

    async def speaker(role: str) -> Line:
        if role not in players:
            client = players[role] = await line(url, subprotocol)
            hello = list(FULL[0]["wire"])
            hello[2] = token(f"{role}-7", role)
            assert (await client.ask(*hello))[0] == "welcome"
        return players[role]

    host, player = await speaker("host"), await speaker("player")
    for number in range(1, 4):
        await host.ask("match.create", 1, "before", number, f"before-{number}")
        await player.ask("match.join", 1, "before", number, f"before-{number}")
        await player.ask("match.leave", 1, "before", 10 + number, f"before-{number}")
    assert [push[:2] for push in player.pushes] == [["match.assigned", number] for number in (1, 2, 3)]
    for name in ("friend-1", "friend-2"):
        friend = players[name] = await line(url, subprotocol)
        hello = list(FULL[0]["wire"])
        hello[2] = token(name, "player")
        assert (await friend.ask(*hello))[0] == "welcome"
        assert (await friend.ask("friends.invite", 1, "before", 1, "player-7"))[0] == "saved"
    while [entry[1] for entry in (await player.ask("friends.list", 1))[2]] != ["inviting"] * 2:
        pass
    answers: dict[str, Wire] = {}
    assert {frame["type"] for frame in FULL} == set(REQUESTS)
    for frame in in_order(frames):
        kind, message = frame["type"], REQUESTS[frame["type"]]
        if kind in ("hello", "watch_latest"):
            continue  # said above; the game has no latest topic
        of_match = kind.startswith(("match.", "replay.")) or kind in ("watch", "unwatch")
        first = "host" if of_match else "player"  # the match is private, and the player has left
        client = await speaker(next(role for role in (first, "player", "host", "service") if role in message["roles"]))
        if kind == "token.renew":
            renewed = await client.ask(kind, 12, token("player-7", "player"))
            assert renewed[:2] == ["renewed", 12] and renewed[2] > 0
            continue
        await client.ws.send(frame["json"] if client.text else bytes.fromhex(frame["msgpack"]))
        if kind == "ack":
            assert frame["wire"][1] == 0
            continue  # never answered; that it was taken shows in what comes after
        answer = await client.hear()
        while answer[0] in ("presence.changes", "presence.friends"):
            answer = await client.hear()
        answers[kind] = answer
        right = answer[0] in [TYPES[name] for name in message["answers"]]
        assert right or names_nobody(kind, answer), (frame["json"], answer)
        assert answer[1] == 12 or answer[0] == "beats"
    if frames is FULL:
        assert answers["match.report"][3:] == [
            7,
            13,
        ]  # created, a password, described, joined, left, started, and then its six
        assert answers["match.get"][3] == "ended"
        assert await player.close_code() == 1000
    for client in players.values():
        await client.ws.close()


@pytest.mark.parametrize("subprotocol", list(DESCRIBED["subprotocols"]))
async def test_golden_frames_of_a_client_are_accepted_by_a_live_node(subprotocol: str, tmp_path: Path) -> None:
    """F41."""
    async with one_node(tmp_path / "full") as (url, token, _):
        await say_golden(FULL, url, token, subprotocol)
    async with one_node(tmp_path / "short") as (url, token, _):
        await say_golden(SHORT, url, token, subprotocol)


async def raw_answer(url: str, request: bytes) -> bytes:
    host, _, port = url.removeprefix("ws://").rstrip("/").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    try:
        return await reader.readline()
    finally:
        writer.close()


async def test_sentences_of_the_page_hold_at_a_live_node(tmp_path: Path) -> None:
    """D4, D5, D7, D8, D11, D13, D14, D15, D16, D22, F34: what developers asked, tried."""
    async with asyncio.timeout(60), one_node(tmp_path / "home") as (url, token, _):
        host = await welcomed(url, token("host", "host"))
        players = {name: await welcomed(url, token(name, "player")) for name in ("Emile", "emile", "jun")}
        emile = players["Emile"]

        await emile.ask("profile.set", 1, "l", 1, "Ame\u0301lie", "")
        assert (await emile.ask("profile.get", 2, "Emile"))[3] == "Ame\u0301lie"
        assert (await emile.ask("profile.get", 2, "emile"))[3] == "emile"
        await emile.ws.send(r'["profile.set", 3, "l", 2, "a\ud800"]')
        assert (await emile.hear())[:3] == ["error", 3, "bad_frame"]

        await host.ask("match.create", 1, "l", 1, "m", ["slayer", "", 2, 8, 0, 0, True, 0])
        assert (await host.ask("match.start", 2, "l", 2, "m"))[:3] == ["error", 2, "no_players"]
        for name, player in players.items():
            await player.ask("match.join", 4, "j", 1, "m", 1 if name == "jun" else 0)
        await emile.ask("presence.set", 5, "invisible")
        assert (await host.ask("presence.get", 3, "Emile"))[3] == "offline"
        assert (await host.ask("match.start", 2, "l", 2, "m"))[0] == "accepted"  # refused before, so judged anew

        kills = [["kill", 5_000, "Emile", "emile"], ["kill", 5_000, "Emile", "jun"]]
        assert (await host.ask("match.report", 4, "l", 3, "m", kills))[0] == "accepted"
        for number, rest in enumerate(([0, "jun"], [None, None], [9, None])):
            answer = await host.ask("match.report", 5, "l", 4 + number, "m", [["score", 5_000, 1, *rest]])
            assert answer[2] == ("bad_team" if rest[0] == 9 else "no_target")
        board = await host.ask("match.get", 6, "m")
        assert {line[0]: line[3:5] for line in board[9]} == {"Emile": [1, 0], "emile": [0, 1], "jun": [0, 1]}
        assert board[8] == [1, 0]

        again = [["kill", 0, "jun", "emile"]]
        assert (await host.ask("match.report", 7, "new", 1, "m", again))[2] == "clock_backwards"
        assert (await host.ask("match.tick", 8, "m", 0))[0] == "accepted"
        time_ms = (await host.ask("match.get", 9, "m"))[7]
        assert time_ms == 5_000
        again[0][1] = time_ms
        assert (await host.ask("match.report", 10, "new", 1, "m", again))[0] == "accepted"

        watching = await host.ask("watch", 11, "match/m", 500)
        assert watching[0] == "watching" and watching[3] < 500  # D22: what a restored database looks like
        await host.ask("match.create", 12, "l", 9, "m-2")
        first = await host.ask("match.list", 13, 1)
        second = await host.ask("match.list", 14, 1, first[4])
        assert [row[0] for page in (first, second) for row in page[2]] == ["m-2", "m"]  # a lobby among them

        jun = players["jun"]
        jun.ws.protocol.send_close()  # as a browser's close() without a code
        for data in jun.ws.protocol.data_to_send():
            jun.ws.transport.write(data)
        await jun.ws.wait_closed()
        assert jun.ws.close_code == 1000
        back = await line(url)
        assert (await back.ask("hello", 1, token("jun", "player"), jun.welcome[6]))[7] is True
        await back.ws.close(3001)
        last = await line(url)
        assert (await last.ask("hello", 1, token("jun", "player"), jun.welcome[6]))[7] is True

        assert (await raw_answer(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).split()[1] == b"426"
        proxied = b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
        assert (await raw_answer(url, proxied)).split()[1] == b"400"
        for client in (host, *players.values(), last):
            await client.ws.close()


def claims(**other: object) -> dict[str, object]:
    now_s = int(time.time())
    return {"iss": "garrison", "sub": "jun", "role": "player", "iat": now_s, "exp": now_s + 60} | other


@pytest.mark.parametrize("missing", ["iss", "sub", "role", "iat", "exp"])
def test_each_claim_that_the_page_names_is_needed(missing: str) -> None:
    """D2; any JWT library makes a token, with the text of the key."""
    key = "0123456789abcdef0123456789abcdef"
    whole = claims()
    now_ms = int(time.time() * 1000)
    assert check(jwt.encode(whole, key, "HS256"), own_rules(key.encode()), now_ms).subject == "jun"
    del whole[missing]
    with pytest.raises(BadToken):
        check(jwt.encode(whole, key, "HS256"), own_rules(key.encode()), now_ms)


@pytest.mark.parametrize(
    ("audience", "aud", "good"),
    [
        (None, None, True),
        (None, "garrison", True),
        (None, "shop", False),
        ("eu", None, False),
        ("eu", ["x", "eu"], True),
    ],
)
def test_the_audience_is_heeded_as_the_page_says(audience: str | None, aud: Any, good: bool) -> None:
    """D2."""
    key, now_ms = "0123456789abcdef0123456789abcdef", int(time.time() * 1000)
    token = jwt.encode(claims(**({} if aud is None else {"aud": aud})), key, "HS256")
    if good:
        check(token, replace(own_rules(key.encode()), audience=audience), now_ms)
    else:
        with pytest.raises(BadToken):
            check(token, replace(own_rules(key.encode()), audience=audience), now_ms)
