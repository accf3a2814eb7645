"""The streams of a node to all peers, and which of them have something new to say. Pure."""

from collections.abc import Iterable, Iterator

from server.directory.bequest import StreamBequest
from server.directory.stream import DirectoryLimits, Stream
from server.ids import NodeAddress


class PeerStreams:
    """Streams by peer. `awake`: peers that there is something new to say to; the caller takes them out."""

    def __init__(self, limits: DirectoryLimits) -> None:
        self._limits = limits
        self._streams: dict[NodeAddress, Stream] = {}
        self.awake: dict[NodeAddress, None] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def __iter__(self) -> Iterator[tuple[NodeAddress, Stream]]:
        """Every peer with its stream, as they are now: streams may come and go meanwhile."""
        return iter(list(self._streams.items()))

    def to(self, peer: NodeAddress) -> Stream:
        """The stream to a member, awake."""
        self.awake[peer] = None
        stream = self._streams.get(peer)
        if stream is None:
            stream = self._streams[peer] = Stream(self._limits)
        return stream

    def find(self, peer: NodeAddress) -> Stream | None:
        return self._streams.get(peer)

    def bequeath(self, now: float) -> list[StreamBequest]:
        """All streams, as they go over to another process."""
        return [stream.bequeath(peer, now) for peer, stream in self._streams.items()]

    def inherit(self, streams: Iterable[StreamBequest], now: float) -> None:
        """Go on from what another process had to say."""
        for bequest in streams:
            self.to(bequest.peer).inherit(bequest, now)

    def forget(self, peer: NodeAddress) -> None:
        """Drop all that was to be said to a peer."""
        self._streams.pop(peer, None)
        self.awake.pop(peer, None)

    def hurry(self) -> None:
        """Drop streams without anything to say, and end all waiting of the others: the view has changed."""
        self._streams = {peer: stream for peer, stream in self._streams.items() if not stream.empty}
        for peer, stream in self._streams.items():
            stream.hurry()
            self.awake[peer] = None

    def drop_empty(self, peer: NodeAddress) -> None:
        """Drop the stream to `peer` if it has nothing to say any more."""
        if self._streams[peer].empty:
            del self._streams[peer]

    def wake(self, now: float) -> None:
        """Wake the streams whose pauses end by `now`."""
        for peer, stream in self._streams.items():
            if (at := stream.due()) is not None and at <= now:
                self.awake[peer] = None

    def due_for(self, peer: NodeAddress) -> float | None:
        """The time at which there is something to say to `peer`, None for nothing."""
        stream = self._streams.get(peer)
        return stream.due() if stream is not None else None

    def next_talk(self, now: float) -> float | None:
        """The first time after `now` at which there is something to say to anybody."""
        times = [at for stream in self._streams.values() if (at := stream.due()) is not None and at > now]
        return min(times, default=None)

    @property
    def frozen(self) -> int:
        """Number of handoffs that have not arrived."""
        return sum(len(stream.frozen) for stream in self._streams.values())
