"""What replays read with: a cache that many share, and a search of stored logs by time, damaged ones too."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from game.messages import Medal
from game.replay import MATCH
from server.errors import Corrupt
from server.eventlog.ports import Chunk, StoredLog
from server.ids import ActorId
from server.replays.cache import SharedCache
from server.replays.reader import StretchReader
from server.runtime.supervisor import Supervisor
from server.storage.memory_logs import MemoryLogStore
from tests.support.matches import Played

pytestmark = pytest.mark.virtual_time
ID = ActorId("match/m")


def loads(value: str, after_s: float = 0.0) -> Callable[[], Awaitable[str]]:
    async def load() -> str:
        await asyncio.sleep(after_s)
        return value

    return load


async def test_cache_keeps_what_was_used_last_within_its_bytes() -> None:
    cache: SharedCache[int, str] = SharedCache(10, len, Supervisor("t"))
    for number in (1, 2, 1, 3):
        assert await cache.get(number, loads(f"{number}" * 4)) == f"{number}" * 4
    assert (cache.bytes, len(cache), cache.made, cache.shared) == (8, 2, 3, 1)
    await cache.get(1, loads("again"))
    assert cache.made == 3  # the second one went
    await cache.get(2, loads("2222"))
    assert cache.made == 4 and cache.bytes == 8
    assert await cache.get(9, loads("x" * 11)) == "x" * 11  # too large to be kept
    assert cache.bytes == 8


async def test_value_is_made_once_for_all_who_ask_meanwhile_and_an_error_is_not_kept() -> None:
    cache: SharedCache[int, str] = SharedCache(10, len, Supervisor("t"))
    first = asyncio.create_task(cache.get(1, loads("a", 5.0)))
    others = [asyncio.create_task(cache.get(1, loads("b"))) for _ in range(3)]
    await asyncio.sleep(1)
    first.cancel()  # whoever asked first may leave
    assert await asyncio.gather(*others) == ["a"] * 3 and cache.made == 1

    async def fails() -> str:
        await asyncio.sleep(1)
        raise Corrupt("planted")

    failed = await asyncio.gather(*(cache.get(2, fails) for _ in range(2)), return_exceptions=True)
    assert [type(each) for each in failed] == [Corrupt, Corrupt]
    assert await cache.get(2, loads("c")) == "c"


class Logs(MemoryLogStore):
    """A store with one log."""

    def __init__(self, log: StoredLog) -> None:
        self.log = log

    async def read_log(self, kind: str, id: ActorId, from_seq: int = 1, to_seq: int | None = None) -> StoredLog | None:
        end = self.log.next_seq if to_seq is None else to_seq
        chunks = [chunk for chunk in self.log.chunks if chunk.last_seq >= from_seq and chunk.first_seq < end]
        return StoredLog(self.log.next_seq, self.log.head, chunks)

    async def read_tail(self, kind: str, id: ActorId) -> StoredLog | None:
        start = max((chunk.first_seq for chunk in self.log.chunks if chunk.sealed), default=0)
        chunks = [chunk for chunk in self.log.chunks if chunk.first_seq >= start]
        return StoredLog(self.log.next_seq, self.log.head, chunks)


def damaged(chunk: Chunk) -> Chunk:
    return msgspec.structs.replace(chunk, data=chunk.data[:4] + b"\xff" + chunk.data[5:])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.sets(st.integers(0, 9), max_size=3),
    st.booleans(),
    st.data(),
)
def test_search_by_time_finds_the_first_event_that_can_be_read(
    pauses: list[int], broken: set[int], ends: bool, data: st.DataObject
) -> None:
    match, now = Played().live(2), 0
    for pause in pauses:
        now += 1_000 * pause
        match.report(Medal(now, "p0", "m"))
    log = (match.end(now) if ends else match).stored(5, 3)
    places = [place for place in broken if place < len(log.chunks) and log.chunks[place].sealed]
    chunks = [damaged(chunk) if place in places else chunk for place, chunk in enumerate(log.chunks)]
    ms = data.draw(st.integers(0, now + 1_000))
    sealed = [place for place, chunk in enumerate(chunks) if chunk.sealed]
    if sealed and sealed[-1] in places:  # what follows has no keyframe of its own
        places += range(sealed[-1] + 1, len(chunks))
    lost = {seq for place in places for seq in range(chunks[place].first_seq, chunks[place].last_seq + 1)}
    readable = [record.seq for record in match.records if record.event.time_ms >= ms and record.seq not in lost]

    async def search() -> int:
        reader = StretchReader(Logs(StoredLog(log.next_seq, log.head, chunks)), Supervisor("t"), 1 << 20)
        return await reader.first_at(MATCH, ID, ms, log.next_seq)

    found = asyncio.run(search())
    # without damage it is the very first; with it, nothing that can be read is passed over
    assert found <= (readable[0] if readable else log.next_seq)
    assert found == (readable[0] if readable else log.next_seq) or found in lost or ms == 0
