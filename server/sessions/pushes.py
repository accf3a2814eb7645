"""Pushes to players on any node.

A push goes to the node of the player's slot, which has the session, or knows the nodes that serve it for a
client that cannot follow redirects (they say so every few seconds). A session that has moved, or has not come
yet from the node that had the slot before, is followed there, a few hops at most.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, Union, cast

import msgspec

from server.actors.app import App
from server.cluster.slots import SlotTable
from server.cluster.view import View
from server.ids import NodeAddress, actor_id
from server.sessions.gateway_bequest import AwayCopy, EarlierCopy, address_of, place_of
from server.sessions.ports import NodeView
from server.sessions.session import Session
from server.sessions.stream_frames import PushTo, ServedHere, encode, push_frame, readable
from server.sessions.table import SessionTable
from server.sessions.ticks import TickClock
from server.sessions.time_limits import StreamLimits
from server.sessions.transfer import DepartedSessions
from server.transport.ports import Service, Transport
from server.wire.messages import ENGINE_ANSWERS, Push

_AWAY_BATCH: Final = 1_000
_HOPS: Final = 3
_EARLIER_TABLES: Final = 16


class Pushes:
    """See the module's head. `kind`: of the application's session actor; without one no player has a session."""

    def __init__(
        self,
        app: App,
        kind: str | None,
        node: NodeView,
        transport: Transport,
        ticks: TickClock,
        table: SessionTable,
        departures: DepartedSessions,
        limits: StreamLimits,
    ) -> None:
        self._kind, self._node, self._transport, self._ticks = kind, node, transport, ticks
        self._table, self._departures, self._limits = table, departures, limits
        self._away: dict[str, dict[NodeAddress, float]] = {}  # player -> nodes that serve it, until when
        self._slots = node.view.table
        self._earlier: deque[tuple[SlotTable, float]] = deque(maxlen=_EARLIER_TABLES)  # each with its end
        kinds = [cls for cls in (*ENGINE_ANSWERS, *app.answers) if issubclass(cls, Push)]
        self._decode = msgspec.msgpack.Decoder(cast(Any, Union[tuple(kinds)])).decode  # noqa: UP007

    # ---- from actors and other nodes ----

    def push(self, subject: str, message: Push) -> None:
        """See `server.actors.outlet.Outlet.push`."""
        if self._kind is None:
            return
        owner = self._node.owner(actor_id(self._kind, subject))
        if owner is None or owner == self._node.me:
            self._deliver(subject, message, _HOPS, True)
        else:
            self._transport.send(owner, Service.STREAM, push_frame(subject, message, _HOPS, True))

    def arrived(self, frame: PushTo) -> None:
        """Take a push from another node. Raises `BadInput` where it is none that this application knows."""
        self._deliver(frame.subject, readable(self._decode, frame.push), min(frame.hops, _HOPS), frame.away)

    def served_at(self, sender: NodeAddress, frame: ServedHere) -> None:
        """Remember that `sender` serves these players away from their slots."""
        until = self._ticks.now() + self._limits.away_s
        for subject in frame.subjects:
            away = self._away.setdefault(subject, {})
            away[sender] = until
            if frame.instead_of is not None:
                away.pop(frame.instead_of, None)

    def _deliver(self, subject: str, message: Push, hops: int, away: bool) -> None:
        session = self._table.players.get(subject)
        if session is not None:
            for each in self._table.of_player(subject):
                each.deliver(message)
        nodes: list[NodeAddress] = []
        if away and subject in self._away:
            nodes = self.nodes_away(subject, session)
            for node in nodes:
                self._transport.send(node, Service.STREAM, push_frame(subject, message, hops - 1, False))
        if session is None and not nodes and hops > 0:
            self._follow(subject, message, hops - 1, away)

    def nodes_away(self, subject: str, session: Session | None = None) -> list[NodeAddress]:
        """The nodes that serve the player away from its slot, without the node that `session`, from here, is just
        moving to: a push follows it there."""
        now = self._ticks.now()
        away = {node: until for node, until in self._away.get(subject, {}).items() if until >= now}
        if away:
            self._away[subject] = away
        else:
            self._away.pop(subject, None)
        transfer = session.transfer if session is not None else None
        return [node for node in away if transfer is None or not transfer.frozen or node != transfer.to]

    def _follow(self, subject: str, message: Push, hops: int, away: bool) -> None:
        """Send a push after a player that has no session here: perhaps the session went, or has not come yet
        from the node that had the slot before."""
        now = self._ticks.now()
        node, asks = self._departures.of_player(subject, now), False
        if node is None and away:
            node, asks = self._owner_before(subject, now), True
        if node is not None and node != self._node.me:
            self._transport.send(node, Service.STREAM, push_frame(subject, message, hops, asks))

    def _owner_before(self, subject: str, now: float) -> NodeAddress | None:
        """The last other owner of the player's slot, if it is a member and that was not long ago."""
        if self._kind is not None:
            identity = actor_id(self._kind, subject)
            for table, ended in self._earlier:
                owner = table.owner(identity)
                if ended >= now - self._limits.away_s and owner != self._node.me and owner in self._node.view.addresses:
                    return owner
        return None

    # ---- to the next process of this node ----

    def bequeath(self) -> tuple[list[AwayCopy], list[EarlierCopy]]:
        """The nodes that serve players away from their slots, and who had the slots not long ago."""
        away = [
            AwayCopy(player, [(place_of(node), until) for node, until in nodes.items()])
            for player, nodes in self._away.items()
        ]
        earlier = [
            EarlierCopy([(place_of(node), weight) for node, weight in table.owners], ended)
            for table, ended in self._earlier
        ]
        return away, earlier

    def learn(self, away: Sequence[AwayCopy], earlier: Sequence[EarlierCopy]) -> None:
        """Take in what the process before knew; the view is that of before, too."""
        self._slots = self._node.view.table
        self._away = {each.player: {address_of(place): until for place, until in each.nodes} for each in away}
        for each in reversed(earlier):
            owners = tuple((address_of(place), weight) for place, weight in each.owners)
            self._earlier.appendleft((SlotTable(owners, self._slots), each.ended))

    # ---- sessions that move ----

    def on_view(self, view: View) -> None:
        """Keep the slots of the view before: for a while their players' sessions may still be where they were."""
        if view.table is not self._slots:
            before, self._slots = self._slots, view.table
            if not before.owners:  # this node is new: before, the others had all
                before = SlotTable(tuple(owner for owner in view.table.owners if owner[0] != self._node.me))
            self._earlier.appendleft((before, self._ticks.now()))

    def pass_on(self, subject: str, pushes: Sequence[Push], to: NodeAddress) -> None:
        """Send pushes after a session that is at node `to` now."""
        for push in pushes:
            self._transport.send(to, Service.STREAM, push_frame(subject, push, _HOPS - 1, False))

    def arrived_from(self, session: Session, sender: NodeAddress) -> None:
        """Make a push for the player take one way only, from now on: its session came from `sender`."""
        subject = session.caller.subject
        self._away.get(subject, {}).pop(sender, None)
        owner = self._node.owner(session.actor) if session.actor is not None else None
        if owner is not None and owner != self._node.me:
            self._transport.send(owner, Service.STREAM, encode(ServedHere([subject], sender)))

    def added(self, session: Session) -> None:
        """Tell the owner of a player's slot at once that this node serves the player: what the client does first may
        already be answered by a push."""
        owner = self._node.owner(session.actor) if session.actor is not None else None
        if owner is not None and owner != self._node.me:
            self._transport.send(owner, Service.STREAM, encode(ServedHere([session.caller.subject])))

    def announce(self) -> None:
        """Tell slot owners which of their players this node serves; forget what others said long ago."""
        homes: dict[NodeAddress, list[str]] = {}
        for subject, session in self._table.players.items():
            owner = self._node.owner(session.actor) if session.actor is not None else None
            if owner is not None and owner != self._node.me and not session.moving:
                homes.setdefault(owner, []).append(subject)
        for owner, subjects in homes.items():
            for start in range(0, len(subjects), _AWAY_BATCH):
                payload = encode(ServedHere(subjects[start : start + _AWAY_BATCH]))
                self._transport.send(owner, Service.STREAM, payload)
        now = self._ticks.now()
        for subject in [name for name, nodes in self._away.items() if max(nodes.values(), default=0.0) < now]:
            del self._away[subject]
        while self._earlier and self._earlier[-1][1] < now - self._limits.away_s:
            self._earlier.pop()
