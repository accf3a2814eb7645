"""The storing of imported matches: whole ones only, each once, beside a cluster that runs or not.

A match is one transaction, under an id that its lines decide. So an import that dies in the middle is run again, and
goes on behind the last match that it has stored.
"""

import asyncio
from collections.abc import Sequence
from typing import BinaryIO, Final, Literal, NamedTuple, Protocol

from msgspec.structs import replace

from game.match.state import MatchState, Origin
from game.replay import MATCH
from server.errors import LogExists, Unavailable
from server.eventlog import portable
from server.eventlog.ports import InsertResult, WholeLog
from server.ids import ActorId, actor_id
from server.storage.ports import Stored

PORTABLE: Final = "garrison"
ATTEMPTS: Final = 5
"""Tries of a match where the store does not answer; between them stands what it asks for, half a second at first."""
Outcome = Literal["stored", "there"]
"""`there`: the match is stored already, maybe by another version of this program or with other options, and is left as
it is: its name is made of its lines."""


class ImportStore(Protocol):
    """All that an import asks of the store."""

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]: ...

    async def insert_log(self, kind: str, id: ActorId, log: WholeLog) -> InsertResult: ...


async def store_match(store: ImportStore, name: str, log: WholeLog) -> Outcome:
    """Store match `name`, unless it is there. Raises `Unavailable`."""
    identity = actor_id("match", name)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await _store(store, identity, log)
        except Unavailable as error:
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep((error.retry_after_s or 0.5) * attempt)
    raise AssertionError("the last attempt returns or raises")


async def _store(store: ImportStore, identity: ActorId, log: WholeLog) -> Outcome:
    found = (await store.read("match", [identity])).get(identity)
    if found is not None and found.state_version > 0:
        return "there"
    try:
        return "stored" if await store.insert_log("match", identity, log) == "written" else "there"
    except LogExists:
        return "there"


class PortableMatch(NamedTuple):
    """A match from a `.garrison` file."""

    name: str
    log: WholeLog


def read_portable(stream: BinaryIO, counts: bool) -> PortableMatch | None:
    """The match in a `.garrison` file; None, and the stream at its beginning, for any other file. Raises `BadInput`,
    `Corrupt` naming the event at fault, `UnknownRules`: then nothing of it may be stored. Without `counts` nobody is
    told of results: its row says that all is told."""
    start = stream.read(16)
    stream.seek(0)
    if not portable.is_portable(start):
        return None
    found = portable.read(stream)
    log = portable.to_store(MATCH, found)
    state: MatchState = log.projection
    if not counts:
        log = replace(log, projection=replace(state, origin=Origin(f"imported:{PORTABLE}", False)))
    return PortableMatch(found.header.key, log)


async def store_portable(store: ImportStore, match: PortableMatch) -> Outcome:
    """Store a match of a `.garrison` file under its own name. Raises `LogExists` where another match has it,
    `Unavailable`."""
    found = await store.insert_log("match", actor_id("match", match.name), match.log)
    return "stored" if found == "written" else "there"
