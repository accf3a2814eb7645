"""Identifiers: the names of actors and nodes, and the hash slot of an actor.

Leaf module: it imports nothing of the project but `errors`. All identifiers are plain
strings or integers at run time (NewTypes), so that they hash fast and travel as they are.
"""

import re
from typing import Final, NamedTuple, NewType

from xxhash import xxh3_64_intdigest

from server.errors import BadInput

ActorId = NewType("ActorId", str)
"""`kind/key`, for example `player/spartan-117`; made by `actor_id`, never by hand."""
NodeId = NewType("NodeId", str)
Incarnation = NewType("Incarnation", int)
"""The number of a run of a node; issued by the store at each start, rising for ever."""
Epoch = NewType("Epoch", int)
"""The fencing token of an entity: issued by the store with each claim, rising for ever."""

SLOT_COUNT: Final = 65_536
KIND_PATTERN: Final = r"[a-z][a-z0-9_]{0,31}"
KEY_PATTERN: Final = r"[A-Za-z0-9._:@~+=-]{1,64}"
NODE_PATTERN: Final = r"[a-z0-9][a-z0-9.-]{0,31}"


def whole(pattern: str) -> str:
    """`pattern` for all of a text: a bare `$` also matches before a line feed that ends it."""
    return rf"^{pattern}$(?!\n)"


_ACTOR_ID = re.compile(rf"{KIND_PATTERN}/{KEY_PATTERN}", re.ASCII)


class NodeAddress(NamedTuple):
    """The address of a run of a node. Calls and directory entries carry it; a mismatch is refused, so that a node
    that came back under its name is never taken for the run before."""

    node: NodeId
    incarnation: Incarnation

    def __str__(self) -> str:
        return f"{self.node}#{self.incarnation}"


def actor_id(kind: str, key: str) -> ActorId:
    """The id of actor `key` of `kind`. Raises `BadInput` where either has a bad character."""
    return parse_actor_id(f"{kind}/{key}")


def parse_actor_id(text: str) -> ActorId:
    """`text` as an actor id. Raises `BadInput` if it is not `kind/key`."""
    if _ACTOR_ID.fullmatch(text) is None:
        raise BadInput(f"not an actor id (kind/key): {text[:100]!r}")
    return ActorId(text)


def kind_of(identity: ActorId) -> str:
    """The part of an actor id before the slash."""
    return identity.partition("/")[0]


def key_of(identity: ActorId) -> str:
    """The part of an actor id after the slash."""
    return identity.partition("/")[2]


def slot(identity: ActorId) -> int:
    """The hash slot of an actor, 0 to 65,535: the low 16 bits of XXH3-64 of its id."""
    return xxh3_64_intdigest(identity.encode()) & 0xFFFF
