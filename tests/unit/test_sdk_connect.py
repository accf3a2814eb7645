"""The SDK's connection: hello, redirects, reconnects, close codes, resume, heartbeats."""

import asyncio
import contextlib
import json
import random
import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

import garrison
from garrison.errors import BadInput, BadToken, Internal, NotFound, SessionClosed, TokenExpired, Unavailable
from garrison.messages import CLOSE_CODES, Going, MatchAssigned
from tests.support.sdk import FAST, PATIENT, Talk, scripted, until, welcome_and_idle

DOCS = Path(__file__).parents[2] / "docs"
THEN = re.findall(r"^\| (\d{4}) \|.*\| ([^|]+) \|$", (DOCS / "protocol.md").read_text("utf-8"), re.MULTILINE)
ERRORS = json.loads((DOCS / "protocol.json").read_text("utf-8"))["errors"]


def free_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{probe.getsockname()[1]}"


async def cannot_connect(client: garrison.Client, why: str) -> Unavailable:
    """What `client` raises for the first failure that it has had, once its time is over, which is then."""
    patient = asyncio.ensure_future(client.open())
    await until(lambda: client.stats.connect_failures > 0)
    client.options = replace(client.options, connect_timeout_s=0.0)
    with pytest.raises(Unavailable, match=why) as caught:
        await client.open()
    await asyncio.gather(patient, return_exceptions=True)
    return caught.value


async def test_hello_and_welcome() -> None:
    async with scripted(welcome_and_idle) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        assert client.connected
        assert client.welcome is not None and client.welcome.subject == "p1"
        assert server.talks[0].hello[2:] == ["tok", None, 0, "garrison-python", True, [], None, ""]


async def test_a_client_needs_an_address() -> None:
    with pytest.raises(ValueError, match="at least one url"):
        garrison.connect([], "tok")


async def test_a_server_of_another_protocol_is_left() -> None:
    async with (
        serve(lambda ws: ws.wait_closed(), "127.0.0.1", 0, close_timeout=1) as foreign,
        scripted(welcome_and_idle) as server,
    ):
        other = f"ws://127.0.0.1:{next(iter(foreign.sockets)).getsockname()[1]}"
        await cannot_connect(garrison.connect(other, "tok", options=PATIENT), re.escape(other))
        async with garrison.connect([other, server.url], "tok", options=FAST) as client:
            assert client.url == server.url


async def test_a_server_that_does_not_answer_is_left_in_time() -> None:
    async def mute(talk: Talk) -> None:
        await talk.recv()
        await talk.idle()

    options = replace(FAST, open_timeout_s=0.1)
    async with scripted(mute, welcome_and_idle) as server:
        async with garrison.connect(server.url, "tok", options=options) as client:
            assert client.stats.connect_failures >= 1  # on a busy machine the other one is left, too
        assert len(server.talks) >= 2


async def test_redirect_is_followed() -> None:
    async with scripted(welcome_and_idle) as home:

        async def redirect(talk: Talk) -> None:
            hello = await talk.recv()
            await talk.send("redirect", hello[1], home.url, "n2")
            await talk.close(4005)

        async with scripted(redirect) as gate, garrison.connect(gate.url, "tok", options=FAST) as client:
            assert client.url == home.url
            assert client.stats.redirects == 1


