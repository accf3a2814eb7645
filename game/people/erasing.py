"""The erasure of a person: passes over everything that names it, until nothing does.

    bar       the store makes no entity of that key any more, whoever asks for one; a ban goes to the tombstone
    end       the person's own actors leave what they are in, say nothing, and go; then their rows are deleted
    forget    each actor whose row names the person drops it: it may be in memory, so nobody else can change it
    rename    rows that stay (acts of moderation, memberships of parties) get a made-up key
    redact    each log that names the person is written anew, once nobody owns it
    verify    every column of every table, and every log, is searched; whatever is found is a reason for another pass
    lift      the tombstone stays: only who names the person anew, by a login for one, makes an entity of that key

No step believes that an earlier one has been done: each looks, and does what is left. So the erasure may die anywhere
and be begun again, and so may any node. Something of the time before that comes late (a word of a friend, a result) is
refused by the person's actors while they are there, and by the tombstone afterwards; the code tells its sender that
there is nobody, and it drops what it has too. What others write meanwhile is found by the search at the end.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import msgspec

from game.boards.face import BoardsFace
from game.friends.face import FriendsFace
from game.friends.state import FriendsState
from game.moderation.face import StandingFace
from game.moderation.rules import FOR_GOOD, lasts
from game.moderation.state import StandingState
from game.modes.registry import MODES
from game.people.names import renaming
from game.player import erasing
from game.player.face import PlayerFace
from game.player.state import PlayerState
from game.replay import MATCH
from server.errors import Corrupt, NotFound, Unavailable, UnknownRules
from server.eventlog.entry import decode_record
from server.eventlog.fold import holding
from server.eventlog.ports import RedactResult, StoredLog, WholeLog
from server.eventlog.redaction import made_up, redacted
from server.ids import ActorId, actor_id, kind_of
from server.liveness.ports import Estate
from server.storage.ports import Stored

OWN: Final = (PlayerFace.kind, FriendsFace.kind, StandingFace.kind)
"""Kinds of actors that are the person's own."""
LOGS: Final = 500
MAX_NAMED: Final = 20
"""Things that wait which a pass names; more are counted."""
FOREVER_S: Final = FOR_GOOD / 1000


class ErasingStore(Protocol):
    """All that an erasure asks of the store."""

    async def bar(self, key: str, until_s: float = 0.0) -> None: ...

    async def lift(self, key: str) -> bool: ...

    async def erase(self, kind: str, key: str) -> bool: ...

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]: ...

    async def estates(self) -> list[Estate]: ...

    async def list_logs(self, kind: str, limit: int, after: ActorId | None = None) -> list[ActorId]: ...

    async def read_log(self, kind: str, id: ActorId) -> StoredLog | None: ...

    async def redact(self, kind: str, id: ActorId, was: StoredLog, log: WholeLog) -> RedactResult: ...


class NamedRows(Protocol):
    """Rows that name a person, as a database has them."""

    def entities(self, name: str) -> AsyncIterator[ActorId]:
        """Entities of others whose rows name it, and whose actors are to forget it."""
        ...

    async def rename(self, name: str, instead: str) -> int:
        """Put another key into rows that stay; how many."""
        ...

    async def left(self, name: str) -> dict[str, int]:
        """Rows that name it, by table."""
        ...


class Asks(Protocol):
    """A call of an actor of the cluster, by `method` of its face."""

    async def __call__(self, identity: ActorId, method: str, *args: str) -> Any: ...


class Told(msgspec.Struct):
    """Figures of an erasure so far. `waits` says what the newest pass has left, `stays` what no pass will do."""

    passes: int = 0
    rows: int = 0
    forgot: int = 0
    renamed: int = 0
    logs: int = 0
    waits: list[str] = []
    waiting: int = 0
    stays: list[str] = []
    done: bool = False

    def begin(self) -> None:
        """Begin another pass."""
        self.passes += 1
        self.waits, self.waiting, self.stays = [], 0, []

    def wait(self, why: str) -> None:
        self.waiting += 1
        if len(self.waits) < MAX_NAMED:
            self.waits.append(why)


