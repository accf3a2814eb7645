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
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from server.errors import Forbidden, GarrisonError, Overloaded, Rejected, Unavailable
from server.ids import NodeAddress
from server.presence.ports import WatchedPlayer
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.sessions.end_reasons import Ending
from server.sessions.presence_pictures import (
    LEVELS,
    LOOK_BITS,
    LOOKS,
    NOTHING_SEEN,
    Sight,
    Values,
    version_of,
)
from server.sessions.presence_requests import A_MESSAGE, Faces, WatchRequest, sort_out
from server.sessions.presence_sending import PresenceSender, SessionAudience, SessionWatches
from server.sessions.presence_tables import (
    ASKED_FOR,
    BY_FRIENDS,
    BY_NAME,
    LATE,
    WAITING,
    Audience,
    WatchTable,
    link,
    link_all,
    unlink,
)
from server.sessions.session import Session
from server.sessions.session_phases import Phase
from server.sessions.sights import Sights
from server.sessions.slices import Slices
from server.sessions.ticks import TickClock
from server.sessions.watching import charge, check_still, is_moving
from server.settings import PresenceSettings
from server.wire.messages import (
    Done,
    PresenceUnwatch,
    PresenceWatch,
    PresenceWatched,
)

log = structlog.get_logger(__name__)

FRIENDS_WEIGH: Final = 10
ASK_AGAIN_S: Final = 1.0
"""How long after a failed one the next question for a session's new relations is asked."""
OLD_ANSWERS: Final = 5
"""So many answers that are older than what a session's player has heard are not believed."""


