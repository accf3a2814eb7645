"""The SDK's core alone: no socket, no loop, no clock. Conversations that any client must keep are in
test_conversations.py; here is what they leave open: bounds, stale events, time, and the life as a table."""

import random
from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from garrison import Options, errors
from garrison import messages as sdk
from garrison._core import PART_S, Core
from garrison._decisions import Answer, Decision, Deliver, Down, Drop, NeedToken, Open, Part, RenewToken, Stir, Stop, Up
from garrison._phases import CLIENT, SUBSCRIPTION, IllegalTransition, move
from garrison._subscriptions import ASK_AGAIN_S
from garrison._timers import ROOM, Timers

Line = list[Any]


class Bench:
    """A core and the world around it, by hand: `did` has all decisions so far, `said` all lines of the client."""

    def __init__(
        self, *urls: str, chance: Callable[[], float] = lambda: 0.5, renewable: bool = True, **options: Any
    ) -> None:
        self.core = Core(
            urls or ("ws://a", "ws://b"),
            first=0,
            options=Options(**options),
            name="bench",
            lineage="l",
            renewable=renewable,
            chance=chance,
        )
        self.now = 100.0
        self.did: list[Decision] = []
        self.said: list[Line] = []
        self.answers: dict[int, Answer] = {}
        self.up = False

    def look(self) -> None:
        """Take what the core has decided; a token is given at once."""
        while self.core.pending:
            for decision in self.core.take_decisions():
                self.did.append(decision)
                if isinstance(decision, Up | Down):
                    assert self.up == isinstance(decision, Down)
                    self.up = not self.up
                if isinstance(decision, NeedToken):
                    self.core.token("tok", self.now)
                if isinstance(decision, Answer):
                    assert decision.order not in self.answers, "answered twice"
                    self.answers[decision.order] = decision
            self.said += [msgpack.unpackb(frame) for frame in self.core.take_frames()]

    def last(self, kind: type[Any]) -> Any:
        return next(decision for decision in reversed(self.did) if isinstance(decision, kind))

    def count(self, kind: type[Any]) -> int:
        return sum(isinstance(decision, kind) for decision in self.did)

    def start(self) -> None:
        self.core.start(self.now)
        self.look()

    def opened(self) -> None:
        self.core.opened(self.core.connection, self.now)
        self.look()

    def hear(self, *line: Any) -> None:
        self.core.received(self.core.connection, msgpack.packb(list(line)), self.now)
        self.look()

    def welcomed(self, *, recovered: bool = False, interval_ms: int = 5_000, token_ms: int = 0) -> None:
        """Open the connection that is asked for, and a session on it."""
        if self.core.phase == "idle":
            self.start()
        self.pass_until(lambda: self.core.phase == "opening")
        self.opened()
        self.hear(
            "welcome",
            self.said[-1][1],
            "s",
            "n",
            "p",
            "player",
            "r",
            recovered,
            interval_ms,
            30_000,
            65_536,
            0,
            token_ms,
        )
        assert self.core.connected

    def broken(self) -> None:
        self.core.closed(self.core.connection, 1006, "", self.now)
        self.look()

    def pass_s(self, seconds: float) -> None:
        """Let time pass, in the steps in which the core asks to be called."""
        until = self.now + seconds
        while (wake := self.core.wake_s) is not None and wake <= until:
            self.now = max(self.now, wake)
            self.core.on_time(self.now)
            self.look()
        self.now = until

    def pass_alive(self, seconds: float) -> None:
        """Let time pass with a server that is heard all the while."""
        until = self.now + seconds
        while self.now < until:
            self.pass_s(min(1.0, until - self.now))
            self.hear("beats", 1)

    def pass_until(self, condition: Callable[[], bool]) -> None:
        """Let the core's timers come until something is so."""
        for _ in range(100):
            if condition():
                return
            assert self.core.wake_s is not None
            self.pass_s(max(0.0, self.core.wake_s - self.now))
        raise AssertionError("never so")

    def ask(self, message: Any = None, **options: Any) -> int:
        order = self.core.request(message or sdk.PresenceGet("p"), self.now, **options)
        self.look()
        return order

    def lines(self, kind: str) -> list[Line]:
        return [line for line in self.said if line[0] == kind]


# ---- the way to a session ---------------------------------------------------------------------------


