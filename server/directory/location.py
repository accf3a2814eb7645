"""The location of an actor as a node tells it to another: the text of a `Moved` error. Pure.

`node-2#5` means "ask there"; with a trailing `!`, "activate it there" (placement chose that
node, or the store says that it owns the entity)."""

from typing import NamedTuple

from server.errors import BadInput
from server.ids import Incarnation, NodeAddress, NodeId


class Location(NamedTuple):
    """The node to ask; `here`: activate the actor there if it is not yet."""

    address: NodeAddress
    here: bool = False

    def __str__(self) -> str:
        return f"{self.address}{'!' if self.here else ''}"


def parse_location(text: str) -> Location | None:
    """The location in `text`, None for the empty text (nobody knows). Raises `BadInput`."""
    if not text:
        return None
    node, _, incarnation = text.removesuffix("!").partition("#")
    if not node or not incarnation.isdecimal():
        raise BadInput(f"not an address: {text[:100]!r}")
    return Location(NodeAddress(NodeId(node), Incarnation(int(incarnation))), text.endswith("!"))
