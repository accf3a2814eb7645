"""A watched stream on this node: its watchers' cursors, how far its actor is asked to attach, and about whom. Pure."""

from collections.abc import Hashable
from itertools import islice
from typing import Final, Generic, TypeVar

from server.actors.guard import OPEN, Guard
from server.ids import ActorId
from server.sessions.cursors import Cursors

W = TypeVar("W", bound=Hashable)
ALL_PUBLIC: Final = 2**62
"""The public end of a stream of which everybody who watches may see all."""


class Topic(Generic[W]):
    """A logged actor that somebody on this node watches; `W` is what watches (sessions)."""

    __slots__ = (
        "_cleared",
        "asked",
        "asked_at",
        "asking",
        "attaching",
        "beginning",
        "cursors",
        "filling",
        "finished",
        "guard",
        "id",
        "late",
        "public_seq",
    )

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
        self.guard: Guard = OPEN
        """The newest that its actor told."""
        self.asked: set[W] = set()
        """Watchers about whom the actor was asked and has not answered, without those who began anew since."""
        self.asking = False
        """A question about watchers is under way."""
        self._cleared: dict[W, Guard] = {}
        """Watchers that the actor lets in, each as of the guard under which it said so."""
        self.public_seq = 0
        """The first event that watchers which lag may not see yet, as far as this node knows; it never falls."""
        self.late: set[W] = set()
        """Watchers that lag: the actor said so under their guard."""

    @property
    def watched(self) -> bool:
        """True while anybody watches, or is about to."""
        return bool(len(self.cursors) or self.beginning)

    def learn(self, next_seq: int, finished: bool, guard: Guard, public_seq: int) -> None:
        """Take in the log's durable end, whether it stays there, the guard, and the public end, as its actor told."""
        self.cursors.learn(next_seq)
        self.finished = self.finished or finished
        self.raise_guard(guard)
        self.make_public(public_seq)

    # ---- who may watch ----

    def raise_guard(self, guard: Guard) -> None:
        """Take in a guard; it never falls."""
        self.guard = max(self.guard, guard)

    def watch(self, watcher: W, from_seq: int) -> None:
        """Begin, or begin again, at event `from_seq`. It is not refused by an answer to an earlier question: its actor
        has let it in since."""
        self.cursors.watch(watcher, from_seq)
        self.asked.discard(watcher)

    def clear(self, watcher: W, guard: Guard, late: bool) -> None:
        """Note that the actor lets this one watch, as of `guard`, and whether it lags."""
        self._cleared[watcher] = guard
        if late:
            self.late.add(watcher)
        else:
            self.late.discard(watcher)

    def cleared(self, watcher: W) -> Guard:
        """The guard as of which the actor let this watcher in."""
        return self._cleared.get(watcher, OPEN)

    def is_clear(self, watcher: W) -> bool:
        """Tell whether `watcher` may get what is as of the newest guard."""
        return self._cleared.get(watcher, OPEN) >= self.guard

    # ---- watchers that lag: see `server/activations/public_end.py` ----

    def make_public(self, public_seq: int) -> None:
        """Take in the public end as the actor told it; negative: all is public."""
        self.public_seq = max(self.public_seq, public_seq if public_seq >= 0 else ALL_PUBLIC)

    def is_prompt(self, watcher: W) -> bool:
        """Tell whether `watcher` may get whatever there is."""
        return self.is_clear(watcher) and (watcher not in self.late or self.public_seq >= ALL_PUBLIC)

    def is_late(self, watcher: W) -> bool:
        """Tell whether `watcher` may get what is public, and no more."""
        return watcher in self.late and self.is_clear(watcher)

    def may_go_on(self, watcher: W) -> bool:
        """Tell whether `watcher` may get the event that its cursor stands at, once there is one."""
        if not self.is_clear(watcher):
            return False
        return watcher not in self.late or (self.cursors.cursor(watcher) or 0) < self.public_seq

    def unasked(self, most: int) -> list[W]:
        """Watchers about whom the actor is to be asked, at most so many."""
        return list(islice((watcher for watcher in self.cursors if not self.is_clear(watcher)), most))

    def unwatch(self, watcher: W) -> None:
        """Forget a watcher."""
        self.cursors.unwatch(watcher)
        self.beginning.pop(watcher, None)
        self._cleared.pop(watcher, None)
        self.late.discard(watcher)
        self.asked.discard(watcher)