def test_an_attempt_without_a_welcome_is_dropped_in_time_and_the_next_url_is_tried() -> None:
    for opens in (False, True):
        bench = Bench(open_timeout_s=3.0)
        bench.start()
        first = bench.last(Open)
        if opens:
            bench.opened()
        bench.pass_s(2.999)
        assert bench.count(Drop) == 0
        bench.pass_s(0.2)
        assert bench.last(Drop).connection == first.connection
        assert isinstance(bench.core.last_failure, errors.Unavailable)
        assert (bench.last(Open).connection, bench.last(Open).url) == (first.connection + 1, "ws://b")


def test_events_of_an_earlier_connection_change_nothing() -> None:
    bench = Bench()
    bench.welcomed()
    stale = bench.core.connection
    bench.broken()
    bench.welcomed(recovered=True)
    before = (bench.core.phase, len(bench.did), len(bench.said))
    core, now = bench.core, bench.now
    core.opened(stale, now)
    core.failed(stale, "late", now)
    core.received(stale, msgpack.packb(["match.assigned", 1, "m"]), now)
    core.closed(stale, 4004, "late", now)
    bench.look()
    assert (bench.core.phase, len(bench.did), len(bench.said)) == before
    assert core.stats.pushes == 0


def test_tokens_that_nobody_waits_for_change_nothing() -> None:
    bench = Bench()
    bench.core.token("early", bench.now)
    bench.core.no_token(errors.Unavailable("early"), bench.now)
    assert bench.core.phase == "idle" and not bench.core.pending
    bench.welcomed()
    bench.core.token("late", bench.now)
    bench.core.no_token(errors.BadInput("late"), bench.now)
    assert bench.core.connected and not bench.core.pending


def test_another_message_in_answer_to_hello_is_no_welcome() -> None:
    bench = Bench()
    bench.start()
    bench.opened()
    bench.hear("done", 1)
    assert isinstance(bench.core.last_failure, errors.Unavailable)
    assert bench.core.phase == "waiting"


def test_a_redirect_from_an_encrypted_connection_to_a_plain_one_is_refused() -> None:
    bench = Bench("wss://a")
    bench.start()
    bench.opened()
    bench.hear("redirect", bench.said[-1][1], "ws://b", "n")
    assert bench.core.phase == "waiting"
    assert "not encrypted" in str(bench.core.last_failure)


def test_a_client_is_not_moved_from_an_encrypted_connection_to_a_plain_one() -> None:
    bench = Bench("wss://a")
    bench.welcomed()
    bench.hear("going", 1, "ws://b", 1_000)
    bench.pass_until(lambda: bench.core.phase == "parting")
    bench.core.closed(bench.core.connection, 1001, "", bench.now)
    bench.welcomed(recovered=True)
    assert bench.core.url == "wss://a"


def test_the_pause_grows_with_each_failure_up_to_its_bound_and_is_short_again_later() -> None:
    bench = Bench("ws://a", chance=lambda: 1.0)
    bench.start()
    pauses = []
    for _ in range(8):
        bench.core.failed(bench.core.connection, "nobody", bench.now)
        bench.look()
        began = bench.now
        bench.pass_until(lambda: bench.core.phase == "opening")
        pauses.append(round(bench.now - began, 3))
    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    bench.welcomed()
    bench.pass_s(1.0)
    bench.broken()
    began = bench.now
    bench.pass_until(lambda: bench.core.phase == "opening")
    assert round(bench.now - began, 3) == 0.05