async def test_redirects_are_bounded() -> None:
    async def around(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("redirect", hello[1], server.url, "n1")

    async with scripted(around) as server:
        await cannot_connect(garrison.connect(server.url, "tok", options=PATIENT), "redirected more than 5 times")
        assert len(server.talks) >= 6


async def test_seeds_are_tried_in_turn() -> None:
    async with scripted(welcome_and_idle) as server:
        urls = [free_url(), free_url(), server.url]
        async with garrison.connect(urls, "tok", options=FAST) as client:
            assert client.url == server.url


async def test_nobody_there_is_an_error_in_time() -> None:
    with pytest.raises(Unavailable):
        await garrison.connect(free_url(), "tok", options=replace(FAST, connect_timeout_s=0.2)).open()


async def test_reconnects_after_a_break() -> None:
    async def drop(talk: Talk) -> None:
        await talk.welcome()
        talk.drop()

    async with scripted(drop, drop, welcome_and_idle) as server:
        async with garrison.connect(server.url, "tok", options=FAST) as client:
            await until(lambda: client.stats.connects == 3)
            await client.wait_connected()
        assert len(server.talks) == 3


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (4001, BadToken),
        (4004, SessionClosed),
        (4012, SessionClosed),
        (4013, SessionClosed),
        (4100, SessionClosed),
        (4002, TokenExpired),
    ],
)
async def test_final_close_codes_end_the_client(code: int, error: type[Exception]) -> None:
    async def close(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("match.get")
        await talk.close(code)

    async with scripted(close) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        with pytest.raises(error):
            await client.scoreboard("m1")
        with pytest.raises(error):
            await client.scoreboard("m1")
        assert len(server.talks) == 1


def test_the_page_has_all_close_codes() -> None:
    assert [int(code) for code, _ in THEN] == list(CLOSE_CODES)


@pytest.mark.parametrize("welcomed", [False, True])
@pytest.mark.parametrize(("code", "then"), THEN)
async def test_each_close_code_is_followed_as_the_page_says(code: str, then: str, welcomed: bool) -> None:
    async def close(talk: Talk) -> None:
        await (talk.welcome() if welcomed else talk.recv())
        await talk.close(int(code))

    async with scripted(close, welcome_and_idle) as server:
        client = garrison.connect(server.url, lambda: "tok", options=FAST)
        stops = then.startswith("stop")
        if stops:
            with pytest.raises((SessionClosed, BadToken), match=code):
                await client.open()
                await client.scoreboard("m1")
        else:
            await client.open()
            await until(lambda: len(server.talks) == 2 and client.connected)
        await client.aclose()
        assert len(server.talks) == (1 if stops else 2)


FOR_GOOD = {"bad_input", "bad_frame", "unknown_type", "bad_token", "forbidden", "not_found", "rejected", "banned"}
"""The errors that refuse a player: another hello is answered no better."""


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("code", [*(error["code"] for error in ERRORS), "banned"])
async def test_a_refused_hello_is_said_again_only_where_that_may_help(code: str, again: bool) -> None:
    """Also by a client that had a session."""

    async def welcome(talk: Talk) -> None:
        await talk.welcome()
        talk.drop()

    async def refuse(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], code, "because", None)
        await talk.close(4001 if code in FOR_GOOD else 1011)

    async with scripted(*([welcome] if again else []), refuse, welcome_and_idle) as server:
        client = garrison.connect(server.url, lambda: "tok", options=FAST)
        if code in FOR_GOOD:
            with pytest.raises(garrison.GarrisonError, match="because") as caught:
                await client.open()
                await client.scoreboard("m1")
            assert caught.value.code == code
        else:
            await client.open()
            await until(lambda: len(server.talks) == 2 + again and client.connected)
        await client.aclose()
        assert len(server.talks) == 1 + again + (code not in FOR_GOOD)


async def test_an_expired_token_is_made_anew() -> None:
    async def expired(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], "token_expired", "too old", None)
        await talk.close(4002)

    made: list[str] = []

    async def token() -> str:
        made.append(f"tok{len(made)}")
        return made[-1]

    async with scripted(expired, welcome_and_idle) as server, garrison.connect(server.url, token, options=FAST):
        assert server.talks[1].hello[2] == "tok1"


async def test_a_refused_token_is_an_error_at_once() -> None:
    async def refuse(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], "bad_token", "forged", None)
        await talk.close(4001)

    async with scripted(refuse) as server:
        with pytest.raises(BadToken, match="forged"):
            await garrison.connect(server.url, "tok", options=FAST).open()
        assert len(server.talks) == 1


async def test_a_token_that_cannot_be_made_is_tried_again() -> None:
    made = 0

    def token() -> str:
        nonlocal made
        made += 1
        if made == 2:
            raise OSError("nobody there")
        return f"tok{made}"

    async def drop(talk: Talk) -> None:
        await talk.welcome()
        talk.drop()

    async with (
        scripted(drop, welcome_and_idle) as server,
        garrison.connect(server.url, token, options=FAST) as client,
    ):
        await until(lambda: client.stats.connects == 2)
        assert server.talks[1].hello[2] == "tok3"


