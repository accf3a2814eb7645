"""Requests about the presence of players, and one of them whole: `presence.list`, which shows players once."""

import asyncio
import re
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

import msgspec

from server.actors.presence import PresenceKind
from server.errors import NotFound
from server.ids import KEY_PATTERN
from server.presence.ports import Presence, WatchedPlayer
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.presence_pictures import Values, values_of, version_of
from server.sessions.session import Session
from server.sessions.sights import Sights
from server.sessions.slices import Slices
from server.sessions.ticks import TickClock
from server.sessions.watching import charge
from server.wire.messages import PresenceItem, PresenceList, PresenceListed, PresenceWatch, PresenceWatched

A_MESSAGE: Final = 50
"""Players that weigh as much as a message in the rate of who asks for them."""
_KEY: Final = re.compile(KEY_PATTERN, re.ASCII)
_decode_value: Final = msgspec.msgpack.Decoder().decode


class Faces:
    """The looks of the players of an application, which may show none: then it has no `engine` either."""

    def __init__(self, engine: Presence | None, face: PresenceKind | None) -> None:
        self.engine = engine if face is not None else None
        unknown = face.unknown if face is not None else b""
        self._hidden = face.hidden if face is not None else b""
        self._not_known: Values = (b"", self._hidden, unknown, unknown, unknown)

    def need(self) -> Presence:
        """The engine. Raises `NotFound`."""
        if self.engine is None:
            raise NotFound("this application shows nobody's presence")
        return self.engine

    def values(self, entry: WatchedPlayer) -> Values:
        """The values of a player now, by level."""
        pictures = entry.pictures
        if entry.state != "known" or pictures is None:
            return self._not_known
        return values_of(pictures, self._hidden)


def sort_out(names: Iterable[str], known: Container[str]) -> tuple[list[str], list[str]]:
    """The players among these names, each once, and the names that no player can have; `known`: names of players."""
    is_key = _KEY.fullmatch
    players: dict[str, None] = {}
    bad = []
    for name in names:
        if name in known or is_key(name):
            players[name] = None
        else:
            bad.append(name)
    return list(players), bad


class WatchRequest:
    """A `presence.watch` that is under way. `has_friends`: the session watches its friends for it; `has_waited`: those
    who were not known yet have been waited for. `unasked`: see `WatchTable.unasked`, as it was when this came."""

    __slots__ = ("answer", "bad", "friends", "has_friends", "has_waited", "id", "players", "seen", "unasked", "waiting")

    def __init__(self, message: PresenceWatch, players: list[str], bad: list[str], unasked: int) -> None:
        self.id, self.friends, self.players, self.bad, self.unasked = message.id, message.friends, players, bad, unasked
        self.seen = {each.player: each.version for each in message.seen}
        self.has_friends = self.has_waited = False
        self.waiting: Sequence[str] = players
        """Players who are to be shown; of friends those who were not known when they were watched."""
        self.answer: asyncio.Future[PresenceWatched] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless it is answered."""
        if not self.answer.done():
            self.answer.set_exception(error)


class PresenceLists:
    """Shows players once, to whoever asks."""

    def __init__(
        self, faces: Faces, sights: Sights, slices: Slices, supervisor: Supervisor, metrics: Metrics, ticks: TickClock
    ) -> None:
        self._faces, self._sights, self._slices = faces, sights, slices
        self._supervisor, self._metrics, self._ticks = supervisor, metrics, ticks

    def list_once(self, session: Session, message: PresenceList) -> "asyncio.Future[PresenceListed]":
        """The presence of players, once. Raises as `PresenceWatches.watch` does."""
        engine = self._faces.need()
        charge(session, 1 + len(message.players) // A_MESSAGE, self._ticks, self._metrics)
        players, bad = sort_out(message.players, ())
        answer: asyncio.Future[PresenceListed] = asyncio.get_running_loop().create_future()
        self._supervisor.spawn(self._list(engine, session, message.id, players, bad, answer), "list players")
        return answer

    async def _list(
        self,
        engine: Presence,
        session: Session,
        number: int,
        players: list[str],
        bad: list[str],
        answer: "asyncio.Future[PresenceListed]",
    ) -> None:
        try:
            looked = engine.look(players)
            sight = await self._sights.newest(session)
            entries = await looked

            def items() -> list[PresenceItem]:
                found = []
                for player, entry in zip(players, entries, strict=True):
                    value = self._faces.values(entry)[sight.level(player)]
                    told: Any = _decode_value(value) if session.format == "json" else msgspec.Raw(value)
                    found.append(PresenceItem(player, version_of(value), told))
                return found

            listed = PresenceListed(number, await self._slices.turn(len(players), items), bad)
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(listed)