@pytest.mark.parametrize(
    "phase", ["idle", "token", "opening", "greeting", "up", "moving", "parting", "broken", "waiting"]
)
def test_a_client_can_be_closed_in_any_phase(phase: str) -> None:
    bench = Bench()
    waiting = bench.ask()
    if phase == "token":
        bench.core.start(bench.now)
    elif phase == "opening":
        bench.start()
    elif phase == "greeting":
        bench.start()
        bench.opened()
    elif phase != "idle":
        bench.welcomed()
        if phase in ("moving", "parting"):
            bench.hear("going", 1, "ws://b", 2_000)
        if phase == "parting":
            bench.pass_until(lambda: bench.core.phase == "parting")
        if phase == "broken":
            bench.hear("match.assigned", 9, "m")
        if phase == "waiting":
            bench.broken()
    assert bench.core.phase == phase
    said_by_now = bench.said[:]
    parts, drops = bench.count(Part), bench.count(Drop)
    bench.core.close(bench.now)
    bench.core.close(bench.now)
    bench.look()
    assert bench.core.phase == "over"
    assert isinstance(bench.answers[waiting].error, errors.SessionClosed | errors.ConnectionLost)
    assert bench.count(Stop) == 1
    was_up = phase in ("up", "moving", "parting")
    assert bench.count(Part) - parts == was_up
    if was_up:
        assert msgpack.unpackb(bench.last(Part).last)[0] == "close"
    assert bench.count(Drop) - drops == (phase in ("opening", "greeting", "broken"))
    assert bench.said == said_by_now and bench.core.wake_s is None
    for call in (bench.ask, lambda: bench.core.watch("match/m", 1, bench.now)):
        with pytest.raises(errors.SessionClosed):
            call()


# ---- a session is up --------------------------------------------------------------------------------


def test_a_push_of_a_type_that_is_not_known_is_counted_and_no_more() -> None:
    bench = Bench(ack_every=2)
    bench.welcomed()
    bench.hear("match.danced", 1, "m", 7)
    bench.hear("match.danced", 1, "m", 7)
    bench.hear("match.assigned", 2, "m")
    assert bench.count(Deliver) == 1
    assert bench.lines("ack") == [["ack", 0, 2]]


def test_pushes_are_acknowledged_after_so_many_bytes() -> None:
    bench = Bench(ack_bytes=1_000)
    bench.welcomed()
    bench.hear("match.assigned", 1, "m" * 900)
    assert bench.lines("ack") == []
    bench.hear("match.assigned", 2, "m" * 900)
    assert bench.lines("ack") == [["ack", 0, 2]]


def test_heartbeats_carry_the_state() -> None:
    bench = Bench()
    bench.core.state = "away"
    assert bench.core.state == "away"
    bench.welcomed()
    bench.pass_s(5.0)
    assert bench.lines("heartbeat")[0] == ["heartbeat", 0, 0, "away"]


@pytest.mark.parametrize("phase", ["parting", "broken"])
def test_a_close_that_the_server_does_not_answer_is_cut(phase: str) -> None:
    bench = Bench()
    bench.welcomed()
    if phase == "parting":
        bench.hear("going", 1, "ws://b", 1_000)
        bench.pass_until(lambda: bench.core.phase == "parting")
    else:
        bench.hear("match.assigned", 9, "m")
    bench.pass_s(PART_S - 0.01)
    assert bench.core.phase == phase and bench.count(Drop) == 0
    bench.pass_s(0.01)
    assert bench.count(Drop) == 1 and bench.core.phase == "waiting"
    bench.welcomed(recovered=True)


def test_a_parting_client_reads_on_and_sends_no_heartbeat() -> None:
    bench = Bench()
    bench.welcomed(interval_ms=200)
    bench.hear("going", 1, "ws://b", 100)
    bench.pass_until(lambda: bench.core.phase == "parting")
    beats = len(bench.lines("heartbeat"))
    bench.pass_s(0.3)
    assert bench.core.phase == "parting" and len(bench.lines("heartbeat")) == beats
    bench.hear("match.assigned", 2, "m")
    assert bench.last(Deliver).push == sdk.MatchAssigned("m", seq=2)


@pytest.mark.parametrize("how", ["answered", "cancelled", "expired", "not at all"])
def test_a_moving_client_leaves_when_nothing_is_in_flight_or_after_half_its_time(how: str) -> None:
    bench = Bench()
    bench.welcomed()
    order = bench.ask(timeout_s=0.5 if how == "expired" else 60)
    bench.hear("going", 1, "ws://b", 2_000)
    bench.pass_s(0.2)
    assert bench.core.phase == "moving"
    queued = bench.ask(retry=True)
    if how == "answered":
        bench.hear("error", bench.lines("presence.get")[0][1], "not_found", "", None)
    elif how == "cancelled":
        bench.core.cancel(order, bench.now)
    elif how == "expired":
        bench.pass_s(0.4)
    else:
        bench.pass_s(0.8)
        assert bench.core.phase == "moving"
        bench.pass_s(0.2)
    bench.look()
    assert bench.core.phase == "parting"
    assert len(bench.lines("presence.get")) == 1
    bench.core.closed(bench.core.connection, 1001, "", bench.now)
    bench.welcomed(recovered=True)
    assert bench.core.url == "ws://b"
    assert len(bench.lines("presence.get")) == 2 and queued not in bench.answers


