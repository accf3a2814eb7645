"""Sessions that watch players: what they ask for, what each may see, and how they go on.

A session's *table* (`presence_tables.py`) has the players that it watches, each at the level at which its client sees
them; `presence_sending.py` sends what moves. Levels come from the client's own list of relations, which is asked for
with each request, and again when its own player's entry tells of a newer one: a session watches its own player for
that. Until the new list is here nothing is sent to the session: somebody who has blocked it must not be seen changing.

A request goes its way in three steps: relations, first pictures, and what the client has not seen yet; its answer
comes after all of that has been sent. A session that is moved to another node is dropped here, and its client watches
again there; one that comes back to this node goes on from its cursor.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import structlog

from server.actors.actor import Role
from server.actors.pictures import Relations
from server.actors.presence import PresenceKind
from server.errors import Forbidden, GarrisonError, NotFound, Overloaded, Rejected, Unavailable
from server.ids import KEY_PATTERN, NodeAddress, actor_id
from server.presence.ports import Presence, WatchedPlayer
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.end_reasons import Ending
from server.sessions.ports import ClientCalls
from server.sessions.presence_pictures import LEVELS, NOTHING_SEEN, Sight, Values, values_of, version_of
from server.sessions.presence_sending import PresenceSender, SessionAudience, SessionWatches
from server.sessions.presence_tables import (
    ASKED_FOR,
    BY_FRIENDS,
    BY_NAME,
    WAITING,
    Audience,
    WatchTable,
    link,
    unlink,
)
from server.sessions.session import Session
from server.sessions.session_phases import Phase
from server.sessions.ticks import TickClock
from server.sessions.watching import charge, check_still, is_moving
from server.settings import PresenceSettings
from server.wire.messages import (
    Done,
    PresenceItem,
    PresenceList,
    PresenceListed,
    PresenceUnwatch,
    PresenceWatch,
    PresenceWatched,
)

log = structlog.get_logger(__name__)

_KEY: Final = re.compile(KEY_PATTERN, re.ASCII)
_decode_value: Final = msgspec.msgpack.Decoder().decode
A_MESSAGE: Final = 50
"""Players that weigh as much as a message in the rate of who asks for them."""
FRIENDS_WEIGH: Final = 10
ASK_AGAIN_S: Final = 1.0
"""How long after a failed one the next question for a session's new relations is asked."""
OLD_ANSWERS: Final = 5
"""So many answers that are older than what a session's player has heard are not believed."""


