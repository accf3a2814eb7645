"""Rows of clients' requests: each has one, or a share of them whose weights add up to all."""

import asyncio
import random
from typing import Any, NamedTuple

import pytest

from server.call_rows import CallSampler, RecordedRequests
from server.errors import Forbidden, Internal
from server.wire.messages import Unwatch
from tests.support.session_parts import ManualClock


class AsCaller(NamedTuple):
    """The part of a session that its requests' rows need."""

    caller: Any


class AsRole(NamedTuple):
    role: str


SESSION: Any = AsCaller(AsRole("player"))
MESSAGE = Unwatch(1, "match/m1")


class Handler:
    """A handler of requests that answers with what a test puts there."""

    def __init__(self) -> None:
        self.answer: Any = None

    def handle(self, _session: Any, _message: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def fault(self, error: BaseException) -> Internal:
        return Internal(str(error))


def sampler(per_s: int) -> tuple[CallSampler, list[tuple[Any, ...]], ManualClock]:
    clock, rows = ManualClock(), list[tuple[Any, ...]]()
    calls = CallSampler(per_s, clock, random.Random(7))
    calls.append = rows.append
    return calls, rows, clock


def test_weights_add_up_to_all_calls() -> None:
    calls, rows, clock = sampler(per_s=100)
    for _ in range(10):
        for _ in range(5_000):
            calls.done("m", "player", clock.now(), None)
        calls.weigh()
    late = rows[5_000:]  # the first second had no weight yet
    assert {row[-1] for row in late} == {50}
    assert 0.9 < sum(row[-1] for row in late) / 45_000 < 1.1
    assert len(late) < 1_100


def test_slow_seconds_have_a_row_for_each_call() -> None:
    calls, rows, clock = sampler(per_s=100)
    for _ in range(100):
        calls.done("m", "player", clock.now(), None)
    calls.weigh()
    calls.done("m", "player", clock.now(), None)
    assert len(rows) == 101 and {row[-1] for row in rows} == {1}


async def test_answers_refusals_and_futures_have_their_time_and_code() -> None:
    calls, rows, clock = sampler(per_s=100)
    handler = Handler()
    requests = RecordedRequests(handler, calls, clock)
    handler.answer = "at once"
    assert requests.handle(SESSION, MESSAGE) == "at once"
    handler.answer = Forbidden("no")
    with pytest.raises(Forbidden):
        requests.handle(SESSION, MESSAGE)
    for outcome in (None, Forbidden("later"), ValueError("a fault")):
        future = handler.answer = asyncio.get_running_loop().create_future()
        assert requests.handle(SESSION, MESSAGE) is future
        clock.at += 0.25
        if outcome is None:
            future.set_result("done")
        else:
            future.set_exception(outcome)
            assert future.exception() is outcome
        await asyncio.sleep(0)
    assert [row[1:5] for row in rows] == [
        ("unwatch", "player", "", 0),
        ("unwatch", "player", "forbidden", 0),
        ("unwatch", "player", "", 250_000),
        ("unwatch", "player", "forbidden", 250_000),
        ("unwatch", "player", "internal", 250_000),
    ]