class PresenceWatches:
    """See the module's head. `me`: this node. `frame_bytes`: about what the items of a frame may have at most."""

    def __init__(
        self,
        faces: Faces,
        supervisor: Supervisor,
        metrics: Metrics,
        ticks: TickClock,
        me: NodeAddress,
        settings: PresenceSettings,
        frame_bytes: int,
        slices: Slices,
        sights: Sights,
    ) -> None:
        self._faces, self.engine, self._supervisor = faces, faces.engine, supervisor
        self._slices, self._sights = slices, sights
        self.metrics, self._ticks, self._settings = metrics, ticks, settings
        self.sender = PresenceSender(
            me, metrics, frame_bytes, slices, lambda audience: self._faces.values(audience.entry)
        )
        self.audiences: dict[str, SessionAudience] = {}
        self._changed: dict[SessionAudience, None] = {}
        if faces.engine is not None:
            faces.engine.on_change(self.changed)

    # ---- from clients ----

    def watch(self, session: Session, message: PresenceWatch) -> "asyncio.Future[PresenceWatched]":
        """Watch players. Raises `NotFound` where the application shows no presence, `Forbidden` for friends of somebody
        who has none, `RateLimited`; its future raises `Rejected` (too many), `Overloaded` (the node watches as many as
        it may), and what the actor of relations raises. Then none of these players is watched."""
        check_still(session)
        self._faces.need()
        if message.friends and not self._sights.has_relations(session):
            raise Forbidden("only a player has friends to watch")
        weight = 1 + len(message.players) // A_MESSAGE + (FRIENDS_WEIGH if message.friends else 0)
        charge(session, weight, self._ticks, self.metrics)
        players, bad = sort_out(message.players, self.audiences)
        table = self._table(session)
        table.asks += 1
        request = WatchRequest(message, players, bad, table.unasked)
        self._slices.do(len(players), partial(self._begin, table, request))
        return request.answer

    def _begin(self, table: SessionWatches, request: WatchRequest) -> None:
        try:
            if table.session.people is not table:
                raise is_moving()
            self._pair(table, request.players, BY_NAME)
        except GarrisonError as error:
            table.asks -= 1
            self._drop_if_unused(table)
            request.fail(error)
        else:
            self._supervisor.spawn(self._watch(table, request), "watch players")

    async def _watch(self, table: SessionWatches, request: WatchRequest) -> None:
        try:
            sight = await self._sight(table)
            while True:
                units = len(request.players) + (len(sight.friends) if request.friends else 0)
                missing = await self._slices.turn(units, partial(self._go_on, table, request, sight))
                if missing is None:
                    return
                if missing:
                    assert self.engine is not None
                    await self.engine.answered(missing)
                    request.has_waited = True
                if sight.number != table.number:
                    sight = await self._sight(table)  # other relations since
        except Exception as error:
            table.asks -= 1
            self._not_watched(table, request.players, request.has_friends)
            request.fail(error)

    def _go_on(self, table: SessionWatches, request: WatchRequest, sight: Sight) -> list[WatchedPlayer] | None:
        """Send what a request asks for: None. Or else the entries that are to be waited for; none of them, if the sight
        is an old one. Raises as `_pair`, and `Unavailable`."""
        if table.session.people is not table:
            raise is_moving()
        if sight.number != table.number:
            return []
        table.session.changed()
        self._hold(table)  # its player may have told of a newer list meanwhile
        if request.friends and request.unasked != table.unasked:
            request.friends = False  # watched no more, before they were
        if request.friends and not request.has_friends:
            request.waiting = [*request.waiting, *self._pair(table, sight.friends, BY_FRIENDS, sight, request.seen)]
            request.has_friends = table.friends = table.friends_due = True
            table.stay_behind()
        if not request.has_waited:
            audiences = self.audiences
            asked = [audience.entry for player in request.waiting if (audience := audiences.get(player)) is not None]
            if table.own is not None:
                asked.append(table.own.entry)  # until that is known, the list may be an old one
            if missing := [entry for entry in asked if entry.state == "asked"]:
                return missing
        self._show(table, request.waiting, sight, request.seen)

        def answered(error: GarrisonError | None) -> None:
            if error is not None:
                request.fail(error)
            elif not request.answer.done():
                watched = PresenceWatched(request.id, self.sender.cursor, table.count, request.bad)
                request.answer.set_result(watched)

        table.answers = [*(table.answers or ()), answered]
        self.sender.flush(table)
        table.asks -= 1
        self._drop_if_unused(table)
        return None

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

    def _show(self, table: SessionWatches, players: Sequence[str], sight: Sight, seen: dict[str, int]) -> None:
        """Send these players at their levels, but for versions that the client has."""
        if table.session.people is not table:
            return
        table.session.changed()
        table.since = self.sender.next_revision()
        if not (players or seen):
            return
        index, marks, audiences, places = table.index(), table.marks, table.audiences, table.places
        for player in players:
            slot = index.get(player, -1)
            if slot < 0 or not marks[slot] & ASKED_FOR:
                continue  # watched no more
            audience = audiences[slot]
            assert audience is not None
            values = self._values_of(audience)
            level = sight.level(player)
            look = level | table.json
            marks[slot] = marks[slot] & ~(WAITING | LOOKS) | look
            audience.slots[places[slot]] = slot << LOOK_BITS | look
            if seen and seen.get(player) == version_of(values[level]):
                self.metrics.presence_left_out_total += 1
            else:
                table.make_late(slot)
        if seen:
            gone = [player for player in seen if (slot := index.get(player, -1)) < 0 or not marks[slot] & ASKED_FOR]
            self._tell_gone(table, gone)

    def _values_of(self, audience: SessionAudience) -> Values:
        """The values that all watchers of a player are told of; from now on, if it was not known before."""
        values = audience.values
        if values is None:
            audience.show(self._faces.values(audience.entry), self.sender.revision)
            values = audience.values
            assert values is not None
        return values

    def unwatch(self, session: Session, message: PresenceUnwatch) -> "Done | asyncio.Future[Done]":
        """Watch players no more. Raises, or its future does, `Unavailable` while the session is on its way
        elsewhere."""
        check_still(session)
        if session.people is None:
            return Done(message.id)
        answer: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        self._slices.do(len(message.players), partial(self._unwatch, session, message, answer))
        return answer.result() if answer.done() and answer.exception() is None else answer

    def _unwatch(self, session: Session, message: PresenceUnwatch, answer: "asyncio.Future[Done]") -> None:
        """Take back what was asked for before: requests to watch stand in the same line."""
        if answer.done():
            return
        if session.moving:
            answer.set_exception(is_moving())
            return
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
                table.unasked += 1
                session.changed()
                gone += [player for player, slot in index.items() if self._unask(table, slot, BY_FRIENDS)]
            self._tell_gone(table, gone)
            self.sender.flush(table)
            self._drop_if_unused(table)
        answer.set_result(Done(message.id))

    # ---- pairs ----

    def _table(self, session: Session) -> SessionWatches:
        session.changed()
        table = session.people
        if table is None:
            table = session.people = WatchTable(session, session.format == "json")
            if self._sights.has_relations(session):
                table.own = self._audience(session.caller.subject)
                link(table, table.own, NOTHING_SEEN)
        return table

    def _audience(self, player: str) -> SessionAudience:
        found = self.audiences.get(player)
        if found is None:
            self._make([player])
            found = self.audiences[player]
        return found

    def _make(self, players: Sequence[str]) -> None:
        """Begin to watch players whom nobody here watches."""
        assert self.engine is not None
        for player, entry in zip(players, self.engine.watch(players), strict=True):
            entry.watchers = self.audiences[player] = Audience(player, entry)

    def _pair(
        self, table: SessionWatches, players: Sequence[str], why: int, sight: Sight | None = None,
        seen: dict[str, int] | None = None,
    ) -> Sequence[str]:  # fmt: skip
        """Let a session watch these players. With a sight, those that are new and known are sent as well, or will be:
        they are late at once. The others, which wait to be shown. Raises `Rejected`, `Overloaded`, with nothing
        done."""
        table.session.changed()
        index, marks = table.index(), table.marks
        new = players
        if len(index) > 1 or table.own is None or table.own.player in players:
            new = [each for each in players if (slot := index.get(each, -1)) < 0 or not marks[slot] & ASKED_FOR]
        settings = self._settings
        if table.count + len(new) > settings.max_watched:
            raise Rejected("too_many_watched", f"a session may watch at most {settings.max_watched} players")
        if self.metrics.presence_watched + len(new) > settings.max_watched_here:
            raise Overloaded(
                f"the sessions of this node may watch at most {settings.max_watched_here} players together"
            )
        audiences = self.audiences
        found = list(map(audiences.get, new))
        if None in found:
            self._make([player for player in new if player not in audiences])
            found = [audiences[player] for player in new]
        waiting: list[str] = [] if len(new) == len(players) else [each for each in players if each in index]
        pairs: list[SessionAudience] = []
        its_marks: list[int] = []
        levels = sight.levels if sight is not None else {}
        for player, audience in zip(new, found, strict=True):
            assert audience is not None
            slot = index.get(player, -1)
            if slot >= 0:  # the session's own player, or still asked for otherwise
                marks[slot] |= why | WAITING
                if len(new) == len(players):
                    waiting.append(player)
                continue
            values = audience.values
            if sight is None or (values is None and audience.entry.state == "asked"):
                waiting.append(player)
                its_marks.append(why | WAITING)
            else:
                if values is None:
                    values = self._values_of(audience)
                level = levels.get(player, sight.other)
                if seen and seen.get(player) == version_of(values[level]):
                    self.metrics.presence_left_out_total += 1
                    its_marks.append(why | level)
                else:
                    its_marks.append(why | level | LATE)
            pairs.append(audience)
        link_all(table, pairs, its_marks)
        if len(new) < len(players):
            for player in players:
                if (slot := index.get(player, -1)) >= 0:
                    marks[slot] |= why
        table.count += len(new)
        self.metrics.presence_watched += len(new)
        return waiting

    def _unask(self, table: SessionWatches, slot: int, why: int) -> bool:
        """The pair is not asked for any more by name, or as a friend. True if it is watched no more."""
        mark = table.marks[slot]
        if not mark & why:
            return False
        mark &= ~why
        table.marks[slot] = mark
        table.session.changed()
        if mark & ASKED_FOR:
            return False
        table.count -= 1
        self.metrics.presence_watched -= 1
        if table.audiences[slot] is table.own:
            table.marks[slot] = 0
            table.see(slot, NOTHING_SEEN)
        else:
            self._unlink(table, slot)
        return True

    def _unlink(self, table: SessionWatches, slot: int) -> None:
        audience = unlink(table, slot)
        if not audience.tables:
            assert self.engine is not None
            del self.audiences[audience.player]
            self._changed.pop(audience, None)
            audience.entry.watchers = None
            self.engine.release(audience.entry)

    def _tell_gone(self, table: SessionWatches, players: Sequence[str]) -> None:
        """Let the client know that it watches these players no more."""
        if players:
            table.stay_behind()
            table.gone = [*(table.gone or ()), *players]
            table.since = self.sender.next_revision()

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
        session.changed()
        if table is None:
            return
        self.sender.forget(table)
        self.metrics.presence_watched -= table.count
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
        revision = self.sender.revision_of(cursor) if cursor else -1
        if revision < table.since or table.asks:
            self.drop(session)
            return False
        for slot, audience in enumerate(table.audiences):
            if audience is None:
                continue
            mark = table.marks[slot]
            if mark & ASKED_FOR and audience.moved[mark & LEVELS] > revision:
                table.make_late(slot)
        self.sender.catch_up(table)
        return True

    def catch_up(self, session: Session) -> None:
        """Send what the session lacks at the next tick: it can be written to again."""
        if session.people is not None:
            self.sender.catch_up(session.people)

    def take_up(self, table: SessionWatches) -> None:
        """Go on for a session whose table was inherited: what it lacks is sent, and relations that were being asked for
        are asked for."""
        if table.held:
            self._supervisor.spawn(self._ask_again(table), "relations")
        elif table.behind:
            self.sender.catch_up(table)

    # ---- relations ----

    async def _sight(self, table: SessionWatches) -> Sight:
        """Ask what a session may see. A list that is newer than the one that it had is applied to all that it
        watches. Raises what the actor of relations raises, and `Unavailable`."""
        session = table.session
        sight = await (self._sights.first(session) if table.number < 0 else self._sights.newest(session))
        if session.people is not table:
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
        table.session.changed()
        table.stay_behind()
        self._supervisor.spawn(self._ask_again(table), "relations")

    async def _ask_again(self, table: SessionWatches) -> None:
        own, old = table.own, 0
        assert own is not None
        while table.session.people is table:
            try:
                sight = await self._sights.newest(table.session)
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
        table.session.changed()
        self.sender.flush(table)

    def _apply(self, table: SessionWatches, sight: Sight) -> None:
        """Let a session see what its newest relations allow: levels change, friends come and go."""
        table.session.changed()
        first, table.number = table.number < 0, sight.number
        if first:
            return  # nothing is shown yet
        friends = set(sight.friends)
        gone, marks = [], table.marks
        for slot, audience in enumerate(table.audiences):
            if audience is None or not marks[slot] & ASKED_FOR:
                continue
            player = audience.player
            if marks[slot] & BY_FRIENDS and player not in friends:
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
        table.since = self.sender.next_revision()
        if table.friends:
            index = table.index()
            new = [each for each in sight.friends if each not in index or not marks[index[each]] & BY_FRIENDS]
            if new:
                self._befriend(table, new, sight)

    def _befriend(self, table: SessionWatches, new: list[str], sight: Sight) -> None:
        """Watch new friends. Those past a limit are not watched."""
        try:
            self._pair(table, new, BY_FRIENDS)
        except GarrisonError as error:
            log.warning("new friends are not watched", session=str(table.session), error=str(error))
            return
        table.asks += 1
        table.friends_due = True
        table.stay_behind()
        self._supervisor.spawn(self._show_friends(table, new, sight), "watch friends")

    async def _show_friends(self, table: SessionWatches, new: list[str], sight: Sight) -> None:
        try:
            assert self.engine is not None
            audiences = self.audiences
            await self.engine.answered([audiences[player].entry for player in new if player in audiences])
            while not await self._slices.turn(len(new), partial(self._show_newest, table, new, sight)):
                sight = await self._sight(table)
        finally:
            table.asks -= 1
        self.sender.flush(table)

    def _show_newest(self, table: SessionWatches, players: list[str], sight: Sight) -> bool:
        """Send these players if this sight is the newest. False: it is not."""
        if sight.number != table.number and table.session.people is table:
            return False
        self._show(table, players, sight, {})
        return True

    # ---- at ticks ----

    def tick(self) -> None:
        """Send what has changed since the tick before."""
        changed, self._changed = self._changed, {}
        self.sender.send(changed)