# ---- requests ---------------------------------------------------------------------------------------


def test_a_cancelled_request_gives_its_place_to_the_next() -> None:
    bench = Bench(max_in_flight=1)
    bench.welcomed()
    first, second = bench.ask(), bench.ask()
    assert len(bench.lines("presence.get")) == 1
    bench.core.cancel(first, bench.now)
    bench.core.cancel(first, bench.now)
    bench.look()
    asked = bench.lines("presence.get")
    assert len(asked) == 2
    bench.hear("presence", asked[0][1], "p", "online", "", None, 0)
    assert not bench.answers
    bench.hear("presence", asked[1][1], "p", "online", "", None, 0)
    assert bench.answers[second].value.status == "online" and first not in bench.answers


def test_requests_that_were_given_up_while_away_leave_the_queue() -> None:
    bench = Bench(max_queued=3)
    for _ in range(20):
        bench.core.cancel(bench.ask(), bench.now)
    order = bench.ask()
    bench.welcomed()
    assert len(bench.lines("presence.get")) == 1
    assert len(bench.core._requests._ready) == 0 and order not in bench.answers


def test_a_retry_that_was_given_up_is_not_sent() -> None:
    bench = Bench()
    bench.welcomed()
    order = bench.ask(sdk.ProfileSet("x"), timeout_s=1.0)
    bench.hear("error", bench.lines("profile.set")[0][1], "unavailable", "", 5_000)
    bench.pass_s(10.0)
    assert isinstance(bench.answers[order].error, errors.DeadlineExceeded)
    assert len(bench.lines("profile.set")) == 1


def test_answered_requests_leave_no_timers_behind() -> None:
    bench = Bench()
    bench.welcomed()
    for _ in range(4 * ROOM):
        bench.ask(sdk.ProfileSet("x"))
        bench.hear("saved", bench.said[-1][1], "player/p", 1)
    assert len(bench.answers) == 4 * ROOM
    assert len(bench.core._timers) <= ROOM + 1


def test_timers_keep_their_order_and_the_sweep_keeps_what_is_wanted() -> None:
    timers = Timers()
    timers.stale = lambda kind, key: key % 2 == 1
    for key in range(ROOM + 1):
        timers.at(float(key % 3), "deadline", key)
    assert len(timers) == ROOM // 2 + 1
    seen = []
    assert timers.next_s == 0.0
    while (timer := timers.pop(1.0)) is not None:
        seen.append(timer[1])
    assert seen == [key for turn in (0, 1) for key in range(ROOM + 1) if key % 3 == turn and key % 2 == 0]
    assert timers.next_s == 2.0


# ---- streams ----------------------------------------------------------------------------------------


def watching(bench: Bench, topic: str = "match/m") -> Any:
    """A stream whose watch the server has answered."""
    stream = bench.core.watch(topic, 1, bench.now)
    bench.look()
    bench.hear("watching", bench.lines("watch")[-1][1], topic, 1)
    assert stream.phase == "live"
    return stream


def kills(first: int, last: int) -> list[Line]:
    return [["kill", number, "p", "q"] for number in range(first, last + 1)]


def test_a_watch_that_finds_no_place_asks_later() -> None:
    bench = Bench(max_queued=1)
    bench.welcomed()
    order = bench.ask()
    stream = bench.core.watch("match/m", 1, bench.now)
    assert bench.lines("watch") == []
    bench.core.cancel(order, bench.now)
    bench.pass_s(ASK_AGAIN_S)
    assert len(bench.lines("watch")) == 1 and stream.phase == "asking"


def test_a_refused_watch_is_asked_for_after_the_hint_and_one_without_answer_at_once() -> None:
    bench = Bench(request_timeout_s=4.0)
    bench.welcomed()
    stream = bench.core.watch("match/m", 1, bench.now)
    bench.look()
    bench.hear("error", bench.lines("watch")[-1][1], "unavailable", "", 700)
    bench.pass_s(0.69)
    assert len(bench.lines("watch")) == 1
    bench.pass_s(0.01 + ASK_AGAIN_S)
    assert len(bench.lines("watch")) == 2
    bench.pass_s(4.0)
    assert len(bench.lines("watch")) == 3 and stream.phase == "asking"


