"""Latest topics: actors of whose values only the newest matters (who is online, a lobby's list, a map of positions).

    class Lobby(LatestActor[LobbyState]):
        def latest(self) -> dict[str, Line]:              # the whole picture, by key
            return {line.name: line for line in self.state.lines}

        @remote
        def rename(self, caller: Caller, message: Rename) -> Done:
            self.state = ...
            self.publish_latest(message.key, line)        # None: the key is gone

A client that watches gets a snapshot, then differences, gathered at a tick. Each difference is the whole value of one
key, so that any number of them may be left out as long as the newest comes. It has an order, (epoch, n): `n` counts
what the activation has published, `epoch` rises with each one that takes over. A watching node drops a difference
that is older than what it has, and asks for the whole picture where one is missing.

Nodes with watchers *attach*: the actor sends its differences to them for ten seconds, so they attach again every few
seconds, at each view change, and when a difference is missing. The contract of a source: `latest()` gives what all
that was published adds up to; each change of it is published in the turn that makes it.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from server.actors.actor import Actor, Caller, S, read_only
from server.actors.guard import TurnedAway
from server.errors import Internal, Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.runtime.numbers import Rising

WATCH_S: Final = 10.0
"""Time for which a source remembers a watching node, unless that attaches again."""
MAX_KEYS: Final = 256
MAX_KEY: Final = 128
MAX_VALUE_BYTES: Final = 4_096

Order = tuple[int, int]
"""`(epoch, n)`."""
sources: Final = Rising()
"""Numbers of sources, in their names."""
_encode = msgspec.msgpack.Encoder().encode


class LatestState(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `attach_latest`: the source, the order of its newest difference, and the whole picture, each
    value as msgpack; None where the node that asks has it already."""

    source: str
    epoch: int
    n: int
    items: dict[str, msgspec.Raw] | None


class LatestParts(msgspec.Struct, frozen=True, array_like=True):
    """A source that goes on in another process of the same run. `watchers`: node, incarnation, seconds."""

    name: str
    epoch: int
    n: int
    watchers: list[tuple[NodeId, Incarnation, float]]


class LatestSource:
    """An activation's part in its latest topic, beside its state: the order of what it published last, and the nodes
    that watch. `name`: of this source alone, so that nobody takes its numbers for another's. Pure."""

    __slots__ = ("_watchers", "epoch", "n", "name")

    def __init__(self, name: str, epoch: int) -> None:
        self.name, self.epoch, self.n = name, epoch, 0
        self._watchers: dict[NodeAddress, float] = {}

    def attach(self, node: NodeAddress, source: str, known: Order, fenced: bool, now: float) -> bool:
        """Remember a watching node, which has the picture of order `known` from `source`. True if that is the present
        one. Where epochs are issued by the store (`fenced`), a higher one is a later owner's. Raises `Unavailable`
        then. Else this source is the later one, and goes on above all that the other can have published (a Lamport
        clock)."""
        epoch, n = known
        if source != self.name and epoch >= self.epoch:
            if not fenced:
                self.epoch = epoch + 1
            elif epoch > self.epoch:
                raise Unavailable("this actor has another owner")
            else:
                self.n = max(self.n, n) + 1
        self._watchers[node] = now + WATCH_S
        return source == self.name and known == (self.epoch, self.n)

    def publish(self, now: float) -> tuple[Order, list[NodeAddress]]:
        """The order of the next difference, and the nodes that get it."""
        self.n += 1
        if self._watchers and min(self._watchers.values()) < now:
            self._watchers = {node: until for node, until in self._watchers.items() if until >= now}
        return (self.epoch, self.n), list(self._watchers)

    def parts(self, now: float) -> LatestParts:
        """All of it."""
        watchers = [(*node, until - now) for node, until in self._watchers.items() if until >= now]
        return LatestParts(self.name, self.epoch, self.n, watchers)

    @classmethod
    def of(cls, parts: LatestParts, now: float) -> "LatestSource":
        """The source as another process had it: nobody who watches needs to attach again."""
        source = cls(parts.name, parts.epoch)
        source.n = parts.n
        for node, incarnation, left_s in parts.watchers:
            source._watchers[NodeAddress(node, incarnation)] = now + min(WATCH_S, left_s)
        return source


class LatestActor(Actor[S]):
    """An actor with a latest topic of its own id; see the module's head."""

    __slots__ = ("_latest",)

    _latest: LatestSource

    def latest(self) -> Mapping[str, Any]:
        """The whole picture by key, as it is at the end of the last turn: at most 256 keys, and 4 KiB of msgpack a
        value. It is the same for everybody who may watch."""
        raise NotImplementedError

    def publish_latest(self, key: str, value: Any) -> None:
        """Send the new value of `key`, None if it is gone, to all who watch, after this turn. Raises `Internal` for a
        key or value over its bound."""
        data = None if value is None else _encoded(key, value)
        self.context.publish_latest(self._source(), key, data)

    @read_only
    def attach_latest(self, node: str, incarnation: int, known_source: str, epoch: int, n: int) -> LatestState:
        """Send differences to that node for the next ten seconds: the engine's call. The node has the picture of order
        `(epoch, n)` from source `known_source`; (-1, 0): none."""
        source = self._source()
        address = NodeAddress(NodeId(node), Incarnation(incarnation))
        if source.attach(address, known_source, (epoch, n), self.durability != "volatile", self.now()):
            return LatestState(source.name, source.epoch, source.n, None)
        picture = self.latest()
        if len(picture) > MAX_KEYS:
            raise Internal(f"a latest topic has at most {MAX_KEYS} keys")
        return LatestState(
            source.name,
            source.epoch,
            source.n,
            {key: msgspec.Raw(_encoded(key, value)) for key, value in picture.items()},
        )

    @read_only
    def turns_away(self, callers: list[Caller]) -> TurnedAway:
        """Say whom `may_watch` refuses now of those who watch already: the engine's call."""
        source = self._source()
        refused = [place for place, caller in enumerate(callers) if not self.may_watch(caller)]
        return TurnedAway(source.epoch, source.n, refused)

    # Attaching makes the actor: a watcher that comes before the first change must still get it.
    attach_latest.makes = True  # type: ignore[attr-defined]

    def source_parts(self) -> LatestParts | None:
        """The source, for the heir of this node; None where there is none yet. The engine's call."""
        source = getattr(self, "_latest", None)
        return source.parts(self.now()) if source is not None else None

    def adopt_source(self, parts: LatestParts) -> None:
        """Go on with the predecessor's source. The engine's call, before any hook."""
        self._latest = LatestSource.of(parts, self.now())

    def _source(self) -> LatestSource:
        try:
            return self._latest
        except AttributeError:
            name = f"{self.node}:{self.wall_ms()}:{next(sources)}"
            self._latest = LatestSource(name, self.context.epoch)
            return self._latest


def _encoded(key: str, value: Any) -> bytes:
    data = _encode(value)
    if len(data) > MAX_VALUE_BYTES or not 0 < len(key) <= MAX_KEY:
        raise Internal(f"latest {key[:40]!r}: a key has 1 to {MAX_KEY} characters, a value {MAX_VALUE_BYTES} bytes")
    return data
