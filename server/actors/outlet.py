"""The port by which actors reach clients; the sessions layer above implements it."""

from collections.abc import Sequence
from typing import Protocol

from server.ids import ActorId, NodeAddress
from server.wire.messages import Push


class Outlet(Protocol):
    def push(self, subject: str, message: Push) -> None:
        """To every session of player `subject`, on whichever node; dropped if there is none."""
        ...

    def publish(self, watchers: Sequence[NodeAddress], topic: ActorId, first_seq: int, events: Sequence[bytes]) -> None:
        """Durable events (msgpack) of stream `topic` to the nodes whose sessions watch it."""
        ...