async def test_why_no_token_can_be_made_is_told() -> None:
    async def token() -> str:
        raise OSError("nobody there")

    failure = await cannot_connect(garrison.connect(free_url(), token, options=PATIENT), r"no token: .*nobody there")
    assert isinstance(failure.__cause__, OSError)


async def test_the_programs_own_error_for_a_token_is_told_as_it_is() -> None:
    def token() -> str:
        raise NotFound("no such player")

    with pytest.raises(NotFound, match="no such player"):
        await garrison.connect(free_url(), token, options=FAST).open()


async def test_a_fault_at_a_timer_ends_the_client_too() -> None:
    class Broken(random.Random):
        welcomed = False

        def uniform(self, a: float, b: float) -> float:
            if self.welcomed:
                raise RuntimeError("broken")
            return super().uniform(a, b)

    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("watch")
        await talk.idle()

    rng = Broken()
    options = replace(FAST, request_timeout_s=0.05, max_queued=1)
    async with scripted(script) as server, garrison.connect(server.url, "tok", options=options, rng=rng) as client:
        events = client.watch("match/m1")
        with pytest.raises(garrison.errors.Overloaded):
            await client.scoreboard("m1")
        rng.welcomed = True
        client._core._requests._options = replace(options, max_queued=0)  # then it has to wait, by chance
        with pytest.raises(Internal, match="broken"):
            await anext(events)
        with pytest.raises(Internal, match="broken"):
            await client.scoreboard("m1")


async def test_a_fault_in_the_client_ends_it_and_wakes_who_waits() -> None:
    class Broken(random.Random):
        def uniform(self, a: float, b: float) -> float:
            raise RuntimeError("broken")

    client = garrison.connect(free_url(), "tok", options=FAST, rng=Broken())
    waiting = asyncio.ensure_future(client.scoreboard("m1"))
    with pytest.raises(Internal, match="broken") as caught:
        await client.open()
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(Internal, match="broken"):
        await waiting


async def test_a_cancelled_client_wakes_who_waits() -> None:
    async def token() -> str:
        raise asyncio.CancelledError

    with pytest.raises(SessionClosed, match="cancelled"):
        await garrison.connect(free_url(), token, options=FAST).open()


async def test_a_token_or_name_that_cannot_be_sent_is_an_error_at_once() -> None:
    async with scripted(welcome_and_idle) as server:
        for token, name in (("\ud800", "name"), ("tok", "\ud800")):
            with pytest.raises(BadInput, match="Hello cannot be sent"):
                await garrison.connect(server.url, token, name=name, options=FAST).open()
        assert not server.talks


@pytest.mark.parametrize("url", ["nonsense", "http://localhost", "ws://localhost:99999", "ws://[::"])
async def test_a_url_that_is_none_is_an_error_at_once(url: str) -> None:
    with pytest.raises(BadInput, match=re.escape(url)):
        garrison.connect(["ws://localhost:7350", url], "tok")


async def test_a_retry_hint_is_honoured() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    async def full(talk: Talk) -> None:
        times.append(loop.time())
        hello = await talk.recv()
        await talk.send("error", hello[1], "overloaded", "full", 150)

    async def take(talk: Talk) -> None:
        times.append(loop.time())
        await welcome_and_idle(talk)

    async with scripted(full, take) as server, garrison.connect(server.url, "tok", options=FAST):
        assert times[1] - times[0] >= 0.15


async def test_resume_sends_the_token_and_what_it_has() -> None:
    async def first(talk: Talk) -> None:
        await talk.welcome(resume="keep-me")
        await talk.send("match.assigned", 1, "m1")
        await talk.send("match.assigned", 2, "m2")
        await talk.expect("match.get")  # the client has read what came before
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome(recovered=True, resume="keep-me-2")
        await talk.send("match.assigned", 2, "m2")
        await talk.send("match.assigned", 3, "m3")
        await talk.idle()

    async with scripted(first, second) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        pushes = client.pushes()
        async with asyncio.timeout(5):
            seen: list[Any] = [await anext(pushes), await anext(pushes)]
            asking = asyncio.ensure_future(client.scoreboard("m1"))
            seen.append(await anext(pushes))
        asking.cancel()
        assert [push.match for push in seen if isinstance(push, MatchAssigned)] == ["m1", "m2", "m3"]
        assert server.talks[1].hello[3:5] == ["keep-me", 2]
        assert client.stats.recovered == 1


