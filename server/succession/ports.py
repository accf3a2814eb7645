"""Ports of a succession: the parts of a node whose memory goes over from one process to the next, and the channel
between the two. `docs/succession.md` tells the whole.

    predecessor    the process that serves, until its last word, `LastWord`
    heir           the process that serves from that word on: the same run of the same node, one generation later
    bequest        what one part of the node holds, as bytes
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class BequeathingPart(Protocol):
    """A part of a node whose memory goes over."""

    def bequeath(self) -> bytes:
        """Everything that the heir's part needs to go on. Called while the node rests: nothing is under way, and
        nothing may change."""
        ...

    def inherit(self, data: bytes) -> None:
        """Go on from `data`. Called before anything of the node runs; changes only this part's memory. Raises
        `BadInput` for what it cannot read."""
        ...


class Received(NamedTuple):
    """A message, and the descriptors that came with it: the receiver's own from here on."""

    message: bytes
    descriptors: Sequence[int] = ()


class HeirChannel(Protocol):
    """The way between predecessor and heir, one end of it: messages in order, some with descriptors."""

    async def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send. The descriptors stay open here. Raises `Unavailable` where the other process is gone."""
        ...

    async def receive(self) -> Received:
        """The next message. Raises `Unavailable` where the other process is gone, `BadInput` for bytes that are no
        message."""
        ...

    def exchange(self, message: bytes, timeout_s: float) -> bytes:
        """Send, and wait for the next message, while this process does nothing else. Raises `Unavailable` also where it
        does not come in time."""
        ...

    def last_word(self, message: bytes) -> None:
        """Send what is not answered. Raises `Unavailable` where it is sure that it does not arrive."""
        ...

    def close(self) -> None: ...
