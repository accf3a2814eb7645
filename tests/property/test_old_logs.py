"""The rule by which logs of matches that are over go, for logs of any age, number and size."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from server.eventlog.ports import OverLog
from server.eventlog.pruning import BATCH, BATCH_BYTES, delete, due, find_bound
from server.eventlog.retention import Bound, RetentionLimits, goes, place_of
from server.ids import Epoch, actor_id
from tests.support.old_logs import NOW_MS, ListedLogs

sizes = st.integers(0, 50)
logs_over = st.lists(
    st.builds(
        OverLog,
        st.integers(0, 40).map(lambda number: actor_id("match", f"m{number}")),
        st.integers(900, 1_010),
        st.just(Epoch(1)),
        sizes,
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda log: log.id,
).map(lambda logs: sorted(logs, key=place_of))
limits_of_all_sorts = st.builds(RetentionLimits, *(st.integers(0, most) for most in (120, 30, 600)))


def chosen(limits: RetentionLimits, logs: list[OverLog], page: int = 7) -> list[OverLog]:
    """The logs that go, oldest first, of `logs` in their order."""
    bound = Bound(limits, NOW_MS)
    newest_first = logs[::-1]
    for start in range(0, len(logs), page):
        bound.take(newest_first[start : start + page])
    return [log for log in logs if goes(log, bound.place)]


def stay(limits: RetentionLimits, logs: list[OverLog]) -> list[OverLog]:
    going = chosen(limits, logs)
    return [log for log in logs if log not in going]


@given(limits_of_all_sorts, logs_over)
def test_nothing_goes_that_is_pinned_or_open(limits: RetentionLimits, logs: list[OverLog]) -> None:
    assert not [log for log in chosen(limits, logs) if log.is_pinned or log.is_open]


@given(logs_over)
def test_without_limits_everything_stays(logs: list[OverLog]) -> None:
    assert chosen(RetentionLimits(), logs) == []
    assert not RetentionLimits()


@given(limits_of_all_sorts, logs_over)
def test_logs_that_stay_are_within_all_limits(limits: RetentionLimits, logs: list[OverLog]) -> None:
    """But for what is spared: it goes once it is told."""
    kept = [log for log in stay(limits, logs) if not log.is_pinned]
    oldest_that_may_go = next((n for n, log in enumerate(kept) if not log.is_open), len(kept))
    counted = kept[oldest_that_may_go:]
    assert not limits.max_logs or len(counted) <= limits.max_logs
    assert not limits.max_bytes or sum(log.size for log in counted) <= limits.max_bytes
    assert not limits.max_age_ms or all(log.ended_ms > NOW_MS - limits.max_age_ms for log in counted if not log.is_open)


@given(limits_of_all_sorts, logs_over)
def test_each_log_that_goes_had_to(limits: RetentionLimits, logs: list[OverLog]) -> None:
    """With the newest that goes one limit would be broken."""
    going = chosen(limits, logs)
    if not going:
        return
    newest = going[-1]
    with_it = [log for log in logs if place_of(log) >= place_of(newest) and not log.is_pinned]
    too_old = limits.max_age_ms and newest.ended_ms <= NOW_MS - limits.max_age_ms
    too_many = limits.max_logs and len(with_it) > limits.max_logs
    too_large = limits.max_bytes and sum(log.size for log in with_it) > limits.max_bytes
    assert too_old or too_many or too_large


@given(limits_of_all_sorts, logs_over)
def test_the_oldest_go_first(limits: RetentionLimits, logs: list[OverLog]) -> None:
    going = chosen(limits, logs)
    free_to_go = [log for log in stay(limits, logs) if not (log.is_pinned or log.is_open)]
    assert not going or all(place_of(log) > place_of(going[-1]) for log in free_to_go)


@given(limits_of_all_sorts, logs_over, st.integers(1, 9))
def test_a_sweep_that_goes_on_after_a_part_is_gone_deletes_the_same(
    limits: RetentionLimits, logs: list[OverLog], first: int
) -> None:
    going = chosen(limits, logs)
    rest = [log for log in logs if log not in going[:first]]
    assert chosen(limits, rest, page=3) == going[first:]


@given(limits_of_all_sorts, logs_over, st.integers(0, 39))
def test_a_pin_saves_one_log_and_no_other(limits: RetentionLimits, logs: list[OverLog], place: int) -> None:
    going = chosen(limits, logs)
    if place < len(going):
        pinned = [replace(log, is_pinned=True) if log is going[place] else log for log in logs]
        assert {log.id for log in chosen(limits, pinned)} <= {log.id for log in going} - {going[place].id}


@given(limits_of_all_sorts, logs_over)
def test_a_wider_limit_deletes_nothing_more(limits: RetentionLimits, logs: list[OverLog]) -> None:
    going = {log.id for log in chosen(limits, logs)}
    for name in ("max_age_ms", "max_logs", "max_bytes"):
        value = getattr(limits, name)
        for wider in (value + 1, 0) if value else (0,):
            assert {log.id for log in chosen(replace(limits, **{name: wider}), logs)} <= going


async def test_a_thousand_logs_go_in_small_batches() -> None:
    logs = [OverLog(actor_id("match", f"m{n:04}"), n // 3, Epoch(1), n % 2 * BATCH_BYTES // 4) for n in range(1_000)]
    store: Any = ListedLogs(logs)
    limits = RetentionLimits(max_logs=100)
    bound = await find_bound(store, "match", limits)
    deleted = [done async for batch in due(store, "match", bound) for done in [await delete(store, "match", batch)]]
    assert [log for done in deleted for log in done.deleted] == logs[:900]
    assert store.logs == logs[900:]
    assert max(len(batch) for batch in store.batches) <= BATCH
    assert max(done.size for done in deleted) <= BATCH_BYTES + BATCH_BYTES // 4
