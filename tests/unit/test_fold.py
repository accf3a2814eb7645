"""The fold of a log, on a logged actor that is not the game's: loading, replaying and verifying agree."""

import msgspec
import pytest

from server.errors import Corrupt
from server.eventlog import fold, segment
from server.eventlog.entry import (
    NO_HEAD,
    Entry,
    Record,
    decode_record,
    encode_entry,
    event_bytes,
    next_head,
    state_hash,
)
from server.eventlog.fold import Fold
from server.eventlog.ports import Chunk, StoredLog
from server.ids import actor_id
from tests.support.engine import cluster
from tests.support.tiny import Added, Ledger, Total
from tests.support.waiting import until

KIND = Ledger.logged_kind()


def entries(*numbers: int) -> list[Entry]:
    return [encode_entry(Record(seq, Added(seq * 10, n), "lineage", seq)) for seq, n in enumerate(numbers, 1)]


def stored(numbers: tuple[int, ...], sealed: int, open_entries: int = 2) -> StoredLog:
    """A log of `numbers`: segments of three until `sealed` of them are in one, then open chunks."""
    all_of_them = entries(*numbers)
    chunks: list[Chunk] = []
    live = Fold(KIND, Total())
    for start in range(0, sealed, 3):
        part = all_of_them[start : min(start + 3, sealed)]
        head, state = live.head, live.state
        for entry in part:
            live.take(entry)
        end_hash = state_hash(live.state) if KIND.finished(live.state) else None
        chunks.append(Chunk(part[0].seq, part[-1].seq, True, segment.seal(part, head, state, end_hash)))
    for start in range(sealed, len(all_of_them), open_entries):
        part = all_of_them[start : start + open_entries]
        for entry in part:
            live.take(entry)
        chunks.append(Chunk(part[0].seq, part[-1].seq, False, segment.encode_open(part)))
    return StoredLog(live.next_seq, live.head, chunks)


def test_an_entry_is_the_array_of_event_lineage_and_command() -> None:
    entry = encode_entry(Record(7, Added(12, 5), "lineage", 3))
    assert (entry.seq, entry.time_ms) == (7, 12)
    assert msgspec.msgpack.decode(entry.data) == [["added", 12, 5], "lineage", 3]
    assert decode_record(entry, Added) == Record(7, Added(12, 5), "lineage", 3)
    assert bytes(event_bytes(entry)) == msgspec.msgpack.encode(Added(12, 5))
    assert msgspec.msgpack.decode(encode_entry(Record(1, Added(1, 1))).data) == [["added", 1, 1], None, 0]


@pytest.mark.parametrize("sealed", [0, 1, 3, 5, 7])
def test_load_replay_and_verify_reach_the_same_state(sealed: int) -> None:
    numbers = (1, 2, 3, 4, 5, 6, 7)
    log = stored(numbers, sealed)
    loaded = fold.load(KIND, log)
    steps = list(fold.steps(KIND, log))
    verified = fold.verify(KIND, log)
    assert loaded.state == steps[-1].after == verified.state == fold.final_state(KIND, log) == Total(28)
    assert [step.record.event.n for step in steps] == list(numbers)
    assert (loaded.next_seq, loaded.head) == (log.next_seq, log.head)
    assert loaded.tail == entries(*numbers)[sealed:]
    assert loaded.base == Total(sum(numbers[:sealed]))
    assert all(end.state == Total(sum(numbers[: end.last_seq])) for end in loaded.ends)
    assert [end.last_seq for end in loaded.ends] == [chunk.last_seq for chunk in log.chunks if not chunk.sealed]


def test_loading_reads_from_the_last_segment_only() -> None:
    log = stored((1, 2, 3, 4, 5, 6, 7), 6)
    damaged = StoredLog(log.next_seq, log.head, [Chunk(1, 3, True, b"damaged"), *log.chunks[1:]])
    assert fold.load(KIND, damaged).state == Total(28)
    assert fold.load(KIND, StoredLog(log.next_seq, log.head, log.chunks[1:])).sealed == entries(1, 2, 3, 4, 5, 6)[3:]
    with pytest.raises(Corrupt, match="segment at event 1: header"):
        fold.verify(KIND, damaged)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_log_that_lacks_its_end_is_damaged_wherever_it_is_read(kept: int) -> None:
    """F44: without any chunk it is no log without events."""
    log = stored((1, 2, 3, 4, 5, 6, 7), 6)
    less = StoredLog(log.next_seq, log.head, log.chunks[:kept])
    for read in (fold.load, fold.final_state, fold.verify, lambda kind, log: list(fold.steps(kind, log))):
        with pytest.raises(Corrupt, match="its row says"):
            read(KIND, less)  # type: ignore[operator]
    with pytest.raises(Corrupt, match="its row says"):
        list(fold.steps(KIND, less, 10_000))


