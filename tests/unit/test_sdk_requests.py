"""The SDK's requests: typed answers and errors, commands repeated by number, bounds, the host."""

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import garrison
from garrison.errors import (
    BadInput,
    ConnectionLost,
    DeadlineExceeded,
    Fenced,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    RateLimited,
    Rejected,
    SessionClosed,
)
from garrison.messages import (
    Kill,
    MatchCreate,
    MatchGet,
    MatchOptions,
    MatchReport,
    Medal,
    PresenceField,
    PresenceGet,
    ProfileSet,
    RichPresence,
)
from tests.support.sdk import FAST, Talk, scripted, until, welcome_and_idle

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
REPEAT = [
    (code, repeat)
    for codes, repeat in re.findall(
        r"^\| [^|]*\| (`[^|]+`) \|[^|]+\| ([^|]+) \|$", PAGE.split("## 3.")[0], re.MULTILINE
    )
    for code in re.findall(r"`([a-z_]+)`", codes)
]
"""Each error code, and whether the page says to repeat after it."""


async def test_typed_answer() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("match.get")
        line = ["p1", None, True, 3, 1, 0, 2, 0, 300]
        await talk.send("scoreboard", asked[1], asked[2], "live", "slayer", "", "h", 9, [3, 1], [line], 12, None, None)

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        board = await client.scoreboard("m1")
        assert (board.match, board.players[0].kills, board.next_seq) == ("m1", 3, 12)


@pytest.mark.parametrize(
    ("code", "cls"),
    [("not_found", NotFound), ("bad_frame", BadInput), ("match_full", Rejected), ("rate_limited", RateLimited)],
)
async def test_typed_errors(code: str, cls: type[garrison.GarrisonError]) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("presence.get")
        await talk.send("error", asked[1], code, "because", 250)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        with pytest.raises(cls, match="because") as caught:
            await client.request(garrison.messages.PresenceGet("p2"))
        assert caught.value.code == code
        assert caught.value.retry_after_s == 0.25


async def test_a_command_keeps_its_number_over_errors_and_reconnects() -> None:
    seen: list[list[Any]] = []

    async def refuse(talk: Talk) -> None:
        await talk.welcome()
        for code in ("unavailable", "fenced", "overloaded"):
            asked = await talk.expect("profile.set")
            seen.append(asked)
            await talk.send("error", asked[1], code, "", 1)
        seen.append(await talk.expect("profile.set"))
        talk.drop()

    async def take(talk: Talk) -> None:
        await talk.welcome()
        seen.append(await talk.expect("profile.set"))
        await talk.send("saved", seen[-1][1], "player/p1", 7)
        await talk.idle()

    async with scripted(refuse, take) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        saved = await client.set_profile("Noble Six")
        assert (saved.entity, saved.version) == ("player/p1", 7)
        assert len(seen) == 5
        assert {tuple(wire[2:4]) for wire in seen} == {(client.lineage, 1)}
        assert len({wire[1] for wire in seen}) == 5  # each try has an id of its own


def test_the_page_has_all_error_codes() -> None:
    assert {code for code, _ in REPEAT} == set(garrison.errors.BY_CODE)


@pytest.mark.parametrize(("code", "repeat"), [*REPEAT, ("match_full", "no")])
async def test_a_command_is_repeated_after_the_errors_that_allow_it(code: str, repeat: str) -> None:
    asked: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked.append(await talk.expect("profile.set"))
        await talk.send("error", asked[-1][1], code, "because", None)
        asked.append(await talk.expect("profile.set"))
        await talk.send("saved", asked[-1][1], "player/p1", 7)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        if repeat == "no":
            with pytest.raises(garrison.GarrisonError, match="because") as caught:
                await client.set_profile("x")
            assert caught.value.code == code
        else:
            assert (await client.set_profile("x")).version == 7
            assert asked[0][2:] == asked[1][2:]


