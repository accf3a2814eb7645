"""The relations by which a client sees others: read from the store when it begins to watch, asked of their actor later.

A login that watches its friends needs no more of its list of relations than to read it, once: an activation would cost
it more than 200 friends do. An application whose list is written through names a store query for that; many who come
at once are read together. The number of the list says whether it is the newest, as with an answer of the actor, which
is asked where the store does not answer, and for every later list.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any, Final

import structlog

from server.actors.pictures import Relations
from server.actors.presence import PresenceKind
from server.errors import GarrisonError
from server.ids import actor_id
from server.runtime.supervisor import Supervisor
from server.sessions.ports import ClientCalls
from server.sessions.presence_pictures import Sight, Visibility
from server.sessions.session import Session
from server.sessions.slices import Slices
from server.storage.queries import StoreQueries

log = structlog.get_logger(__name__)
LISTS_AT_ONCE: Final = 50
"""Lists in one query; the next ones wait for its answer."""
LIST_UNITS: Final = 50
"""Weight of a list among what the loop does in slices."""


class Sights:
    """See the module's head. `face`: how the application shows its players, and who knows their relations."""

    def __init__(
        self,
        face: PresenceKind | None,
        actors: ClientCalls,
        queries: StoreQueries,
        supervisor: Supervisor,
        slices: Slices,
        visibility: Visibility,
    ) -> None:
        self._face, self._actors, self._queries = face, actors, queries
        self._supervisor, self._slices, self._visibility = supervisor, slices, visibility
        self._wanted: dict[str, list[asyncio.Future[Relations | None]]] = {}
        self._reading = False

    def has_relations(self, session: Session) -> bool:
        """Whether there is a list of relations of the session's client."""
        return session.caller.role == "player" and self._face is not None and self._face.relations is not None

    async def first(self, session: Session) -> Sight:
        """The sight of a client that begins to watch. Raises what the actor of relations raises."""
        face = self._face
        if face is not None and face.stored_relations and self.has_relations(session):
            found = await self._stored(session.caller.subject)
            if found is not None:
                return Sight(self._visibility, session.caller.role, session.caller.subject, found)
        return await self.newest(session)

    async def newest(self, session: Session) -> Sight:
        """The sight of a client by the newest list. Raises what the actor of relations raises."""
        caller, found = session.caller, None
        if self.has_relations(session):
            assert self._face is not None and self._face.relations is not None
            asked = self._actors.ask_now(actor_id(self._face.relations.kind, caller.subject), "relations", (caller,))
            found = await asked if isinstance(asked, asyncio.Future) else asked
        return Sight(self._visibility, caller.role, caller.subject, found)

    # ---- the store ----

    async def _stored(self, player: str) -> Relations | None:
        """The player's list as it is stored; None where the store does not answer. Who comes first reads, at once;
        those who come meanwhile are read together, next."""
        future: asyncio.Future[Relations | None] = asyncio.get_running_loop().create_future()
        self._wanted.setdefault(player, []).append(future)
        if not self._reading:
            self._reading = True
            try:
                await self._read_some()
            finally:
                self._go_on()
        return await future

    def _go_on(self) -> None:
        """Read what was wanted meanwhile, in a task of its own: nobody's answer waits for that."""
        self._reading = bool(self._wanted)
        if self._reading:
            self._supervisor.spawn(self._read(), "stored relations")

    async def _read(self) -> None:
        try:
            while self._wanted:
                await self._read_some()
        finally:
            self._reading = False

    async def _read_some(self) -> None:
        """Read lists that are wanted, as many as go into a query."""
        assert self._face is not None and self._face.stored_relations is not None
        batch = {player: self._wanted.pop(player) for player in [*islice(self._wanted, LISTS_AT_ONCE)]}
        query, relations_of = self._face.stored_relations
        rows: dict[str, Mapping[str, Any]] | None = None
        try:
            rows = {row["key"]: row for row in await self._queries.run(query, {"keys": list(batch)})}
        except GarrisonError as error:
            log.warning("lists of relations cannot be read", count=len(batch), why=error.message)
        finally:
            for player, futures in batch.items():
                self._slices.do(LIST_UNITS, partial(self._answer, futures, rows, player, relations_of))

    def _answer(
        self,
        futures: list[asyncio.Future[Relations | None]],
        rows: dict[str, Mapping[str, Any]] | None,
        player: str,
        relations_of: Callable[[Mapping[str, Any] | None], Relations],
    ) -> None:
        """Give one list to those who wait for it; a row that is none is no answer."""
        found: Relations | None = None
        if rows is not None:
            try:
                found = relations_of(rows.get(player))
            except Exception as error:
                log.error("a stored list of relations cannot be read", player=player, why=repr(error))
        for future in futures:
            if not future.done():
                future.set_result(found)