def test_a_stream_that_was_closed_in_its_wait_is_not_asked_for() -> None:
    bench = Bench()
    bench.welcomed()
    stream = bench.core.watch("match/m", 1, bench.now)
    bench.look()
    bench.hear("error", bench.lines("watch")[-1][1], "unavailable", "", 700)
    bench.core.leave(stream)
    bench.core.leave(stream)
    bench.pass_s(2.0)
    assert len(bench.lines("watch")) == 1
    assert len(bench.lines("unwatch")) == 1


def test_a_watch_that_waits_in_line_is_taken_back() -> None:
    bench = Bench(max_in_flight=1)
    bench.welcomed()
    order = bench.ask()
    stream = bench.core.watch("match/m", 1, bench.now)
    bench.core.leave(stream)
    bench.core.cancel(order, bench.now)
    bench.look()
    assert bench.lines("watch") == []


def test_a_stream_closed_before_the_answer_to_its_watch_is_left_when_it_comes() -> None:
    bench = Bench()
    bench.welcomed()
    stream = bench.core.watch("match/m", 1, bench.now)
    bench.look()
    bench.core.leave(stream)
    bench.look()
    bench.hear("done", bench.lines("unwatch")[-1][1])
    bench.hear("watching", bench.lines("watch")[-1][1], "match/m", 1)
    assert len(bench.lines("unwatch")) == 2


def test_a_full_buffer_gives_the_stream_up_until_half_of_it_is_read() -> None:
    bench = Bench(watch_buffer=4)
    bench.welcomed()
    stream = watching(bench)
    bench.hear("events", 1, "match/m", 1, kills(1, 9))
    assert stream.phase == "paused" and len(stream.buffer) == 4 and stream.next_seq == 5
    assert len(bench.lines("unwatch")) == 1
    bench.hear("events", 2, "match/m", 10, kills(10, 10))  # on its way already
    assert len(stream.buffer) == 4 and len(bench.lines("unwatch")) == 1
    assert bench.core.read(stream, bench.now) == (1, sdk.Kill(1, "p", "q"))
    assert len(bench.lines("watch")) == 1
    bench.core.read(stream, bench.now)
    bench.look()
    assert stream.phase == "asking"
    assert bench.lines("watch")[-1][2:4] == ["match/m", 5]


def test_a_stream_says_what_it_has_and_fails_where_that_was_taken_back() -> None:
    """The newest mark goes with the request, with its own number; a push in which it is empty leaves it."""
    bench = Bench()
    bench.welcomed()
    stream = watching(bench)
    bench.hear("events", 1, "match/m", 1, kills(1, 3), "4a8e")
    bench.hear("events", 2, "match/m", 4, kills(4, 4), "")
    bench.hear("events", 3, "match/m", 2, kills(2, 3), "4a8e")  # comes again
    bench.broken()
    bench.welcomed()
    assert bench.lines("watch")[-1][2:] == ["match/m", 5, 3, "4a8e"]
    bench.hear("error", bench.lines("watch")[-1][1], "history_changed", "event 3 is another one now", None)
    assert stream.phase == "failed" and isinstance(stream.error, errors.Rejected)
    assert stream.error.code == "history_changed"
    assert bench.core.read(stream, bench.now) == (1, sdk.Kill(1, "p", "q")), "what came before is there to read"


def test_a_paused_stream_is_not_watched_again_by_a_new_session() -> None:
    bench = Bench(watch_buffer=2)
    bench.welcomed()
    stream = watching(bench)
    bench.hear("events", 1, "match/m", 1, kills(1, 2))
    bench.broken()
    bench.welcomed()
    assert len(bench.lines("watch")) == 1 and stream.phase == "paused"
    bench.core.read(stream, bench.now)
    bench.look()
    assert len(bench.lines("watch")) == 2


def test_a_stream_that_was_refused_stays_so_in_a_new_session() -> None:
    bench = Bench()
    bench.welcomed()
    stream = bench.core.watch("match/m", 1, bench.now)
    bench.look()
    bench.hear("error", bench.lines("watch")[-1][1], "not_found", "", None)
    assert stream.phase == "failed" and isinstance(stream.error, errors.NotFound)
    assert bench.last(Stir).subscription is stream
    bench.broken()
    bench.welcomed()
    assert len(bench.lines("watch")) == 1