async def test_a_command_is_repeated_as_it_was_given() -> None:
    seen: list[list[Any]] = []
    events: list[Any] = [Kill(1, "p1", "p2")]

    async def script(talk: Talk) -> None:
        await talk.welcome()
        seen.append(await talk.expect("match.report"))
        events.append(Kill(2, "\ud800", None))
        await talk.send("error", seen[-1][1], "unavailable", "", None)
        seen.append(await talk.expect("match.report"))
        await talk.send("accepted", seen[-1][1], "m1", 1, 2)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        await client.request(MatchReport("m1", events))
        assert seen[0][2:] == seen[1][2:]
        assert seen[0][1] != seen[1][1]


BAD: list[Any] = [
    ProfileSet("\ud800"),
    MatchGet(2**64),  # type: ignore[arg-type]
    PresenceGet(object()),  # type: ignore[arg-type]
    MatchCreate("m1", None),  # type: ignore[arg-type]
    MatchReport("m1", [None]),  # type: ignore[list-item]
]


@pytest.mark.parametrize("message", BAD, ids=lambda message: type(message).__name__)
async def test_a_message_that_cannot_be_sent_is_an_error_at_once_and_takes_no_place(message: Any) -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.recv()
        await talk.send("presence", asked[1], "p2", "online", "", None, 0)
        await talk.idle()

    options = replace(FAST, max_in_flight=1, max_queued=1)
    async with scripted(script) as server:
        client = garrison.connect(server.url, "tok", options=options)
        with pytest.raises(BadInput, match=f"{type(message).__name__} cannot be sent"):
            await client.request(message)
        async with client:
            with pytest.raises(BadInput):
                await client.request(message)
            assert (await client.get_presence("p2")).status == "online"


async def test_commands_are_repeated_in_their_order() -> None:
    again: list[int] = []

    async def first(talk: Talk) -> None:
        await talk.welcome()
        for _ in range(5):
            await talk.expect("profile.set")
        talk.drop()

    async def second(talk: Talk) -> None:
        await talk.welcome()
        for _ in range(5):
            asked = await talk.expect("profile.set")
            again.append(asked[3])
            await talk.send("saved", asked[1], "player/p1", asked[3])
        await talk.idle()

    async with scripted(first, second) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        saved = await asyncio.gather(*(client.set_profile(f"name {n}") for n in range(5)))
        assert again == [1, 2, 3, 4, 5]
        assert [each.version for each in saved] == again


