"""The port by which actors reach clients; the sessions layer above implements it."""

from collections.abc import Sequence
from typing import Protocol

from server.actors.guard import Guard
from server.actors.pictures import ShownActor
from server.ids import ActorId, NodeAddress
from server.wire.messages import Push


class Outlet(Protocol):
    def push(self, subject: str, message: Push) -> None:
        """Push to every session of player `subject`, on whichever node; dropped if there is none."""
        ...

    def end_sessions(
        self, subject: str, code: int, reason: str, issued_before_ms: int = 0, every_role: bool = False
    ) -> None:
        """End every session of player `subject`, on whichever node, with a close code and a reason: attached,
        detached, on its way to another node, or with its hello being answered. `issued_before_ms`: only those whose
        token was issued before that Unix time; 0: all. `every_role`: of the host and service of that name too."""
        ...

    def end_session(self, subject: str, session: str, at: NodeAddress, code: int, reason: str) -> None:
        """End one session of player `subject`, which is at node `at` or went on from there."""
        ...

    def publish_latest(
        self, watchers: Sequence[NodeAddress], topic: ActorId, order: tuple[int, int], key: str, value: bytes | None
    ) -> None:
        """Send a difference of latest topic `topic` to the nodes whose sessions watch it: the new value of `key` as
        msgpack, None if it is gone, of order `(epoch, n)`."""
        ...

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
        """Send durable events (msgpack) of stream `topic` to the nodes whose sessions watch it, to be shown to those
        only who were asked about under `guard`. `mark`: the hash of the log after the last of them. `public_seq`: the
        first event that those who watch with a delay may not see yet; -1: they may see all."""
        ...

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        """Let the actor look as it shows itself to all who watch it: it may look different now. Of two looks the one of
        the higher order `(epoch, n)` is the newer one. Raises `Internal` for an actor that no sessions are bound to."""
        ...

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        """Note that nobody is there any more, since `(epoch, n)`."""
        ...

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        """Note that the activation with `epoch`, which showed itself, has ended here; `moved`: it lives elsewhere."""
        ...