# ---- latest topics ----------------------------------------------------------------------------------


def pictured(bench: Bench, **values: Any) -> Any:
    """A picture that the server has sent."""
    picture = bench.core.watch_latest("room/7", bench.now)
    bench.look()
    bench.hear("snapshot", bench.lines("watch_latest")[-1][1], "room/7", "c1", [[*item] for item in values.items()])
    assert picture.phase == "live"
    return picture


def test_a_picture_takes_changes_in_and_loses_keys_that_are_gone() -> None:
    bench = Bench()
    bench.welcomed()
    picture = pictured(bench, a=1, b=[2])
    assert picture.values == {"a": 1, "b": [2]}
    bench.hear("latest", "room/7", "c2", False, [["a", None], ["c", {"x": 3}], ["d"]])
    assert (picture.values, picture.cursor) == ({"b": [2], "c": {"x": 3}}, "c2")
    bench.hear("latest", "room/7", "c3", True, [["e", 5]])
    assert (picture.values, picture.cursor, picture.revision) == ({"e": 5}, "c3", 3)
    assert bench.count(Stir) == 3 and bench.core.stats.pushes == 0


def test_a_resumed_session_goes_on_from_the_pictures_that_the_client_has() -> None:
    bench = Bench()
    bench.welcomed()
    picture = pictured(bench, a=1)
    bench.broken()
    bench.welcomed(recovered=True)
    assert bench.lines("hello")[-1][3:] == ["r", 0, "bench", True, [["room/7", "c1"]], None, ""]
    bench.hear("latest", "room/7", "c2", False, [["b", 2]])
    assert picture.values == {"a": 1, "b": 2}
    assert len(bench.lines("watch_latest")) == 1
    bench.broken()
    bench.welcomed()
    assert len(bench.lines("watch_latest")) == 2 and picture.phase == "asking"
    bench.hear("latest", "room/7", "c3", False, [["a", 7]])  # of a picture that this session does not have
    assert picture.values == {"a": 1, "b": 2}
    bench.broken()
    bench.pass_until(lambda: bench.core.phase == "opening")
    bench.opened()
    assert bench.lines("hello")[-1][7] == []


def test_a_lost_snapshot_may_come_as_a_whole_picture() -> None:
    bench = Bench()
    bench.welcomed()
    picture = bench.core.watch_latest("room/7", bench.now)
    bench.look()
    bench.broken()
    bench.welcomed(recovered=True)
    bench.hear("latest", "room/7", "c1", True, [["a", 1]])
    assert picture.values == {"a": 1}
    bench.hear("snapshot", bench.lines("watch_latest")[-1][1], "room/7", "c2", [["a", 2]])
    assert picture.values == {"a": 2} and picture.phase == "live"


def test_a_latest_topic_that_nobody_watches_is_left() -> None:
    bench = Bench()
    bench.welcomed()
    picture = pictured(bench, a=1)
    bench.core.leave(picture)
    bench.look()
    assert picture.values == {}
    bench.hear("done", bench.lines("unwatch")[-1][1])
    bench.hear("latest", "room/7", "c2", False, [["a", 2]])
    assert len(bench.lines("unwatch")) == 2


@pytest.mark.parametrize("line", [["latest", "room/7", "c2", True, [[["a"], 1]]], ["latest", "room/7", "c2", 1, []]])
def test_a_picture_that_is_none_breaks_the_connection_and_changes_nothing(line: Line) -> None:
    bench = Bench()
    bench.welcomed()
    picture = pictured(bench, a=1)
    bench.hear(*line)
    assert bench.core.phase == "broken" and bench.last(Part).code == 1002
    assert picture.values == {"a": 1}


def test_events_and_pictures_of_the_other_kind_of_topic_change_nothing() -> None:
    bench = Bench()
    bench.welcomed()
    picture, stream = pictured(bench, a=1), watching(bench)
    bench.hear("events", 1, "room/7", 1, kills(1, 1))
    bench.hear("latest", "match/m", "c", True, [["a", 2]])
    assert picture.values == {"a": 1} and not stream.buffer
    with pytest.raises(ValueError, match="watched already"):
        bench.core.watch("room/7", 1, bench.now)
    bench.core.close(bench.now)
    assert isinstance(picture.error, errors.SessionClosed)
    with pytest.raises(errors.SessionClosed):
        bench.core.watch_latest("room/8", bench.now)


