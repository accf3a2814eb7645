"""The node's `Outlet`: what leaves an actor for clients, and arrives from the other nodes' actors."""

import asyncio
from collections.abc import Sequence

from server.actors.guard import Guard
from server.actors.latest import Order
from server.actors.pictures import ShownActor
from server.ids import ActorId, NodeAddress
from server.presence.ports import ShownHere
from server.sessions.dismissals import Dismissals
from server.sessions.latest import LatestTopics
from server.sessions.ports import NodeView
from server.sessions.pushes import Pushes
from server.sessions.stream_frames import Dismiss, EventsTo, LatestTo, PushTo, decode, encode
from server.sessions.streams import Streams
from server.transport.ports import Service, Transport
from server.wire.messages import Push


class GatewayOutlet:
    """See `server.actors.outlet.Outlet`. Make it before the transport starts."""

    def __init__(
        self,
        node: NodeView,
        transport: Transport,
        streams: Streams,
        latest: LatestTopics,
        pushes: Pushes,
        dismissals: Dismissals,
        shown_here: ShownHere | None = None,
    ) -> None:
        self._node, self._transport, self._streams, self._pushes = node, transport, streams, pushes
        self._latest, self._dismissals, self._shown_here = latest, dismissals, shown_here
        transport.serve(Service.STREAM, self._serve)

    def push(self, subject: str, message: Push) -> None:
        """See `server.actors.outlet.Outlet.push`."""
        self._pushes.push(subject, message)

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        """See `server.actors.outlet.Outlet.end_sessions`."""
        self._dismissals.end_sessions(subject, code, reason, issued_before_ms, every_role)

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        """See `server.actors.outlet.Outlet.end_session`."""
        self._dismissals.end_session(subject, session, at, code, reason)

    def publish(
        self,
        watchers: Sequence[NodeAddress],
        topic: ActorId,
        first_seq: int,
        events: Sequence[bytes],
        guard: Guard,
        mark: str,
        public_seq: int = -1,
    ) -> None:
        """See `server.actors.outlet.Outlet.publish`."""
        payload: bytes | None = None
        for node in watchers:
            if node == self._node.me:
                args = (topic, first_seq, list(events), guard, mark, public_seq)
                asyncio.get_running_loop().call_soon(self._streams.arrived, *args)
            else:
                if payload is None:
                    payload = encode(EventsTo(topic, first_seq, list(events), guard, mark, public_seq))
                self._transport.send(node, Service.STREAM, payload)

    def publish_latest(
        self, watchers: Sequence[NodeAddress], topic: ActorId, order: Order, key: str, value: bytes | None
    ) -> None:
        """See `server.actors.outlet.Outlet.publish_latest`."""
        payload: bytes | None = None
        for node in watchers:
            if node == self._node.me:
                asyncio.get_running_loop().call_soon(self._latest.arrived, topic, order, key, value)
            else:
                if payload is None:
                    payload = encode(LatestTo(topic, *order, key, value))
                self._transport.send(node, Service.STREAM, payload)

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        """See `server.actors.outlet.Outlet.show`."""
        if self._shown_here is not None:
            self._shown_here.show(identity, shown)

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        """See `server.actors.outlet.Outlet.withdraw`."""
        if self._shown_here is not None:
            self._shown_here.withdraw(identity, epoch, n)

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        """See `server.actors.outlet.Outlet.hide`."""
        if self._shown_here is not None:
            self._shown_here.hide(identity, epoch, moved)

    def _serve(self, sender: NodeAddress, payload: bytes) -> None:
        frame = decode(payload)
        if isinstance(frame, EventsTo):
            known = (frame.guard, frame.mark, frame.public_seq)
            self._streams.arrived(frame.topic, frame.first_seq, frame.events, *known)
        elif isinstance(frame, PushTo):
            self._pushes.arrived(frame)
        elif isinstance(frame, LatestTo):
            self._latest.arrived(frame.topic, (frame.epoch, frame.n), frame.key, frame.value)
        elif isinstance(frame, Dismiss):
            self._dismissals.arrived(frame)
        else:
            self._pushes.served_at(sender, frame)