async def test_a_missing_push_starts_afresh() -> None:
    async def gap(talk: Talk) -> None:
        await talk.welcome(resume="old")
        await talk.send("match.assigned", 1, "m1")
        await talk.send("match.assigned", 3, "m3")
        await talk.idle()

    async with (
        scripted(gap, welcome_and_idle) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        await until(lambda: client.stats.connects == 2)
        assert client.stats.push_gaps == 1
        assert server.talks[1].hello[3] is None


@pytest.mark.parametrize(
    "wire",
    [
        [["x"], 1],
        [None, 1],
        {"a": 1},
        b"\xc1",
        ["events", 1, "match/m1", 1, 5],
        ["events", 1, "match/m1", "1", [["kill", 1, "p1", "p2"]]],
        ["events", 1, "match/m1", True, []],
        ["events", 1, "match/m1", 1, [7]],
        ["events", 1, "match/m1", 1, [["created", 1, "h", 5, 0]]],
        ["events", 1, [], 1, []],
        ["events", "1", "match/m1", 1, []],
        ["match.assigned", 1, 5],
        ["beats", "1"],
        ["done", []],
        ["error", 1, None, None, None],
        ["error", 1, [], "", None],
        ["error", 1, "retry", "", "soon"],
        ["going", 1, "ws://localhost", "soon"],
        ["going", 1, 5, 100],
        ["going", 1],
        ["matches", 1, None, []],
        ["scoreboard", 1, "m1", "live", "slayer", "", "h", 9, [], ["123456789"], 1, None, None],
    ],
    ids=repr,
)
async def test_a_frame_that_is_no_message_breaks_the_connection_and_no_more(wire: Any) -> None:
    codes: list[int | None] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("match.get")
        await talk.ws.send(wire if isinstance(wire, bytes) else msgpack.packb(wire))
        with pytest.raises(ConnectionClosed):
            await talk.idle()
        codes.append(talk.ws.close_code)

    async with (
        scripted(script, welcome_and_idle) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        client.watch("match/m1")
        asking = asyncio.ensure_future(client.scoreboard("m1"))
        await until(lambda: client.stats.connects == 2 and client.connected)
        asking.cancel()
        assert codes == [1002]
        assert client.stats.pushes == client.stats.heartbeats_acknowledged == 0
        assert server.talks[1].hello[3:5] == [None, 0]  # resumed, it might come again


async def test_a_welcome_that_is_none_is_asked_for_again() -> None:
    async def script(talk: Talk) -> None:
        hello = await talk.recv()
        tail = ["often", 30_000, 65_536, 0]
        await talk.send("welcome", hello[1], "s", "n1", "p1", "player", "r", False, *tail)
        await talk.idle()

    async with (
        scripted(script, welcome_and_idle) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        assert client.connected
        assert len(server.talks) == 2


NOWHERE = ["nonsense", "http://localhost", "ws://localhost:99999", "ws://[::", f"ws://{'a' * 64}.invalid", "free"]


@pytest.mark.parametrize("url", NOWHERE)
async def test_a_client_that_is_sent_nowhere_goes_on_with_its_own_urls(url: str) -> None:
    nowhere = free_url() if url == "free" else url

    async def going(talk: Talk) -> None:
        await talk.welcome()
        await talk.send(*Going(nowhere, 50, seq=1).to_wire())
        await talk.idle()

    async def redirect(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("redirect", hello[1], nowhere, "n2")
        await talk.close(4005)

    async with (
        scripted(going, redirect, welcome_and_idle) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        await until(lambda: client.stats.connects == 2 and client.connected)
        assert client.url == server.url
        assert client.stats.connect_failures == 2


async def test_heartbeats_at_the_told_interval_with_acks() -> None:
    beats: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome(interval_ms=20)
        await talk.send("match.assigned", 1, "m1")
        for count in range(1, 6):
            beats.append(await talk.expect("heartbeat"))
            await talk.send("beats", count)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        client.state = "menu"
        assert client.state == "menu"
        with pytest.raises(BadInput):
            client.state = "\ud800"
        await until(lambda: client.stats.heartbeats_acknowledged == 5)
        assert [beat[2:] for beat in beats[1:]] == [[1, "menu"]] * 4
    assert len(server.talks) == 1


async def test_a_silent_server_is_left() -> None:
    async def silent(talk: Talk) -> None:
        await talk.welcome(interval_ms=10)
        await talk.idle()

    async with (
        scripted(silent, welcome_and_idle) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
    ):
        await until(lambda: client.stats.connects == 2)


async def test_many_pushes_are_acknowledged_without_waiting_for_the_heartbeat() -> None:
    acks: list[int] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for number in range(1, 131):
            await talk.send("match.assigned", number, "m")
        while len(acks) < 2:
            acks.append((await talk.expect("ack"))[2])
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        await until(lambda: len(acks) == 2)
        assert acks == [64, 128]
        assert client.stats.pushes_dropped == 0
        assert server.url == client.url


async def test_pushes_are_bounded_and_drop_the_oldest() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        for number in range(1, 11):
            await talk.send("match.assigned", number, f"m{number}")
        await talk.idle()

    options = replace(FAST, push_buffer=4)
    async with scripted(script) as server, garrison.connect(server.url, "tok", options=options) as client:
        await until(lambda: client.stats.pushes == 10)
        assert client.stats.pushes_dropped == 6
        first = await anext(client.pushes())
        assert isinstance(first, MatchAssigned) and first.match == "m7"
        rest: list[str] = []
        reading = asyncio.ensure_future(_read(client, rest))
        await until(lambda: rest == ["m8", "m9", "m10"])
        await client.aclose()
        await reading  # and then no more
        assert len(rest) == 3


async def _read(client: garrison.Client, into: list[str]) -> None:
    async for push in client.pushes():
        assert isinstance(push, MatchAssigned)
        into.append(push.match)


async def test_going_moves_the_client_after_its_answers() -> None:
    async with scripted(welcome_and_idle) as other:

        async def script(talk: Talk) -> None:
            await talk.welcome()
            asked = await talk.expect("presence.get")
            await talk.send(*Going(other.url, 2_000, seq=1).to_wire())
            await talk.send("presence", asked[1], "p2", "online", "", None, 0)
            await talk.idle()

        async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
            assert (await client.get_presence("p2")).status == "online"
            await until(lambda: client.url == other.url)


async def test_nobody_is_moved_from_an_encrypted_connection_to_a_plain_one() -> None:
    async with scripted(welcome_and_idle) as other:

        async def script(talk: Talk) -> None:
            await talk.welcome()
            await talk.expect("match.get")
            await talk.send(*Going(other.url, 50, seq=1).to_wire())
            await talk.idle()

        async with (
            scripted(script, welcome_and_idle) as server,
            garrison.connect(server.url, "tok", options=FAST) as client,
        ):
            client._core.url = "wss://localhost"
            asking = asyncio.ensure_future(client.scoreboard("m1"))
            await until(lambda: client.stats.connects == 2)
            asking.cancel()
            assert (client.url, other.talks) == (server.url, [])


async def test_a_move_keeps_the_session_and_what_waits() -> None:
    async def there(talk: Talk) -> None:
        await talk.welcome(recovered=True, resume="r")
        await talk.send(*Going(other.url, 2_000, seq=1).to_wire())  # again: it was lost the first time
        asked = await talk.expect("presence.get")
        await talk.send("presence", asked[1], "p2", "online", "", None, 0)
        await talk.send("match.assigned", 2, "m")
        await talk.idle()

    async with scripted(there) as other:

        async def here(talk: Talk) -> None:
            await talk.welcome(resume="r")
            await talk.expect("presence.get")  # never answered
            await talk.send(*Going(other.url, 200, seq=1).to_wire())
            await talk.idle()

        async with scripted(here) as server, garrison.connect(server.url, "tok", options=FAST) as client:
            assert (await client.get_presence("p2")).status == "online"
            await until(lambda: client.stats.pushes == 2)
            assert (client.url, client.stats.connects, client.stats.recovered) == (other.url, 2, 1)
            assert other.talks[0].hello[3:5] == ["r", 1]
            assert (len(server.talks), len(other.talks), client.stats.push_gaps) == (1, 1, 0)


async def test_a_client_that_was_sent_away_returns_to_where_it_was_served_last() -> None:
    """The only node that the client was told of is gone; the one it moved to breaks off once."""

    async def drops_once(talk: Talk) -> None:
        await talk.welcome(recovered=True)
        if talk.number == 0:
            talk.drop()
        await talk.idle()

    async with scripted(drops_once) as other:

        async def here(talk: Talk) -> None:
            await talk.welcome()
            await talk.send(*Going(other.url, 100, seq=1).to_wire())
            await talk.idle()

        async with scripted(here) as server:
            client = garrison.connect(server.url, "tok", options=FAST)
            await client.open()
        await until(lambda: len(other.talks) == 2 and client.connected)
        assert client.url == other.url
        await client.aclose()


async def test_closing_says_so_and_fails_what_waits() -> None:
    async with scripted(welcome_and_idle) as server:
        client = garrison.connect(server.url, "tok", options=FAST)
        await client.open()
        asking = asyncio.ensure_future(client.scoreboard("m1"))
        await until(lambda: client.stats.requests_sent == 1)
        await client.aclose()
        with pytest.raises(SessionClosed):
            await asking
        with pytest.raises(SessionClosed):
            client.watch("match/m1")
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("garrison-")]


@pytest.mark.virtual_time
async def test_closing_ends_though_the_token_function_will_not() -> None:
    let_go = asyncio.Event()

    async def token() -> str:
        while not let_go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await let_go.wait()
        return "tok"

    client = garrison.connect("ws://127.0.0.1:1", token, options=FAST)
    opening = asyncio.create_task(client.open())
    await asyncio.sleep(0.1)
    async with asyncio.timeout(3):
        await client.aclose()
    with pytest.raises(SessionClosed):
        await opening
    let_go.set()
    await asyncio.sleep(0.1)
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("garrison-")]


@pytest.mark.virtual_time
async def test_the_token_function_may_close_the_client() -> None:
    async def token() -> str:
        await client.aclose()
        return "tok"

    client = garrison.connect("ws://127.0.0.1:1", token, options=FAST)
    async with asyncio.timeout(3):
        with pytest.raises(SessionClosed):
            await client.open()
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("garrison-")]


async def test_a_token_that_one_node_refuses_is_tried_at_another() -> None:
    """F64: also where the first one takes its time to come back to."""

    async def refuse(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], "bad_token", "forged", None)
        await talk.close(4001)

    async with scripted(refuse, refuse) as wrong, scripted(welcome_and_idle) as right:
        async with garrison.connect([wrong.url, right.url], "tok", options=FAST) as client:
            assert client.url == right.url
        assert len(wrong.talks) <= 1


async def test_a_node_that_redirects_to_one_that_refuses_the_token_is_asked_once() -> None:
    """F64: the word of two addresses, though only one of them said it."""

    async def refuse(talk: Talk) -> None:
        hello = await talk.recv()
        await talk.send("error", hello[1], "bad_token", "forged", None)
        await talk.close(4001)

    async with scripted(refuse, refuse, refuse) as wrong:

        async def redirect(talk: Talk) -> None:
            hello = await talk.recv()
            await talk.send("redirect", hello[1], wrong.url, "n2")
            await talk.close(4005)

        async with scripted(redirect, redirect, redirect) as first:
            with pytest.raises(BadToken, match="forged"):
                await garrison.connect([first.url, wrong.url], "tok", options=FAST).open()
            assert len(first.talks) <= 1 and len(wrong.talks) <= 2