def test_logs_without_entries_are_fresh() -> None:
    fresh = fold.load(KIND, None)
    assert (fresh.state, fresh.head, fresh.next_seq, fresh.tail) == (Total(), NO_HEAD, 1, [])
    assert fold.load(KIND, StoredLog(1, NO_HEAD, [])) == fresh
    assert fold.verify(KIND, StoredLog(1, NO_HEAD, [])).events == 0


def test_a_fold_accepts_neither_gap_nor_repetition() -> None:
    one, two, three = entries(1, 2, 3)
    live = Fold(KIND, Total())
    live.take(one)
    with pytest.raises(Corrupt, match="events 2 to 2 are missing"):
        live.take(three)
    with pytest.raises(Corrupt, match="event 1 comes after event 1"):
        live.take(one)
    with pytest.raises(Corrupt, match="event 2: "):
        live.take(Entry(2, 20, b"\xc1"))
    assert (live.state, live.next_seq, live.head) == (Total(1), 2, next_head(NO_HEAD, one))
    live.take(two)
    assert live.state == Total(3)


@pytest.mark.parametrize("sealed", [0, 3])
def test_a_log_that_ends_elsewhere_than_its_row_says_is_refused(sealed: int) -> None:
    log = stored((1, 2, 3, 4, 5), sealed)
    for wrong in (
        StoredLog(log.next_seq, b"x" * 16, log.chunks),
        StoredLog(log.next_seq + 1, log.head, log.chunks),
        StoredLog(log.next_seq, log.head, log.chunks[:-1]),
    ):
        for read in (fold.load, fold.verify):
            with pytest.raises(Corrupt, match="the log ends at event"):
                read(KIND, wrong)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_log_with_a_gap_is_refused(missing: int) -> None:
    log = stored((1, 2, 3, 4, 5), 0)
    gap = StoredLog(log.next_seq, log.head, [*log.chunks[:missing], *log.chunks[missing + 1 :]])
    for read in (fold.load, fold.verify):
        with pytest.raises(Corrupt, match=r"missing|no keyframe"):
            read(KIND, gap)
    with pytest.raises(Corrupt, match=r"missing|no keyframe"):
        list(fold.steps(KIND, gap))


def test_a_keyframe_that_is_no_state_is_refused() -> None:
    part = entries(1, 2, 3)
    sealed = segment.seal(part, NO_HEAD, Added(1, 1))
    head = fold.load(KIND, stored((1, 2, 3), 0)).head
    with pytest.raises(Corrupt, match="segment at event 1: keyframe"):
        fold.load(KIND, StoredLog(4, head, [Chunk(1, 3, True, sealed)]))


def test_an_end_that_is_none_is_named() -> None:
    """A segment says that the log is finished with it, and by its rules it is not."""
    part = entries(1, 2, 3)
    sealed = segment.seal(part, NO_HEAD, Total(), state_hash(Total(6)))
    head = fold.load(KIND, stored((1, 2, 3), 0)).head
    with pytest.raises(Corrupt, match="segment at event 1: event 3: the log is not finished with it"):
        fold.verify(KIND, StoredLog(4, head, [Chunk(1, 3, True, sealed)]))


def test_rules_that_cannot_apply_a_stored_event_are_a_finding() -> None:
    """The rules have changed since the log was played."""

    def evolve(state: Total, record: Record) -> Total:
        return Total(state.total + {1: 1, 2: 2}[record.event.n])

    changed = msgspec.structs.replace(KIND, evolve=evolve)
    with pytest.raises(Corrupt, match="open chunk at event 3: event 3: evolve raises KeyError: 3"):
        fold.verify(changed, stored((1, 2, 3, 4), 0))


async def test_a_log_that_a_node_has_written_replays_and_verifies() -> None:
    ledger = actor_id("ledger", "a")
    async with cluster(store={"segment_entries": 4, "group_commit_s": 0.001}) as world:
        system = world.systems["node-1"]
        for n in (*range(1, 10), 955):
            await system.ask(ledger, "add", (n,))

        async def all_sealed() -> bool:
            log = await system.logs.read_log("ledger", ledger)
            return log is not None and all(chunk.sealed for chunk in log.chunks)

        await until(all_sealed)
        log = await system.logs.read_log("ledger", ledger)
        assert log is not None
    verified = fold.verify(KIND, log)
    assert (verified.events, verified.state, verified.end_hash) == (10, Total(1_000), True)
    assert verified.segments == len(log.chunks) >= 2
    assert [step.after.total for step in fold.steps(KIND, log)][-2:] == [45, 1_000]
