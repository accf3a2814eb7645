"""The gateway of a node: puts the parts that serve its clients together, and starts and stops them.

`greeter` takes connections in, `table` has the sessions, `streams` what they watch, `pushes` what is pushed to
players, `mover` and `arrivals` the sessions that change node. Each part gets the others that it needs by name.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Union, cast

import msgspec

from server.presence.ports import NodePresence
from server.replays.reader import StretchReader
from server.sessions.arrivals import SessionArrivals
from server.sessions.binding import SessionActors
from server.sessions.broadcast import Broadcast
from server.sessions.connection import Connection, Receiver
from server.sessions.dismissals import Dismissals
from server.sessions.end_reasons import ENDED_OWNERSHIP_LOST, ENDED_STOPPING, NODE_STOPS
from server.sessions.gateway_going_over import GatewayGoingOver
from server.sessions.gateway_succession import GatewaySuccession
from server.sessions.greeter import Greeter
from server.sessions.guesses import GuessLimits
from server.sessions.homes import Homes
from server.sessions.latest import LatestTopics
from server.sessions.mover import Mover
from server.sessions.outlet import GatewayOutlet
from server.sessions.ports import GatewayDrivers, SessionSystem
from server.sessions.presence import PresenceWatches
from server.sessions.presence_copies import PresenceCopies
from server.sessions.presence_requests import Faces, PresenceLists
from server.sessions.presence_sending import FRAME_HEAD_BYTES
from server.sessions.pushes import Pushes
from server.sessions.read_model import session_rows
from server.sessions.renewals import Renewals
from server.sessions.replays import Replays
from server.sessions.requests import Handle, Requests
from server.sessions.seeker import Seeker
from server.sessions.session import Session, SessionKit
from server.sessions.session_copies import SessionCopies
from server.sessions.session_kit import Kit
from server.sessions.sights import Sights
from server.sessions.slices import Slices
from server.sessions.streams import Streams
from server.sessions.subscriptions import Subscriptions
from server.sessions.table import SessionTable
from server.sessions.ticks import TickClock
from server.sessions.time_limits import Limits
from server.sessions.tokens import TokenRules
from server.sessions.transfer import DepartedSessions
from server.sessions.turnstile import Turnstile
from server.sessions.watching import check_still
from server.settings import GatewaySettings, Settings
from server.wire.codec import Codec, Format
from server.wire.messages import (
    ENGINE_REQUESTS,
    CloseCode,
    Done,
    Going,
    PresenceList,
    PresenceUnwatch,
    PresenceWatch,
    ReplayClose,
    ReplayControl,
    ReplayOpen,
    Request,
    TokenRenew,
    Unwatch,
    Watch,
    WatchLatest,
)

_JUDGED_AT_ONCE: Final = 64
_JUDGED_WITHIN_S: Final = 10.0
"""Sessions of hosts and services that are judged again in a tick after a view change, and the time for all of them."""
_STOP_BATCH: Final = 100


class Gateway:
    """See the module's head. `token_rules`: conditions of a good client token. Make it before the
    transport starts; `outlet` is the node's `Outlet`, `accept` is for listeners. `presence`: the node's presence
    engine, None where the application shows nobody."""

    def __init__(
        self,
        system: SessionSystem,
        drivers: GatewayDrivers,
        settings: Settings,
        token_rules: TokenRules,
        limits: Limits | None = None,
        presence: NodePresence | None = None,
    ) -> None:
        limits = limits or Limits()
        self.presence = presence
        self._system, self._supervisor, self._limits = system, drivers.supervisor, limits
        self.metrics = drivers.metrics
        self.settings = settings.gateway
        self._per_s = settings.actors.rebalance_per_s
        self.ticks = ticks = TickClock(drivers.clock, limits.tick_s)
        app = system.app
        kind = app.session_actor.kind if app.session_actor is not None else None
        actors = SessionActors(system, drivers.supervisor, kind, self.settings.login_policy, app.standing)
        homes = Homes(system)
        departures = DepartedSessions()
        self._homes = homes
        self.table = SessionTable(self.settings, ticks, drivers.metrics, actors)
        self.turnstile = Turnstile()
        slices = Slices(ticks.now)
        per_link = settings.transport.max_in_flight
        self.streams = Streams(
            system, app, ticks, drivers.supervisor, drivers.rng, self.settings.max_subscriptions,
            max(1, per_link // 4), limits.streams,
        )  # fmt: skip
        guesses = GuessLimits()
        requests = Requests(app, system, drivers.store_queries, drivers.supervisor, drivers.metrics, ticks, guesses)
        self.latest = LatestTopics(
            system, app, ticks, self.settings.max_subscriptions, max(1, per_link // 4), limits.streams.renew_s
        )
        sights = Sights(
            app.presence, system, drivers.store_queries, drivers.supervisor, slices, settings.presence.visibility
        )
        faces = Faces(presence, app.presence)
        lists = PresenceLists(faces, sights, slices, drivers.supervisor, drivers.metrics, ticks)
        self.watches = PresenceWatches(
            faces, drivers.supervisor, drivers.metrics, ticks, system.me, settings.presence,
            self.settings.max_frame_bytes - FRAME_HEAD_BYTES, slices, sights,
        )  # fmt: skip
        self.log_reader = StretchReader(drivers.logs, drivers.supervisor, settings.replays.cache_bytes)
        self.replays = Replays(
            app, system, self.log_reader, ticks, drivers.supervisor, drivers.metrics, settings.replays
        )
        watched = Subscriptions(self.streams, self.latest, self.watches, self.replays)
        for message, handle in self._handlers(lists):
            requests.add(message, handle)
        codecs, decoders = _codecs((*ENGINE_REQUESTS, *app.requests))
        self.kit: SessionKit = Kit(
            self.settings, ticks, drivers.metrics, codecs, decoders, _ack_interval_s(self.settings, limits.tick_s),
            self.turnstile, drivers.timed(requests), actors, watched, watched, self.table,
        )  # fmt: skip
        self.pushes = Pushes(app, kind, system, drivers.transport, ticks, self.table, departures, limits.streams)
        self.mover = Mover(
            drivers, self.kit, system, homes, self.table, watched, self.pushes, departures,
            limits.transfer, self._per_s, settings.transport.max_frame_bytes // 2,
        )  # fmt: skip
        self.table.on_add(self.pushes.added)
        for part in (self.streams, self.latest, self.watches, self.replays):
            self.table.on_end(part.session_ended)
        self.table.on_release(self.watches.drop)
        self.seeker = Seeker(system, drivers.transport, limits.seek)
        self.arrivals = SessionArrivals(
            self.kit, system, drivers.transport, homes, self.table, actors, watched,
            self.pushes, self.seeker, departures, self.mover,
        )  # fmt: skip
        self.greeter = Greeter(
            self.kit, token_rules, system, drivers.transport, drivers.rng, homes, self.table, actors, departures,
            self.seeker, self.mover, self.latest, self.watches, slices, limits,
        )  # fmt: skip
        requests.add(TokenRenew, self.greeter.renew)
        self._judgements = Renewals(ticks, actors.tell_again, _JUDGED_AT_ONCE, _JUDGED_WITHIN_S)
        dismissals = Dismissals(
            system, drivers.transport, drivers.supervisor, drivers.rng, ticks, self.table, self.mover, departures,
            self.greeter, self.settings.resume_window_s,
        )  # fmt: skip
        self.outlet = GatewayOutlet(
            system, drivers.transport, self.streams, self.latest, self.pushes, dismissals, presence
        )

        people = PresenceCopies(self.watches)
        copies = SessionCopies(
            self.kit, system, self.table, actors, self.streams, self.latest, people, self.replays, self.mover
        )
        self.succession = GatewaySuccession(
            copies, system, drivers.metrics, self.table, self.greeter, self.turnstile, slices, self.mover
        )
        """Its sessions and connections in a succession."""
        self.going_over = GatewayGoingOver(
            self.table, self.greeter, self.streams, self.latest, people, self.pushes, self.mover, guesses
        )
        """All else of it in a succession."""

    def _handlers(self, lists: PresenceLists) -> tuple[tuple[type[Request], Handle], ...]:
        """The handlers of requests that are about what a client watches, by their messages."""
        return (
            (PresenceWatch, self.watches.watch),
            (PresenceUnwatch, self.watches.unwatch),
            (PresenceList, lists.list_once),
            (Watch, self.streams.watch),
            (WatchLatest, self.latest.watch),
            (Unwatch, self._unwatch),
            (ReplayOpen, self.replays.open),
            (ReplayControl, self.replays.control),
            (ReplayClose, self.replays.close),
        )

    def start(self) -> None:
        """Begin to keep time for sessions and streams."""
        self._supervisor.every(self._limits.tick_s, self.ticks.advance, "sessions")
        self._supervisor.every(self._limits.streams.renew_s, self.renew, "streams")
        self._supervisor.every(self.settings.latest_tick_ms / 1000, self.latest.tick, "latest")
        self._supervisor.every(self.settings.latest_tick_ms / 1000, self.watches.tick, "presence")

    def accept(self, connection: Connection) -> Receiver:
        """See `server.sessions.connection.Acceptor`."""
        return self.greeter.accept(connection)

    @property
    def token_rules(self) -> TokenRules:
        """Conditions of a good client token, and its keys."""
        return self.greeter.token_rules

    def use_token_rules(self, rules: TokenRules) -> bool:
        """Check hellos by `rules` from now on; open connections stay. False: they are those of before."""
        changed = rules != self.greeter.token_rules
        self.greeter.token_rules = rules
        return changed

    def _unwatch(self, session: Session, message: Unwatch) -> Done:
        """Unsubscribe from a stream or a latest topic; unknown topics are no error."""
        check_still(session)
        if not self.streams.unwatch(session, message.topic):
            self.latest.unwatch(session, message.topic)
        return Done(message.id)

    # ---- view changes (in order: `server/view_change.py`) ----

    def renew(self, hurry: bool = False) -> None:
        """Attach watched topics again, and tell slot owners which of their players are served here. Sessions that no
        actor knows are judged again: while this node was in nobody's view, nobody told it whose were to end."""
        self._judgements.begin([session for session in self.table.sessions.values() if session.actor is None], False)
        self.streams.renew(hurry)
        self.latest.renew(hurry)
        self.pushes.announce()

    @property
    def leaving(self) -> bool:
        """True when this node is leaving: hellos are redirected, sessions handed over."""
        return self._homes.leaving

    # ---- the end ----

    def sessions_left(self) -> int:
        """Sessions that are still here, attached or detached, and connections of those that were
        handed over."""
        return len(self.table) + len(self.mover.closing)

    def close_all(self, code: int) -> None:
        """End every session at once, and accept no more: the node lost its lease (4010), and
        nothing here may be acknowledged any more."""
        self._close()
        self._end_all(ENDED_OWNERSHIP_LOST, code, "this node does not serve any more")

    async def stop(self, within_s: float) -> None:
        """Hand over all sessions that have somewhere to go, accept no more, and send the others
        away, all of it within `within_s`. The node has said that it leaves before; otherwise, and
        where no other node is up, nobody has anywhere to go."""
        deadline = self.ticks.now() + within_s
        if not self.greeter.closed:
            await self.mover.hand_over_all(within_s)
        self._close()
        attached = [session for session in self.table.sessions.values() if session.connection is not None]
        spread_s = min(max(0.0, deadline - self.ticks.now()), len(attached) / self._per_s)
        for number, session in enumerate(attached, 1):
            if session.connection is not None:
                session.push(Broadcast(Going(0, "", 0)))
            session.end(ENDED_STOPPING, CloseCode.GOING_AWAY, NODE_STOPS)
            if number % _STOP_BATCH == 0:
                await asyncio.sleep(spread_s * _STOP_BATCH / len(attached))
        for _ in range(len(self.table.detached)):
            self.metrics.closed(CloseCode.GOING_AWAY)  # lost like those, though nobody is told
        self._end_all(ENDED_STOPPING, CloseCode.GOING_AWAY, NODE_STOPS)

    def _close(self) -> None:
        self.greeter.closed = self.arrivals.closed = True

    def _end_all(self, why: str, code: int, reason: str) -> None:
        for opening in list(self.greeter.openings):
            opening.leave(None, code, reason)
        for session in (*self.table.sessions.values(), *self.mover.closing):
            session.end(why, code, reason)

    # ---- for operators ----

    def session_rows(self, offset: int, limit: int, subject: str) -> list[dict[str, Any]]:
        """See `server.sessions.read_model.session_rows`."""
        node = str(self._system.me.node)
        sessions = self.table.of_subject(subject) if subject else self.table.sessions.values()
        return session_rows(sessions, node, self.ticks, offset, limit)


def _codecs(requests: tuple[type[Request], ...]) -> tuple[dict[Format, Codec], dict[Format, Callable[[bytes], Any]]]:
    """Codecs of both subprotocols, and their decoders without explanations."""
    union = cast(Any, Union[requests])  # noqa: UP007 - a union made at run time
    return (
        {"msgpack": Codec("msgpack", requests), "json": Codec("json", requests)},
        {"msgpack": msgspec.msgpack.Decoder(union).decode, "json": msgspec.json.Decoder(union).decode},
    )


def _ack_interval_s(settings: GatewaySettings, tick_s: float) -> float:
    """Time from a heartbeat without an id to its acknowledgement. A client that hears nothing for a heartbeat
    interval asks: an acknowledgement that is due is sent a tick later at most, and then has the rest of the interval
    for its way."""
    beat_s = settings.heartbeat_interval_s
    return min(settings.cumulative_ack_interval_s, max(0.9 * beat_s - tick_s, 0.5 * beat_s))
