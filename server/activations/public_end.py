"""The public end of a log: the event from which on those who watch with a delay see nothing yet. Pure: takes `now`.

An actor that has its watchers *lag* (`LoggedActor.delay_watching`, `LoggedActor.lags`) says who they are; the rest is
the engine's:

    home       events that have become durable are noted here, each group of `GROUP_S` with the time at which it will be
               public. Then the end moves, and the nodes that watch are told, without events
    node       a watcher that lags is one whose events end at the public end (`server/sessions/topic.py`); it is served
               as any other watcher that is behind: it reads what it lacks from the log

The end only rises, at each node too, so it does not matter which word of it is the later one: that of a timer, of an
event, of an answer to `attach` or `read_events`. A word that is lost is made up for when the node attaches again. Who
lags, and who does no more, is under the *guard* (`server/actors/guard.py`): where somebody begins or ceases to lag, the
actor raises the guard with that event, and nobody gets anything newer before the actor was asked about them.

Times are of the clock of the activation's own node, so that nodes whose clocks differ change nothing. An activation
that moves takes its groups along, by their rest. One that is loaded from the store does not know how old its events
are: they are noted as of now, and public once the delay is over again. That holds back too much, never too little.

The state at the public end is kept for what the actor tells of itself. After a move it stays the one before until the
first group that has come since is public; it is None where it is not known.
"""

from collections import deque
from typing import Any, Final, Generic, TypeVar

import msgspec

from server import states

S = TypeVar("S")
GROUP_S: Final = 0.25
"""Events that become durable within so long become public together, when the last of them may: the bound on what is
kept, 2,400 groups for ten minutes."""


class PublicParts(msgspec.Struct, frozen=True, array_like=True):
    """A public end on its way to another node. `state` is msgpack, empty for none; `groups`: seconds until each is
    public, and the number after its last event."""

    delay_s: float
    seq: int
    state: bytes
    groups: list[tuple[float, int]]


class _Group(msgspec.Struct, Generic[S]):
    due: float
    seq: int
    state: S | None


class PublicEnd(Generic[S]):
    """See the module's head. `seq` is the number of the first event that is not public, `state` that before it."""

    __slots__ = ("_groups", "delay_s", "seq", "state")

    def __init__(self, delay_s: float, seq: int = 1, state: S | None = None) -> None:
        self.delay_s, self.seq, self.state = delay_s, seq, state
        self._groups: deque[_Group[S]] = deque()

    def note(self, seq: int, state: S | None, now: float) -> None:
        """Note that the events before `seq` are durable, with `state` after them."""
        last = self._groups[-1] if self._groups else None
        if last is not None and now + self.delay_s <= last.due:
            last.seq, last.state = seq, state
        else:
            self._groups.append(_Group(now + self.delay_s + GROUP_S, seq, state))

    def move(self, now: float) -> bool:
        """Let be public what is due. Returns whether that is anything."""
        before = self.seq
        while self._groups and self._groups[0].due <= now:
            group = self._groups.popleft()
            self.seq = group.seq
            self.state = group.state if group.state is not None else self.state
        return self.seq > before

    def next_at(self) -> float | None:
        """The time at which more will be public; None if there is no more."""
        return self._groups[0].due if self._groups else None

    def left_s(self, seq: int, now: float) -> float:
        """Seconds until all events before `seq` are public: the whole delay for those that are not durable yet."""
        if seq <= self.seq:
            return 0.0
        for group in self._groups:
            if seq <= group.seq:
                return max(0.0, group.due - now)
        return self.delay_s + GROUP_S

    def parts(self, now: float) -> PublicParts:
        """The parts that another node goes on from."""
        state = b"" if self.state is None else states.encode(self.state)
        return PublicParts(self.delay_s, self.seq, state, [(group.due - now, group.seq) for group in self._groups])


def arrived(parts: PublicParts, state: Any, now: float) -> PublicEnd[Any]:
    """The public end as another node had it."""
    public = PublicEnd(parts.delay_s, parts.seq, state)
    for left_s, seq in parts.groups:
        public._groups.append(_Group(now + left_s, seq, None))
    return public