# ---- the life as a table ----------------------------------------------------------------------------


def test_an_illegal_transition_raises() -> None:
    with pytest.raises(IllegalTransition, match="over -> up"):
        move(CLIENT, "over", "up")
    assert move(SUBSCRIPTION, "live", "paused") == "paused"


@pytest.mark.parametrize("table", [CLIENT, SUBSCRIPTION])
def test_each_phase_is_reached_and_leads_to_the_last(table: Any) -> None:
    first, last = next(iter(table)), list(table)[-1]
    for phase in table:
        assert phase == first or any(phase in after for after in table.values())
        assert phase == last or last in table[phase] or any(last in table[after] for after in table[phase])
    assert table[last] == ()


class RudeWorld:
    """A program and a server without manners: lines out of place, breaks, moves, refusals, time that jumps."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = Bench(
            chance=self.rng.random, max_in_flight=3, max_queued=20, watch_buffer=4, request_timeout_s=3.0
        )
        self.asked: set[int] = set()
        self.cancelled: set[int] = set()
        self.streams: list[Any] = []
        self.numbers: dict[int, list[int]] = {}
        """Of each stream, by its place, the numbers of the events that were read."""
        self.moves = {
            self.ask: 3, self.cancel: 1, self.watch: 2, self.read: 3, self.leave: 0.3, self.open: 6, self.answer: 6,
            self.events: 6, self.line: 2, self.close: 0.5, self.wait: 2,
        }  # fmt: skip

    def move(self) -> None:
        self.rng.choices(list(self.moves), list(self.moves.values()))[0]()
        self.bench.look()

    def ask(self) -> None:
        message = self.rng.choice([sdk.PresenceGet("p"), sdk.ProfileSet("x")])
        try:
            self.asked.add(self.bench.ask(message, timeout_s=20.0))
        except errors.Overloaded:
            assert len(self.asked - self.cancelled - set(self.bench.answers)) <= 20

    def cancel(self) -> None:
        if waiting := sorted(self.asked - set(self.bench.answers)):
            order = self.rng.choice(waiting)
            self.bench.core.cancel(order, self.bench.now)
            self.cancelled.add(order)

    def watch(self) -> None:
        topic = f"match/m{self.rng.randrange(3)}"
        if all(stream.topic != topic or stream.phase == "closed" for stream in self.streams):
            self.streams.append(self.bench.core.watch(topic, 1, self.bench.now))

    def read(self) -> None:
        if self.streams:
            place = self.rng.randrange(len(self.streams))
            for _ in range(self.rng.randrange(1, 5)):
                if (item := self.bench.core.read(self.streams[place], self.bench.now)) is not None:
                    assert isinstance(item[1], sdk.Kill) and item[1].time_ms == item[0]
                    self.numbers.setdefault(place, []).append(item[0])

    def leave(self) -> None:
        if self.streams:
            self.bench.core.leave(self.rng.choice(self.streams))

    def open(self) -> None:
        rng, bench = self.rng, self.bench
        if bench.core.phase == "opening" and rng.random() < 0.2:
            bench.core.failed(bench.core.connection, "nobody", bench.now)
        elif bench.core.phase == "opening":
            bench.opened()
        elif bench.core.phase == "greeting":
            tail = [500, 30_000, 65_536, 0]
            welcome = ["welcome", 1, "s", "n", "p", "player", "r", rng.random() < 0.5, *tail]
            bench.hear(
                *rng.choice(
                    [welcome, welcome, welcome, ["redirect", 1, "ws://c", "n"], ["error", 1, "overloaded", "", 9]]
                )
            )

    def answer(self) -> None:
        """Answer a line of late, or refuse it."""
        rng, bench = self.rng, self.bench
        said = rng.choice(bench.said[-8:] or [["ack", 0, 0]])
        refusal = ["error", said[1], rng.choice(["unavailable", "fenced", "match_full"]), "", None]
        answers: dict[str, Line] = {
            "watch": ["watching", said[1], said[2], 1],
            "unwatch": ["done", said[1]],
            "profile.set": ["saved", said[1], "player/p", 1],
            "presence.get": ["presence", said[1], "p", "online", "", None, 0],
        }
        if bench.core.connected and said[0] in answers:
            bench.hear(*(refusal if rng.random() < 0.2 else answers[said[0]]))

    def events(self) -> None:
        """Events of a topic, from before, at or after where its stream stands."""
        rng, bench = self.rng, self.bench
        if bench.core.connected:
            stream = rng.choice(self.streams) if self.streams else None
            first = max(1, (stream.next_seq if stream else 1) + rng.choice([-2, -1, 0, 0, 0, 1]))
            topic = stream.topic if stream else "match/m0"
            push = bench.core._session.last_push + 1
            bench.hear("events", push, topic, first, kills(first, first + rng.randrange(4)))

    def line(self) -> None:
        """A line out of place."""
        rng, bench = self.rng, self.bench
        push, number = bench.core._session.last_push + 1, rng.randrange(20)
        lines: list[Line] = [
            ["watching", number, "match/m0", 1],
            ["done", number],
            ["beats", 3],
            ["going", push, rng.choice(["ws://c", "", "ws://a"]), 400],
            ["match.assigned", push + (rng.random() < 0.1), "m"],
            ["match.danced", push, 5],
        ]
        if bench.core.connected:
            bench.hear(*rng.choice(lines))

    def close(self) -> None:
        if self.bench.core.phase != "greeting":
            code = self.rng.choice([1006, 1001, 1011, 4007, 4008, 4009, 4010, 4011])
            self.bench.core.closed(self.bench.core.connection, code, "", self.bench.now)

    def wait(self) -> None:
        self.bench.pass_s(self.rng.choice([0.01, 0.1, 1.0, 2.0]))


@pytest.mark.parametrize("seed", range(40))
def test_each_request_is_answered_once_and_each_event_is_read_once(seed: int) -> None:
    world = RudeWorld(seed)
    bench, core = world.bench, world.bench.core
    bench.start()
    for _ in range(400):
        world.move()
        assert core.connected == bench.up
    assert core.stats.connects or core.stats.connect_failures
    core.close(bench.now)
    bench.look()
    assert set(bench.answers) == world.asked - world.cancelled
    for numbers in world.numbers.values():
        assert numbers == list(range(1, len(numbers) + 1))


def test_a_token_is_renewed_before_it_expires() -> None:
    bench = Bench()
    bench.welcomed(token_ms=100_000)
    bench.pass_alive(79.0)
    assert bench.count(RenewToken) == 0
    bench.pass_alive(1.5)
    assert bench.count(RenewToken) == 1
    bench.core.renew(bench.core.connection, "new", bench.now)
    bench.look()
    (line,) = bench.lines("token.renew")
    assert line[2:] == ["new"]
    bench.hear("renewed", line[1], 50_000)
    bench.pass_alive(39.0)
    assert bench.count(RenewToken) == 1
    bench.pass_alive(1.5)
    assert bench.count(RenewToken) == 2


@pytest.mark.parametrize("how", ["no_token", "refused"])
def test_a_renewal_that_fails_is_tried_again(how: str) -> None:
    bench = Bench()
    bench.welcomed(token_ms=10_000)
    bench.pass_alive(8.5)
    assert bench.count(RenewToken) == 1
    if how == "no_token":
        bench.core.not_renewed(bench.core.connection, bench.now)
    else:
        bench.core.renew(bench.core.connection, "bad", bench.now)
        bench.look()
        bench.hear("error", bench.lines("token.renew")[0][1], "bad_token", "no", None)
    bench.pass_alive(5.5)
    assert bench.count(RenewToken) == 2 and bench.core.connected


def test_a_renewal_of_an_earlier_connection_is_not_sent() -> None:
    bench = Bench()
    bench.welcomed(token_ms=10_000)
    before = bench.core.connection
    bench.broken()
    bench.welcomed(token_ms=10_000)
    bench.core.renew(before, "late", bench.now)
    bench.look()
    assert bench.lines("token.renew") == []


def test_a_token_that_cannot_be_renewed_is_left_to_expire() -> None:
    bench = Bench(renewable=False)
    bench.welcomed(token_ms=10_000)
    bench.pass_alive(9.0)
    assert bench.count(RenewToken) == 0