class PresenceWatches:
    """See the module's head. `face`: how the application shows its players; without it nobody is watched. `me`: this
    node. `frame_bytes`: about what the items of a frame may have at most."""

    def __init__(
        self,
        engine: Presence | None,
        face: PresenceKind | None,
        actors: ClientCalls,
        supervisor: Supervisor,
        metrics: Metrics,
        ticks: TickClock,
        me: NodeAddress,
        settings: PresenceSettings,
        frame_bytes: int,
    ) -> None:
        self._engine, self._face, self._actors, self._supervisor = engine, face, actors, supervisor
        self._metrics, self._ticks, self._settings = metrics, ticks, settings
        self._sender = PresenceSender(me, metrics, frame_bytes)
        self._audiences: dict[str, SessionAudience] = {}
        self._changed: dict[SessionAudience, None] = {}
        unknown = face.unknown if face is not None else b""
        self._hidden = face.hidden if face is not None else b""
        self._not_known: Values = (b"", self._hidden, unknown, unknown, unknown)
        if engine is not None:
            engine.on_change(self.changed)

    # ---- from clients ----

    def watch(self, session: Session, message: PresenceWatch) -> "asyncio.Future[PresenceWatched]":
        """Watch players. Raises, or its future does, `NotFound` where the application shows no presence, `Forbidden`
        for friends of somebody who has none, `Rejected` (too many), `Overloaded` (the node watches as many as it
        may), `RateLimited`, and what the actor of relations raises; then none of these players is watched."""
        check_still(session)
        self._need_face()
        if message.friends and not self._has_relations(session):
            raise Forbidden("only a player has friends to watch")
        weight = 1 + len(message.players) // A_MESSAGE + (FRIENDS_WEIGH if message.friends else 0)
        charge(session, weight, self._ticks, self._metrics)
        players, bad = self._sort_out(message.players)
        table = self._table(session)
        try:
            self._pair(table, players, BY_NAME)
        except GarrisonError:
            self._drop_if_unused(table)
            raise
        answer: asyncio.Future[PresenceWatched] = asyncio.get_running_loop().create_future()
        table.asks += 1
        self._supervisor.spawn(self._watch(table, message, players, bad, answer), "watch players")
        return answer

    async def _watch(
        self,
        table: SessionWatches,
        message: PresenceWatch,
        players: list[str],
        bad: list[str],
        answer: "asyncio.Future[PresenceWatched]",
    ) -> None:
        try:
            sight = await self._sight(table)
            if message.friends:
                self._pair(table, sorted(sight.friends), BY_FRIENDS)
                table.friends = True
            wanted = [*players, *sight.friends] if message.friends else players
            sight = await self._known(table, wanted, sight)
            if message.friends:
                wanted = [*players, *sight.friends]
        except Exception as error:
            table.asks -= 1
            self._not_watched(table, players, message.friends)
            if not answer.done():
                answer.set_exception(error)
            return
        table.asks -= 1
        seen = {each.player: each.version for each in message.seen}
        if message.friends and table.session.people is table:
            table.friends_due = True
            table.stay_behind()
        self._show(table, wanted, sight, seen)

        def answered(error: GarrisonError | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(PresenceWatched(message.id, self._sender.cursor, table.count, bad))

        table.answers = [*(table.answers or ()), answered]
        self._sender.flush(table)
        self._drop_if_unused(table)

    async def _known(self, table: SessionWatches, players: list[str], sight: Sight) -> Sight:
        """Wait for the first pictures of players that a session asks for. The session's sight after that."""
        asked = [
            audience.entry
            for player in players
            if (audience := self._audiences.get(player)) is not None and audience.entry.state == "asked"
        ]
        if asked:
            assert self._engine is not None
            await self._engine.answered(asked)
        if table.session.people is table and sight.number != table.number:
            return await self._sight(table)  # other relations since
        return sight

    def _not_watched(self, table: SessionWatches, players: list[str], friends: bool) -> None:
        """Take back what a request that failed has asked for."""
        if table.session.people is not table:
            return
        index = table.index()
        for player in players:
            slot = index.get(player, -1)
            if slot >= 0 and table.marks[slot] & WAITING:
                self._unask(table, slot, BY_NAME)
        if friends:
            for slot in index.values():
                if table.marks[slot] & WAITING:
                    self._unask(table, slot, BY_FRIENDS)
        self._drop_if_unused(table)

    def _show(self, table: SessionWatches, players: Iterable[str], sight: Sight, seen: dict[str, int]) -> None:
        """Send these players at their levels, but for versions that the client has."""
        if table.session.people is not table:
            return
        index, marks, audiences = table.index(), table.marks, table.audiences
        for player in players:
            slot = index.get(player, -1)
            if slot < 0 or not marks[slot] & ASKED_FOR:
                continue  # watched no more
            audience = audiences[slot]
            assert audience is not None
            values = audience.values
            if values is None:
                audience.show(self._values(audience.entry), self._sender.revision)
                values = audience.values
                assert values is not None
            level = sight.level(player)
            marks[slot] &= ~WAITING
            table.see(slot, level)
            if seen and seen.get(player) == version_of(values[level]):
                self._metrics.presence_left_out_total += 1
            else:
                table.make_late(slot)
        gone = [player for player in seen if (slot := index.get(player, -1)) < 0 or not marks[slot] & ASKED_FOR]
        self._tell_gone(table, gone)
        table.since = self._sender.next_revision()

    def unwatch(self, session: Session, message: PresenceUnwatch) -> Done:
        """Watch players no more. Raises `Unavailable` while the session is on its way elsewhere."""
        check_still(session)
        table = session.people
        if table is not None:
            index = table.index()
            gone = [
                player
                for player in message.players
                if (slot := index.get(player, -1)) >= 0 and self._unask(table, slot, BY_NAME)
            ]
            if message.friends:
                table.friends = False
                gone += [player for player, slot in index.items() if self._unask(table, slot, BY_FRIENDS)]
            self._tell_gone(table, gone)
            self._sender.flush(table)
            self._drop_if_unused(table)
        return Done(message.id)

    def list_once(self, session: Session, message: PresenceList) -> "asyncio.Future[PresenceListed]":
        """The presence of players, once. Raises as `watch` does."""
        self._need_face()
        charge(session, 1 + len(message.players) // A_MESSAGE, self._ticks, self._metrics)
        players, bad = self._sort_out(message.players)
        answer: asyncio.Future[PresenceListed] = asyncio.get_running_loop().create_future()
        self._supervisor.spawn(self._list(session, message, players, bad, answer), "list players")
        return answer

    async def _list(
        self,
        session: Session,
        message: PresenceList,
        players: list[str],
        bad: list[str],
        answer: "asyncio.Future[PresenceListed]",
    ) -> None:
        try:
            assert self._engine is not None
            looked = self._engine.look(players)
            sight = Sight(self._settings.visibility, *await self._relations(session))
            items = []
            for player, entry in zip(players, await looked, strict=True):
                value = self._values(entry)[sight.level(player)]
                told: Any = _decode_value(value) if session.format == "json" else msgspec.Raw(value)
                items.append(PresenceItem(player, version_of(value), told))
        except Exception as error:
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(PresenceListed(message.id, items, bad))

    def _need_face(self) -> None:
        if self._face is None or self._engine is None:
            raise NotFound("this application shows nobody's presence")

    def _sort_out(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        """The players among these names, each once, and the names that no player can have."""
        known, is_key = self._audiences, _KEY.fullmatch
        players: dict[str, None] = {}
        bad = []
        for name in names:
            if name in known or is_key(name):
                players[name] = None
            else:
                bad.append(name)
        return list(players), bad

    # ---- pairs ----

    def _table(self, session: Session) -> SessionWatches:
        table = session.people
        if table is None:
            table = session.people = WatchTable(session, session.format == "json")
            if self._has_relations(session):
                table.own = self._audience(session.caller.subject)
                link(table, table.own, NOTHING_SEEN)
        return table

    def _audience(self, player: str) -> SessionAudience:
        found = self._audiences.get(player)
        if found is None:
            self._make([player])
            found = self._audiences[player]
        return found

    def _make(self, players: Sequence[str]) -> None:
        """Begin to watch players whom nobody here watches."""
        assert self._engine is not None
        for player, entry in zip(players, self._engine.watch(players), strict=True):
            entry.watchers = self._audiences[player] = Audience(player, entry)

    def _pair(self, table: SessionWatches, players: Sequence[str], why: int) -> None:
        """Let a session watch these players. Raises `Rejected`, `Overloaded`, with nothing done."""
        index, marks = table.index(), table.marks
        new = []
        for player in players:
            slot = index.get(player, -1)
            if slot < 0 or not marks[slot] & ASKED_FOR:
                new.append(player)
        settings = self._settings
        if table.count + len(new) > settings.max_watched:
            raise Rejected("too_many_watched", f"a session may watch at most {settings.max_watched} players")
        if self._metrics.presence_watched + len(new) > settings.max_watched_here:
            raise Overloaded(
                f"the sessions of this node may watch at most {settings.max_watched_here} players together"
            )
        audiences = self._audiences
        strangers = [player for player in new if player not in audiences]
        if strangers:
            self._make(strangers)
        for player in new:
            slot = index.get(player, -1)
            if slot < 0:
                link(table, audiences[player], why | WAITING)
            else:
                marks[slot] |= why | WAITING
        if len(new) < len(players):
            for player in players:
                if (slot := index.get(player, -1)) >= 0:
                    marks[slot] |= why
        table.count += len(new)
        self._metrics.presence_watched += len(new)

    def _unask(self, table: SessionWatches, slot: int, why: int) -> bool:
        """The pair is not asked for any more by name, or as a friend. True if it is watched no more."""
        mark = table.marks[slot]
        if not mark & why:
            return False
        mark &= ~why
        table.marks[slot] = mark
        if mark & ASKED_FOR:
            return False
        table.count -= 1
        self._metrics.presence_watched -= 1
        if table.audiences[slot] is table.own:
            table.marks[slot] = 0
            table.see(slot, NOTHING_SEEN)
        else:
            self._unlink(table, slot)
        return True

    def _unlink(self, table: SessionWatches, slot: int) -> None:
        audience = unlink(table, slot)
        if not audience.tables:
            assert self._engine is not None
            del self._audiences[audience.player]
            self._changed.pop(audience, None)
            audience.entry.watchers = None
            self._engine.release(audience.entry)

    def _tell_gone(self, table: SessionWatches, players: Sequence[str]) -> None:
        """Let the client know that it watches these players no more."""
        if players:
            table.stay_behind()
            table.gone = [*(table.gone or ()), *players]
            table.since = self._sender.next_revision()

    def _drop_if_unused(self, table: SessionWatches) -> None:
        if not (table.count or table.friends or table.asks or table.behind):
            self.drop(table.session)

    # ---- sessions that end, move, and come back ----

    def session_ended(self, session: Session, _before: Phase, _ending: Ending) -> None:
        """Let a session that has ended watch nobody."""
        self.drop(session)

    def drop(self, session: Session) -> None:
        """Let a session watch nobody any more: it has ended, or lives elsewhere, or its client begins anew."""
        table, session.people = session.people, None
        if table is None:
            return
        self._sender.forget(table)
        self._metrics.presence_watched -= table.count
        for slot, audience in enumerate(table.audiences):
            if audience is not None:
                self._unlink(table, slot)
        answers, table.answers = table.answers, None
        for answered in answers or ():
            answered(is_moving())

    def resume(self, session: Session, cursor: str | None) -> bool:
        """Go on for a client that is back and has everything up to `cursor`. False: it watches nobody now, since that
        does not tell what it lacks."""
        table = session.people
        if table is None:
            return False
        revision = self._sender.revision_of(cursor) if cursor else -1
        if revision < table.since or table.asks:
            self.drop(session)
            return False
        for slot, audience in enumerate(table.audiences):
            if audience is None:
                continue
            mark = table.marks[slot]
            if mark & ASKED_FOR and audience.moved[mark & LEVELS] > revision:
                table.make_late(slot)
        self._sender.catch_up(table)
        return True

    def catch_up(self, session: Session) -> None:
        """Send what the session lacks at the next tick: it can be written to again."""
        if session.people is not None:
            self._sender.catch_up(session.people)

    # ---- relations ----

    def _has_relations(self, session: Session) -> bool:
        return session.caller.role == "player" and self._face is not None and self._face.relations is not None

    async def _relations(self, session: Session) -> tuple[Role, str, Relations | None]:
        caller = session.caller
        if not self._has_relations(session):
            return caller.role, caller.subject, None
        assert self._face is not None and self._face.relations is not None
        found = self._actors.ask_now(actor_id(self._face.relations.kind, caller.subject), "relations", (caller,))
        if isinstance(found, asyncio.Future):
            found = await found
        return caller.role, caller.subject, found

    async def _sight(self, table: SessionWatches) -> Sight:
        """Ask what a session may see. A list that is newer than the one that it had is applied to all that it
        watches. Raises what the actor of relations raises, and `Unavailable`."""
        sight = Sight(self._settings.visibility, *await self._relations(table.session))
        if table.session.people is not table:
            raise is_moving()
        if sight.number < table.number:
            raise Unavailable("the newest relations of this player are not there now", retry_after_s=ASK_AGAIN_S)
        if sight.number > table.number:
            self._apply(table, sight)
        return sight

    def changed(self, entries: Sequence[WatchedPlayer]) -> None:
        """Take in that these entries have changed: the engine's call."""
        for entry in entries:
            audience: SessionAudience | None = entry.watchers
            if audience is None:
                continue
            self._changed[audience] = None
            if entry.relations > audience.relations:
                audience.relations = entry.relations
                for table in audience.tables:
                    if table.own is audience:
                        self._hold(table)

    def _hold(self, table: SessionWatches) -> None:
        """Send a session nothing until its newest relations are here."""
        own = table.own
        if own is None or table.held or table.number < 0 or own.entry.relations <= table.number:
            return
        table.held = True
        table.stay_behind()
        self._supervisor.spawn(self._ask_again(table), "relations")

    async def _ask_again(self, table: SessionWatches) -> None:
        own, old = table.own, 0
        assert own is not None
        while table.session.people is table:
            try:
                sight = Sight(self._settings.visibility, *await self._relations(table.session))
            except GarrisonError as error:
                log.warning("relations cannot be had", session=str(table.session), error=str(error))
            else:
                if sight.number >= own.entry.relations or old >= OLD_ANSWERS:
                    break
                old += 1
            await asyncio.sleep(ASK_AGAIN_S)
        else:
            return
        if table.session.people is not table:
            return
        self._apply(table, sight)
        table.held = False
        self._sender.flush(table)

    def _apply(self, table: SessionWatches, sight: Sight) -> None:
        """Let a session see what its newest relations allow: levels change, friends come and go."""
        first, table.number = table.number < 0, sight.number
        if first:
            return  # nothing is shown yet
        gone, marks = [], table.marks
        for slot, audience in enumerate(table.audiences):
            if audience is None or not marks[slot] & ASKED_FOR:
                continue
            player = audience.player
            if marks[slot] & BY_FRIENDS and player not in sight.friends:
                table.friends_due = True
                table.stay_behind()
                if self._unask(table, slot, BY_FRIENDS):
                    gone.append(player)
                    continue
            if marks[slot] & WAITING or audience.values is None:
                continue
            before, level = marks[slot] & LEVELS, sight.level(player)
            if level != before:
                table.see(slot, level)
                if audience.values[level] != audience.values[before]:
                    table.make_late(slot)
        self._tell_gone(table, gone)
        table.since = self._sender.next_revision()
        if table.friends:
            index = table.index()
            new = [each for each in sorted(sight.friends) if each not in index or not marks[index[each]] & BY_FRIENDS]
            if new:
                self._befriend(table, new)

    def _befriend(self, table: SessionWatches, new: list[str]) -> None:
        """Watch new friends. Those past a limit are not watched."""
        try:
            self._pair(table, new, BY_FRIENDS)
        except GarrisonError as error:
            log.warning("new friends are not watched", session=str(table.session), error=str(error))
            return
        table.asks += 1
        table.friends_due = True
        table.stay_behind()
        self._supervisor.spawn(self._show_friends(table, new), "watch friends")

    async def _show_friends(self, table: SessionWatches, new: list[str]) -> None:
        try:
            sight = Sight(self._settings.visibility, *await self._relations(table.session))
            sight = await self._known(table, new, sight)
        finally:
            table.asks -= 1
        self._show(table, new, sight, {})
        self._sender.flush(table)

    # ---- at ticks ----

    def tick(self) -> None:
        """Send what has changed since the tick before."""
        changed, self._changed = self._changed, {}
        self._sender.send([(audience, self._values(audience.entry)) for audience in changed])

    def _values(self, entry: WatchedPlayer) -> Values:
        pictures = entry.pictures
        if entry.state != "known" or pictures is None:
            return self._not_known
        return values_of(pictures, self._hidden)
