"""Match logs: what an event costs to append, replay, seek to, verify and keep.

`log-append`   CPU us an event: its bytes, its hash, and its part of the chunk that is stored; floor: its bytes alone
`replay`       from stored segments to the frames of viewers: `events_per_s` for one, `deliveries_per_s` for 1,000 that
               share the decoding, `fold_events_per_s` the states alone; floor: decoding the events' msgpack
`seek`         to the state at a random time of two hours: `median_ms`, `max_ms`; floor: evolving half a segment
`verify`       everything recomputed: `events_per_s` a core; floor: `evolve` alone
`size`         bytes an event as stored, keyframes and the database's index included, beside the events as JSON Lines
               (`share_of_json`) and `gzip -6` of those (`share_of_gzip`), which is the floor
"""

import gc
import gzip
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from game import replay as replays
from game.match import rules
from game.match.state import MatchState
from server.eventlog import segment
from server.eventlog.entry import NO_HEAD, Record, decode_record, encode_entry, event_bytes, next_head
from server.lab.bench.harness import Effort, Outcome, alternate
from server.lab.bench.log_samples import LENGTH_MS, SampleMatch, match, stored
from server.sessions.broadcast import Broadcast
from server.sessions.streams import runs_of
from server.wire.messages import Events

APPEND_EVENTS: Final = 8
"""Events of a group commit."""
VIEWERS: Final = 1_000
SEEKS: Final = 200
ROW_BYTES: Final = 400
"""Bytes that a row of `log_chunks` takes beside its data, index and unused room of pages included: measured on
PostgreSQL with 300 such matches (394); on SQLite it is less."""


def _cpu_us(work: Callable[[], Any], units: int) -> float:
    begin = time.process_time()
    work()
    return (time.process_time() - begin) * 1e6 / units


async def append(effort: Effort) -> Outcome:
    """CPU us an event."""
    sample = match(effort.size(LENGTH_MS))
    found: dict[str, Any] = {"goal_us": 5.0, "events_a_commit": APPEND_EVENTS}

    def bare() -> None:
        for record in sample.records:
            msgspec.msgpack.encode(record.event)

    def whole() -> None:
        head, records = NO_HEAD, sample.records
        for first in range(0, len(records), APPEND_EVENTS):
            entries = [encode_entry(record) for record in records[first : first + APPEND_EVENTS]]
            for entry in entries:
                head = next_head(head, entry)
            segment.encode_open(entries)

    async def below() -> float:
        return _cpu_us(bare, sample.events)

    async def above() -> float:
        return _cpu_us(whole, sample.events)

    found["seal_us"] = round(_cpu_us(lambda: _seal(sample), sample.events), 3)
    result = await alternate("log-append", "us", below, above, effort, None, **found)
    return msgspec.structs.replace(result, detail={"append_us": result.figure, **result.detail})


def _seal(sample: SampleMatch) -> None:
    for chunk in sample.log.chunks:
        entries = sample.entries[chunk.first_seq - 1 : chunk.last_seq]
        segment.seal(entries, NO_HEAD, MatchState())


async def replay(effort: Effort) -> Outcome:
    """CPU us an event, for one viewer."""
    sample = match(effort.size(LENGTH_MS))
    viewers = effort.size(VIEWERS)
    shared: list[float] = []
    folded: list[float] = []

    async def below() -> float:
        decode = msgspec.msgpack.decode
        return _cpu_us(lambda: [decode(entry.data) for entry in sample.entries], sample.events)

    async def above() -> float:
        shared.append(_cpu_us(lambda: _deliver(sample, viewers), sample.events * viewers))
        folded.append(_cpu_us(lambda: deque(replays.steps(sample.log), maxlen=0), sample.events))
        return _cpu_us(lambda: _deliver(sample, 1), sample.events)

    result = await alternate("replay", "us", below, above, effort, None)
    detail = {
        "events_per_s": round(1e6 / result.figure),
        "deliveries_per_s": round(1e6 / statistics.median(shared[1:])),
        "viewers": viewers,
        "fold_events_per_s": round(1e6 / statistics.median(folded[1:])),
        "events": sample.events,
        "goal_events_per_s": 200_000,
    }
    return msgspec.structs.replace(result, detail=detail)


