"""A watched stream on this node: its watchers' cursors, and how far its actor is asked to attach. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

from server.ids import ActorId
from server.sessions.cursors import Cursors

W = TypeVar("W", bound=Hashable)


class Topic(Generic[W]):
    """A logged actor that somebody on this node watches; `W` is what watches (sessions)."""

    __slots__ = ("asked_at", "attaching", "beginning", "cursors", "filling", "finished", "id")

    def __init__(self, identity: ActorId) -> None:
        self.id = identity
        self.cursors: Cursors[W] = Cursors()
        self.beginning: dict[W, int] = {}
        """Watchers that are answered in this turn of the loop and begin after it, each with its first event."""
        self.filling = False
        """Events are being read from the log for watchers that lag."""
        self.attaching = False
        """The actor was asked to attach and has not answered."""
        self.asked_at = 0.0
        """Time of the last question to attach for which there was room."""
        self.finished = False
        """No event will follow: there is nothing to stay attached for."""

    @property
    def watched(self) -> bool:
        """True while anybody watches, or is about to."""
        return bool(len(self.cursors) or self.beginning)

    def learn(self, next_seq: int, finished: bool) -> None:
        """Take in the log's durable end, and whether it stays there, as its actor told."""
        self.cursors.learn(next_seq)
        self.finished = self.finished or finished
