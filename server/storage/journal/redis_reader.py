"""A journal in Redis from its successor's side: sealed, read page by page, removed. See the head of `redis.py`.

Reading, trimming and removing need no memory in Redis, adding does: a full Redis takes no seal, and the stream is
then read as it is. Its owner's lease is over: what it adds late was told to nobody.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from redis import exceptions

from server.errors import Unavailable
from server.ids import NodeAddress, NodeId
from server.settings import JournalSettings
from server.storage.journal.ports import Recovered, still_alive
from server.storage.journal.record import Part, read_run, run_seed
from server.storage.journal.redis_names import RedisKeys, RedisPlace
from server.storage.journal.redis_server import MAX_ID, RedisLink, is_late

PAGE_ENTRIES: Final = 32
"""Entries of a page, which is read in `redis_timeout_s`; over a slow line fewer are asked for, down to one."""
LAST_PATIENCE: Final = 10
"""Times `redis_timeout_s` that a page of one entry may take."""
_RANGE: Final = re.compile(rb"(\d{1,19})-(\d{1,19})")
_MARKS: Final = (b"opened", b"sealed")


class RedisReader:
    """See the module's head. One journal is read at a time: its records may be many."""

    def __init__(self, link: RedisLink, keys: RedisKeys, node: NodeId, settings: JournalSettings) -> None:
        self._link, self._keys, self._node, self._settings = link, keys, node, settings
        self._reading = asyncio.Lock()

    async def recover(self, owner: NodeAddress, place: RedisPlace) -> Recovered:
        """Seal the journal and read it. Raises `Unavailable`."""
        async with self._reading:
            try:
                return await self._recover(owner, place)
            except exceptions.RedisError as error:
                raise Unavailable(f"the journal of {owner} cannot be read: {error}") from None

    async def _recover(self, owner: NodeAddress, place: RedisPlace) -> Recovered:
        name = await self._link.ask("GET", self._keys.name)
        if name is None or name.decode() != place.server:
            return Recovered({}, [f"the journal of {owner} is gone: Redis at {place.address} has lost its data since"])
        if await self._link.ask("GET", self._keys.alive(owner, place)) is not None:
            raise still_alive(owner)
        key = self._keys.stream(owner, place)
        if not await self._seal(key):
            lost = await self._is_lost(owner, place)
            return Recovered({}, [f"the journal of {owner} is gone: Redis at {place.address} has lost it"] * lost)
        parts: list[Part] = []
        damage: list[str] = []
        low = high = 0
        async for identity, fields in self._entries(key):
            for field, data in fields.items():
                found = _RANGE.fullmatch(field)
                if found is not None:
                    low, high = low or int(found[1]), int(found[2])
                    parts.append(Part(f"{key} {identity.decode()}", data))
                elif field not in _MARKS:
                    damage.append(f"{key} {identity.decode()}: not a journal entry")
        recovered = await asyncio.to_thread(read_run, parts, run_seed(self._keys.cluster, owner), low, high)
        return Recovered(recovered.newest, damage + recovered.damage)

    async def _is_lost(self, owner: NodeAddress, place: RedisPlace) -> bool:
        """Whether a stream that is not there should be: no note says that it was removed, or never opened."""
        notes = (self._keys.removed(owner, place), self._keys.unopened(place))
        return [await self._link.ask("GET", note) for note in notes] == [None, None]

    async def _entries(self, key: str) -> AsyncIterator[tuple[bytes, dict[bytes, bytes]]]:
        """Entries page by page: a page that does not arrive in time is asked for again with fewer entries."""
        count, limit = PAGE_ENTRIES, self._settings.redis_timeout_s
        after = b"-"
        while after != b"(" + MAX_ID:  # sealed: its last entry has that id
            try:
                page = await self._link.ask("XRANGE", key, after, "+", "COUNT", count, within_s=limit)
            except Unavailable:
                if limit > self._settings.redis_timeout_s:
                    raise
                if count == 1:
                    limit *= LAST_PATIENCE
                count = max(1, count // 4)
                continue
            if not page:
                return  # not sealed, or removed meanwhile
            for entry in page:
                yield entry
            after = b"(" + page[-1][0]

    async def _seal(self, key: str) -> bool:
        """Make Redis refuse every later entry, unless it is full and takes no seal. False: there is no such
        stream."""
        try:
            return await self._link.ask("XADD", key, "NOMKSTREAM", MAX_ID, "sealed", self._node) is not None
        except exceptions.OutOfMemoryError:
            return await self._link.newest(key) is not None
        except exceptions.ResponseError as error:
            if is_late(error) and await self._link.newest(key) == MAX_ID:
                return True
            raise

    async def remove(self, owner: NodeAddress, place: RedisPlace) -> None:
        """Delete the stream, with a note before that it was stored. Raises `Unavailable` and `RedisError`."""
        note = self._keys.removed(owner, place)
        noted = await self._link.note(note)
        await self._link.ask("DEL", self._keys.stream(owner, place))
        if not noted:
            await self._link.note(note)  # there is room now
