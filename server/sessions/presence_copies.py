"""The sessions' side of presence, as it goes over to the next process of a node: who watches whom, and what each has
been shown.

Tables go over with their sessions, early and again when they have changed; what is shown of each player goes over
last, in the gateway's bequest. Until then a player who is watched has an entry of no engine, so that nobody is asked.
A pair that was copied late, as its mark says, is sent what is newest.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from server.presence.ports import WatchedPlayer
from server.sessions.gateway_bequest import AudienceCopy
from server.sessions.presence import PresenceWatches
from server.sessions.presence_sending import SessionAudience, SessionWatches
from server.sessions.presence_tables import (
    ASKED_FOR,
    BY_FRIENDS,
    WAITING,
    Audience,
    WatchTable,
    link_all,
    unlink,
)
from server.sessions.session import Session
from server.sessions.session_copy import PeopleCopy

ENTRIES_AT_ONCE: Final = 1_000


class PresenceCopies:
    """See the module's head."""

    def __init__(self, watches: PresenceWatches) -> None:
        self._watches = watches
        self._sent: dict[str, AudienceCopy] = {}
        """Players as they were copied ahead; there, as they came."""

    # ---- here ----

    def copy(self, session: Session) -> PeopleCopy | None:
        """The table of a session. Players who were asked for by a request that is not answered yet are left out: its
        client asks again. Friends who came new are asked for anew."""
        table = session.people
        if table is None:
            return None
        marks, again = table.marks, table.held
        players: list[str] = []
        kept = bytearray()
        for slot, audience in enumerate(table.audiences):
            if audience is None:
                continue
            mark = marks[slot]
            if mark & WAITING:
                again = again or bool(mark & BY_FRIENDS)
                if audience is not table.own:
                    continue
                mark = table.json
            players.append(audience.player)
            kept.append(mark)
        return PeopleCopy(
            players, bytes(kept), table.own is not None, table.number, table.friends, table.friends_due,
            table.late is not None, again, table.unasked, table.since, table.gone or [],
        )  # fmt: skip

    def bequeath(self) -> tuple[str, int, list[AudienceCopy]]:
        """The beginning of cursors, the present revision, and what is shown of each watched player, but for those who
        are shown as they were copied ahead."""
        sender, audiences = self._watches.sender, self._watches.audiences
        return sender.token, sender.revision, [_copy(audiences[player]) for player in self.not_copied()]

    def not_copied(self) -> list[str]:
        """Players who were not copied ahead, or are shown otherwise since."""
        sent = self._sent
        if not sent:
            return list(self._watches.audiences)
        return [
            player
            for player, audience in self._watches.audiences.items()
            if (copy := sent.get(player)) is None
            or copy.moved is not audience.moved
            or copy.relations != audience.relations
            or (copy.values is None) is not (audience.values is None)
        ]

    def copy_ahead(self, players: Iterable[str]) -> list[AudienceCopy]:
        """Copies of these players as they are shown now, for `inherit_ahead` of the next process."""
        audiences = self._watches.audiences
        copies = [_copy(audience) for player in players if (audience := audiences.get(player)) is not None]
        self._sent.update((copy.player, copy) for copy in copies)
        return copies

    def end_copying(self) -> None:
        """Forget what was copied ahead."""
        self._sent = {}

    # ---- there ----

    def inherit(self, session: Session, copy: PeopleCopy) -> None:
        """Let a session go on with its table. Nobody is asked yet."""
        table: SessionWatches = WatchTable(session, session.format == "json")
        own = copy.players.index(session.caller.subject) if copy.own and session.caller.subject in copy.players else -1
        audiences = [self._audience(player) for player in copy.players]
        link_all(table, audiences, copy.marks)
        table.count = sum(map(bool, copy.marks.translate(_ASKED)))
        table.number, table.friends, table.friends_due = copy.number, copy.friends, copy.friends_due
        table.unasked, table.since, table.gone = copy.unasked, copy.since, copy.gone or None
        if own >= 0:
            table.own = audiences[own]
            table.held = copy.again
        if copy.behind or table.held:
            table.stay_behind()
        session.people = table
        self._watches.metrics.presence_watched += table.count

    def withdraw(self, session: Session) -> None:
        """Take a table back of which a newer copy comes. Nobody is asked or told."""
        table, session.people = session.people, None
        if table is None:
            return
        self._watches.metrics.presence_watched -= table.count
        for slot, audience in enumerate(table.audiences):
            if audience is not None and not unlink(table, slot).tables:
                del self._watches.audiences[audience.player]

    def inherit_ahead(self, shown: Iterable[AudienceCopy]) -> None:
        """Take in what the process before shows of players, watched here already or not."""
        audiences = self._watches.audiences
        for copy in shown:
            self._sent[copy.player] = copy
            if (audience := audiences.get(copy.player)) is not None:
                _show(audience, copy)

    def learn(self, token: str, revision: int, shown: Iterable[AudienceCopy]) -> None:
        """Take in the names of the revisions of the process before, and what it has shown of players but for those who
        came ahead."""
        self._watches.sender.go_on_from(token, revision)
        self.inherit_ahead(shown)

    def take_up(self, soon: Callable[[int, Callable[[], Any]], None]) -> None:
        """Ask the engine about all watched players, some at a time by `soon(units, work)`."""
        self._sent = {}
        players = list(self._watches.audiences)
        for start in range(0, len(players), ENTRIES_AT_ONCE):
            some = players[start : start + ENTRIES_AT_ONCE]
            soon(len(some), lambda some=some: self._ask(some))  # type: ignore[misc]

    def take_up_table(self, session: Session) -> None:
        """See `PresenceWatches.take_up`."""
        if session.people is not None:
            self._watches.take_up(session.people)

    def _ask(self, players: Sequence[str]) -> None:
        """Put the engine's entries in the place of those that stand for them, and look whether any has changed."""
        engine, audiences = self._watches.engine, self._watches.audiences
        still = [player for player in players if player in audiences]
        if engine is None or not still:
            return
        entries = engine.watch(still)
        for player, entry in zip(still, entries, strict=True):
            audience = audiences[player]
            audience.entry, entry.watchers = entry, audience
        self._watches.changed([entry for entry in entries if entry.state != "asked"])

    def _audience(self, player: str) -> SessionAudience:
        found = self._watches.audiences.get(player)
        if found is None:
            found = self._watches.audiences[player] = Audience(player, WatchedPlayer(player))
            found.entry.watchers = found
            if (copy := self._sent.get(player)) is not None:
                _show(found, copy)
        return found


def _copy(audience: SessionAudience) -> AudienceCopy:
    values: Any = None if audience.values is None else audience.values[1:]
    moved: Any = audience.moved
    return AudienceCopy(audience.player, values, moved, audience.relations)


def _show(audience: SessionAudience, copy: AudienceCopy) -> None:
    audience.values = None if copy.values is None else (b"", *copy.values)
    audience.moved, audience.relations = copy.moved, copy.relations


_ASKED: Final = bytes(1 if mark & ASKED_FOR else 0 for mark in range(256))