async def test_a_forgotten_outcome_is_not_asked_for_again() -> None:
    async def script(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("profile.set")
        await talk.send("error", asked[1], "outcome_unknown", "too old", None)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        with pytest.raises(OutcomeUnknown, match="too old"):
            await client.set_profile("x")
    assert issubclass(Fenced, OutcomeUnknown)


async def test_other_requests_fail_when_the_connection_breaks_unless_told_to_repeat() -> None:
    async def drop(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("match.join")
        await talk.expect("presence.get")
        talk.drop()

    async def answer(talk: Talk) -> None:
        await talk.welcome()
        asked = await talk.expect("presence.get")
        await talk.send("presence", asked[1], "p2", "away", "", None, 0)
        await talk.idle()

    async with scripted(drop, answer) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        join = asyncio.ensure_future(client.request(garrison.messages.MatchJoin("m1"), retry=False))
        presence = asyncio.ensure_future(client.get_presence("p2"))
        with pytest.raises(ConnectionLost):
            await join
        assert (await presence).status == "away"


async def test_timeout_is_a_typed_error_and_frees_the_window() -> None:
    options = replace(FAST, max_in_flight=1)

    async def script(talk: Talk) -> None:
        await talk.welcome()
        await talk.expect("match.get")
        asked = await talk.expect("presence.get")
        await talk.send("presence", asked[1], "p2", "online", "", None, 0)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=options) as client:
        with pytest.raises(DeadlineExceeded):
            await client.request(garrison.messages.MatchGet("m1"), timeout_s=0.05)
        assert (await client.get_presence("p2")).status == "online"


async def test_waiting_requests_are_bounded() -> None:
    options = replace(FAST, max_queued=3, max_in_flight=2)
    async with scripted(welcome_and_idle) as server, garrison.connect(server.url, "tok", options=options) as client:
        waiting = [asyncio.ensure_future(client.scoreboard("m")) for _ in range(3)]
        await until(lambda: client.stats.requests_sent == 2)
        with pytest.raises(Overloaded):
            await client.scoreboard("m")
        for each in waiting:
            each.cancel()


async def test_a_number_can_be_taken_before_the_command_is_sent() -> None:
    """So that a program may repeat it by itself: sent twice, it is one command."""
    seen: list[list[Any]] = []

    async def script(talk: Talk) -> None:
        await talk.welcome()
        while True:
            seen.append(await talk.expect("match.join"))
            await talk.send("accepted", seen[-1][1], "m1", 1, 2)

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        join = client.numbered(garrison.messages.MatchJoin("m1"))
        await client.request(join)
        await client.request(join)
        await client.join("m1")
        assert [wire[2:4] for wire in seen] == [[client.lineage, 1], [client.lineage, 1], [client.lineage, 2]]


async def test_short_ways_send_the_games_messages() -> None:
    seen: list[list[Any]] = []
    answers: dict[str, list[Any]] = {
        "presence.set": ["saved", "player/p1", 1],
        "profile.set": ["saved", "player/p1", 2],
        "profile.get": ["profile", "p2", "Two", "", 0, 0, 0, 0, 0, 0, 1],
        "match.list": ["matches", [], []],
        "match.leave": ["accepted", "m1", 3, 4],
    }

    async def script(talk: Talk) -> None:
        await talk.welcome()
        for _ in answers:
            seen.append(await talk.recv())
            kind, *fields = answers[seen[-1][0]]
            await talk.send(kind, seen[-1][1], *fields)
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        assert (await client.set_presence("busy", "In the armoury")).version == 1
        assert (await client.set_profile("Six", "wolf")).version == 2
        assert (await client.get_profile("p2")).display_name == "Two"
        assert (await client.matches(5)).matches == []
        assert (await client.leave("m1")).next_seq == 4
    assert [wire[0] for wire in seen] == list(answers)
    assert seen[0][2:] == ["busy", "In the armoury", None] and seen[3][2:] == [5, "", "", "", [], []]


async def test_rich_presence_travels_in_its_parts() -> None:
    rich = RichPresence("Slayer", "Recharge", "24-19", fields=[PresenceField("clan", "red")])
    parts = ["Slayer", "Recharge", "24-19", 0, 0, "", [["clan", "red"]]]

    async def script(talk: Talk) -> None:
        await talk.welcome()
        said = await talk.expect("presence.set")
        assert said[2:] == ["online", "24-19", parts]
        await talk.send("saved", said[1], "player/p1", 1)
        asked = await talk.expect("presence.get")
        await talk.send("presence", asked[1], "p2", "online", "", None, 0, ["Slayer", "", "", 2, 4])
        await talk.idle()

    async with scripted(script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        await client.set_presence("online", "24-19", rich)
        assert (await client.get_presence("p2")).rich == RichPresence("Slayer", party_size=2, party_room=4)


# ---- the host ---------------------------------------------------------------------------------


class Referee:
    """Answers a host's messages; refuses what `refusals` holds, by report number."""

    def __init__(self, refusals: dict[int, str] | None = None) -> None:
        self.refusals = refusals or {}
        self.events: list[list[Any]] = []
        self.batches: list[int] = []
        self.reports = 0
        self.ticks: list[int] = []
        self.ended_at: int | None = None
        self.next_seq = 2
        self.go = asyncio.Event()
        self.go.set()

    async def script(self, talk: Talk) -> None:
        await talk.welcome()
        while True:
            wire = await talk.recv()
            match wire[0]:
                case "match.create" | "match.start":
                    await self.accept(talk, wire, 0)
                case "match.report":
                    await self.go.wait()
                    self.reports += 1
                    if code := self.refusals.get(self.reports):
                        await talk.send("error", wire[1], code, "", 1)
                        continue
                    self.events += wire[5]
                    self.batches.append(len(wire[5]))
                    await self.accept(talk, wire, len(wire[5]))
                case "match.tick":
                    self.ticks.append(wire[3])
                    await self.accept(talk, wire, 0)
                case "match.end":
                    self.ended_at = wire[5]
                    await self.accept(talk, wire, 1)

    async def accept(self, talk: Talk, wire: list[Any], count: int) -> None:
        first, self.next_seq = self.next_seq, self.next_seq + count
        await talk.send("accepted", wire[1], "m1", first, self.next_seq)


async def test_host_runs_a_match() -> None:
    referee = Referee({2: "unavailable"})
    heard: list[int] = []
    async with scripted(referee.script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        options = MatchOptions(mode="slayer", teams=0)
        async with garrison.Host(client, "m1", options=options, on_accepted=lambda a: heard.append(a.next_seq)) as host:
            await host.create()
            await host.start()
            for time_ms in range(1, 601):
                await host.report(Kill(time_ms, "p1", "p2"), Medal(time_ms, "p1", "Double Kill"))
            await host.drain()
            assert host.unacknowledged == 0
            assert host.events_acknowledged == 1_200
            await host.end()
        assert [event[1] for event in referee.events] == [t for t in range(1, 601) for _ in range(2)]
        assert max(referee.batches) <= 256
        assert referee.ended_at == 600
        assert host.next_seq == heard[-1] == 1_203


async def test_a_host_takes_a_match_over_says_who_comes_and_hands_it_on() -> None:
    seen: list[list[Any]] = []
    board = ["scoreboard", "m1", "live", "slayer", "", "second", 900, [0, 0], [], 8, None, None, None, 0, 7]

    async def script(talk: Talk) -> None:
        await talk.welcome()
        while True:
            wire = await talk.recv()
            if wire[0] == "match.get":
                await talk.send(board[0], wire[1], *board[1:])
            else:
                seen.append([wire[0], *(wire[4:] if wire[0] != "match.tick" else wire[2:])])
                await talk.send("accepted", wire[1], "m1", 8, 8)

    async with (
        scripted(script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1", tick_interval_s=60.0) as host,
    ):
        await host.take_over()
        assert (host.term, host.time_ms, host.next_seq) == (7, 900, 8)
        await host.report(Kill(901, "p1", "p2"))
        await host.drain()
        await host.invite("a", "b")
        await host.allow("c", allowed=False)
        await host.describe({"rank": 7, "region": None}, ["ranked"])
        await host.describe({"night": True})
        await host.reserve("d", party="red", places=2, for_s=1.5)
        await host.kick("e", "afk")
        await host.unkick("e", 8)
        await host.name_successor("third")
        await host.pass_on()
        await client.join("m2", None, "hunter2")
        await client.invite_to_match("m2", "f")
    assert seen[:12] == [
        ["match.report", "m1", [["kill", 901, "p1", "p2"]], 7],
        ["match.invite", "m1", ["a", "b"], 7],
        ["match.allow", "m1", ["c"], False, 7],
        ["match.describe", "m1", [["rank", 7], ["region", None]], ["ranked"], 7],
        ["match.describe", "m1", [["night", True]], None, 7],
        ["match.reserve", "m1", ["d"], "red", 2, 1_500, 7],
        ["match.kick", "m1", "e", "afk", 7],
        ["match.unkick", "m1", "e", 8, 7],
        ["match.successor", "m1", "third", 7],
        ["match.pass_host", "m1", None, 7],
        ["match.join", "m2", None, "hunter2"],
        ["match.invite", "m2", ["f"], 1],
    ]


async def test_host_reports_fit_the_servers_frames() -> None:
    referee = Referee()
    referee.go.clear()
    async with (
        scripted(referee.script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1") as host,
    ):
        assert client.welcome is not None
        room = client.welcome.max_frame_bytes // 2
        events = [Medal(1, "p1", "m" * 1_000) for _ in range(100)]
        await host.report(*events)
        referee.go.set()
        await host.drain()
        assert sum(referee.batches) == 100 and len(referee.batches) == -(-100 // (room // 1_010))


async def test_host_window_holds_reports_back() -> None:
    referee = Referee()
    referee.go.clear()
    async with (
        scripted(referee.script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1", window=4) as host,
    ):
        await host.start()
        await host.report(*(Kill(1, "p1", "p2") for _ in range(4)))
        fifth = asyncio.ensure_future(host.report(Kill(2, "p1", "p2")))
        await until(lambda: client.stats.requests_sent == 2)
        assert not fifth.done()
        referee.go.set()
        await fifth
        await host.drain()
        assert len(referee.events) == 5


async def test_host_ticks_while_nothing_happens() -> None:
    referee = Referee()
    async with (
        scripted(referee.script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1", tick_interval_s=0.01, clock_ms=lambda: 4_000) as host,
    ):
        await host.start()
        await host.report(Kill(1_000, "p1", "p2"))
        await until(lambda: len(referee.ticks) >= 3)
        assert set(referee.ticks[1:]) == {4_000}


async def test_a_refused_report_reaches_the_caller() -> None:
    referee = Referee({1: "match_ended"})
    async with (
        scripted(referee.script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1") as host,
    ):
        await host.start()
        await host.report(Kill(1, "p1", "p2"))
        with pytest.raises(Rejected) as caught:
            await host.drain()
        assert caught.value.code == "match_ended"
        with pytest.raises(Rejected):
            await host.report(Kill(2, "p1", "p2"))


async def test_an_event_that_cannot_be_sent_is_the_callers_error_and_no_more() -> None:
    referee = Referee()
    async with (
        scripted(referee.script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1") as host,
    ):
        await host.start()
        with pytest.raises(BadInput, match="Kill cannot be sent"):
            await host.report(Kill(1, "p1", "p2"), Kill(2, "\ud800", "p2"))
        assert (host.unacknowledged, host.time_ms) == (0, 0)
        await host.report(Kill(3, "p1", "p2"))
        await host.drain()
        assert referee.events == [["kill", 3, "p1", "p2"]]


async def test_a_fault_of_the_program_ends_the_host_for_all_who_wait() -> None:
    referee = Referee()
    referee.go.clear()

    def fail(_accepted: Any) -> None:
        if referee.reports:
            raise RuntimeError("the program's own")

    async with (
        scripted(referee.script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1", window=1, on_accepted=fail) as host,
    ):
        await host.start()
        await host.report(Kill(1, "p1", "p2"))
        waiting = [asyncio.ensure_future(each) for each in (host.report(Kill(2, "p1", "p2")), host.drain(), host.end())]
        await until(lambda: client.stats.requests_sent == 2)
        referee.go.set()
        async with asyncio.timeout(30):
            for each in waiting:
                with pytest.raises(RuntimeError, match="own"):
                    await each


async def test_closing_the_host_wakes_who_waits() -> None:
    referee = Referee()
    referee.go.clear()
    async with scripted(referee.script) as server, garrison.connect(server.url, "tok", options=FAST) as client:
        async with garrison.Host(client, "m1", window=1) as host:
            await host.start()
            await host.report(Kill(1, "p1", "p2"))
            waiting = [
                asyncio.ensure_future(each) for each in (host.report(Kill(2, "p1", "p2")), host.drain(), host.end())
            ]
            await until(lambda: client.stats.requests_sent == 2)
        async with asyncio.timeout(30):
            for each in waiting:
                with pytest.raises(SessionClosed, match="the host was closed"):
                    await each
        with pytest.raises(SessionClosed):
            await host.report(Kill(3, "p1", "p2"))
        referee.go.set()


async def test_an_end_that_failed_can_be_asked_for_again() -> None:
    asked = 0

    async def script(talk: Talk) -> None:
        nonlocal asked
        await talk.welcome()
        for code in ("internal", None):
            wire = await talk.expect("match.end")
            asked += 1
            if code:
                await talk.send("error", wire[1], code, "", None)
        await talk.send("accepted", wire[1], "m1", 1, 2)
        await talk.idle()

    async with (
        scripted(script) as server,
        garrison.connect(server.url, "tok", options=FAST) as client,
        garrison.Host(client, "m1") as host,
    ):
        with pytest.raises(garrison.errors.Internal):
            await host.end(5)
        assert (await host.end(5)).next_seq == 2
        assert asked == 2