class Erasure:
    """See the module's head. `secret` makes the made-up keys, and is forgotten with this object."""

    def __init__(
        self, name: str, *, store: ErasingStore, rows: NamedRows, ask: Asks, secret: bytes, keeps_ban: bool = True
    ) -> None:
        self.name, self.told = name, Told()
        self._store, self._rows, self._ask, self._secret, self._keeps_ban = store, rows, ask, secret, keeps_ban
        self._own = [actor_id(kind, name) for kind in OWN]

    async def run_pass(self, wall_ms: int) -> bool:
        """Do what can be done now; True once nothing names the person. Raises `Unavailable`: begin another pass."""
        told = self.told
        told.begin()
        await self._store.bar(self.name, await self._ban_until_s(wall_ms))
        for estate in await self._store.estates():
            told.wait(f"the journal of {estate.owner} is not settled")
        await self._end_own()
        await self._forget()
        told.renamed += await self._rows.rename(self.name, made_up(self._secret, actor_id("audit", self.name)))
        if told.waiting:
            return False  # nodes are about to write rows: a search of all logs is for when they have
        if await self._redact(wall_ms) or await self._verify():
            return False
        for mode in MODES.names():  # boards are in memory, and read the rows again that are gone
            for board in (mode, f"{mode}.solo"):
                await self._ask(actor_id(BoardsFace.kind, board), "forget", self.name, "")
        await self._ask(actor_id(BoardsFace.kind, "all"), "forget", self.name, "")
        await self._store.lift(self.name)
        told.done = True
        return True

    async def _ban_until_s(self, wall_ms: int) -> float:
        """The end of a ban that is in force, which the tombstone keeps: nobody erases itself to get around one."""
        standing = await self._stored(StandingFace.kind)
        if not (self._keeps_ban and isinstance(standing, StandingState) and lasts(standing.banned_until_ms, wall_ms)):
            return 0.0
        return min(FOREVER_S, standing.banned_until_ms / 1000)

    async def _stored(self, kind: str) -> Any:
        identity = actor_id(kind, self.name)
        found = (await self._store.read(kind, [identity])).get(identity)
        return None if found is None else found.state

    # ---- the person's own actors ----

    async def _end_own(self) -> None:
        has_left = await self._asked(self._own[0])
        for identity in self._own[1:]:
            await self._asked(identity)
        for identity in self._own:
            if identity == self._own[0] and not has_left:
                self.told.wait(f"{self.name} is on the roster of a match or a party")
            elif not await self._store.erase(kind_of(identity), self.name):
                self.told.wait(f"{identity} is in the memory of a node")

    async def _asked(self, identity: ActorId) -> bool:
        """Have an own actor end, unless its row says that it has; whether there is nothing in it any more."""
        state = await self._stored(kind_of(identity))
        if _is_over(state) and self.told.passes % 4:  # asked again and again it would be in memory for ever
            return True
        try:
            return bool(await self._ask(identity, "erase") is not False)
        except NotFound:
            return True  # there is none

    # ---- others ----

    async def _forget(self) -> None:
        async for identity in self._rows.entities(self.name):
            if identity in self._own:
                continue
            with suppress(NotFound):
                await self._ask(identity, "forget", self.name, made_up(self._secret, identity))
            self.told.forgot += 1
            self.told.wait(f"{identity} has just forgotten it, and is to be stored")

    # ---- logs ----

    async def _redact(self, wall_ms: int) -> int:
        """Redact what names the person; how many logs are to be tried again."""
        async for identity, log in self._naming_logs():
            state = await self._redacted(identity, log, wall_ms)
            if state:
                self.told.wait(f"{identity}: {state}")
        return self.told.waiting

    async def _redacted(self, identity: ActorId, log: StoredLog, wall_ms: int) -> str:
        """Redact a log; why it is not done, if so."""
        try:
            after = redacted(MATCH, log, renaming(self.name, made_up(self._secret, identity)), wall_ms)
        except UnknownRules as error:
            self.told.stays.append(f"{identity}: {error.message}")
            return ""
        except Unavailable:
            return "the match is not over"
        if after is None:
            return ""
        if await self._store.redact(MATCH.name, identity, log, after) == "busy":
            return "a node has the match in memory, or its results are not told"
        self.told.logs += 1
        return ""

    async def _naming_logs(self) -> AsyncIterator[tuple[ActorId, StoredLog]]:
        """The logs with the bytes of the name in them. One that cannot be read is told."""
        after: ActorId | None = None
        while page := await self._store.list_logs(MATCH.name, LOGS, after):
            after = page[-1]
            for identity in page:
                try:
                    log = await self._store.read_log(MATCH.name, identity)
                    if log is not None and any(True for _ in holding(log, self.name.encode())):
                        yield identity, log
                except Corrupt as error:
                    self.told.stays.append(f"{identity} cannot be read: {error.message}")

    # ---- the search ----

    async def _verify(self) -> int:
        """Search all; how much was found."""
        for table, count in sorted((await self._rows.left(self.name)).items()):
            self.told.wait(f"{count} rows of {table} name it")
        async for identity, log in self._naming_logs():
            if not any(stay.startswith(f"{identity}:") for stay in self.told.stays) and self._is_named(log):
                self.told.wait(f"{identity}: an event names it")
        return self.told.waiting

    def _is_named(self, log: StoredLog) -> bool:
        """Whether an event of a log names the person; states have no key that no event has brought."""
        rename = renaming(self.name, "-")
        records = (decode_record(entry, MATCH.event_type) for entry in holding(log, self.name.encode()))
        return any(rename(record) is not record for record in records)


def _is_over(state: Any) -> bool:
    """Tell whether the stored state of an own actor says that it has ended."""
    match state:
        case None:
            return False
        case PlayerState():
            return erasing.has_left(state)
        case FriendsState():
            return not (state.links or state.untold)
        case StandingState():
            return not (state.banned_until_ms or state.muted_until_ms or state.acts or state.told < state.number)
        case _:
            return False