def _deliver(sample: SampleMatch, viewers: int) -> None:
    """Segments to frames: each run of events is encoded once, and has each viewer's own number in its frame."""
    outboxes: list[deque[bytes]] = [deque(maxlen=2) for _ in range(viewers)]
    for chunk in sample.log.chunks:
        entries = segment.decode(chunk.data, chunk.first_seq).entries
        for first_seq, run in runs_of(chunk.first_seq, [event_bytes(entry) for entry in entries]):
            broadcast = Broadcast(Events(0, "match/bench", first_seq, run))
            for outbox in outboxes:
                outbox.append(broadcast.render("msgpack", first_seq))


async def seek(effort: Effort) -> Outcome:
    """CPU ms a seek, the median of many; `max_ms` is the worst of all rounds."""
    sample = match(effort.size(LENGTH_MS))
    rng = random.Random(1)
    took: list[float] = []
    records = [decode_record(entry, replays.MATCH.event_type) for entry in sample.entries]
    half = max(1, len(records) // (2 * len(sample.log.chunks)))
    gc.collect()
    gc.freeze()  # as a node does once it serves

    async def below() -> float:
        return _cpu_us(lambda: _evolved(records[:half]), 1) / 1e3

    async def above() -> float:
        mine = []
        for _ in range(effort.size(SEEKS)):
            ms = rng.randrange(sample.records[-1].event.time_ms)
            mine.append(_cpu_us(partial(replays.at, sample.log, ms=ms), 1) / 1e3)
        took.extend(mine)
        return statistics.median(mine)

    try:
        result = await alternate("seek", "ms", below, above, effort, None)
    finally:
        gc.unfreeze()
    detail = {
        "median_ms": round(statistics.median(took), 3),
        "max_ms": round(max(took), 3),
        "seeks": len(took),
        "events": sample.events,
        "goal_max_ms": 20.0,
    }
    return msgspec.structs.replace(result, detail=detail)


def _evolved(records: Sequence[Record]) -> MatchState:
    state = MatchState()
    for record in records:
        state = rules.evolve(state, record)
    return state


async def verify(effort: Effort) -> Outcome:
    """CPU us an event."""
    sample = match(effort.size(LENGTH_MS))
    records = [decode_record(entry, replays.MATCH.event_type) for entry in sample.entries]

    async def below() -> float:
        return _cpu_us(lambda: _evolved(records), sample.events)

    async def above() -> float:
        return _cpu_us(lambda: replays.verify(sample.log), sample.events)

    result = await alternate("verify", "us", below, above, effort, None)
    detail = {"events_per_s": round(1e6 / result.figure), "events": sample.events}
    return msgspec.structs.replace(result, detail=detail)


async def size(effort: Effort) -> Outcome:
    """Bytes an event, of one match a round."""
    json_bytes: list[float] = []
    shares: list[float] = []
    samples = iter([match(effort.size(LENGTH_MS), seed) for seed in range(effort.rounds + 1)])
    sample = next(samples)

    async def below() -> float:
        lines = b"".join(json_line(record.event) for record in sample.records)
        json_bytes.append(len(lines) / sample.events)
        return len(gzip.compress(lines, 6)) / sample.events

    async def above() -> float:
        nonlocal sample
        found = sum(len(chunk.data) + ROW_BYTES for chunk in stored(sample.entries).chunks) / sample.events
        shares.append(found / json_bytes[-1])
        sample = next(samples, sample)
        return found

    result = await alternate("size", "B", below, above, effort, 1.0)
    detail = {
        "share_of_json": round(statistics.median(shares), 4),
        "share_of_gzip": result.ratio,
        "json_bytes": round(statistics.median(json_bytes), 1),
        "goal_share_of_json": 0.2,
    }
    return msgspec.structs.replace(result, detail=detail)


def json_line(event: msgspec.Struct) -> bytes:
    """An event as a line of JSON, without what it does not say; not even who reported it, which the log has too."""
    fields = {name: value for name, value in msgspec.structs.asdict(event).items() if value is not None}
    return msgspec.json.encode({**fields, "type": event.__struct_config__.tag}) + b"\n"
