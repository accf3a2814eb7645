"""Why a session ends: the words that its actor is told, and what each means to a copy on another node. Pure."""

from typing import Final, NamedTuple

ENDED_CLOSED: Final = "closed"
"""The client left, or the session never began."""
ENDED_EXPIRED: Final = "expired"
"""The resume window passed without its client, or room was needed."""
ENDED_REPLACED: Final = "replaced"
"""A later session of the same player took its place."""
ENDED_OVERFLOW: Final = "overflow"
"""More was unacknowledged than the outbox may hold."""
ENDED_MOVED: Final = "moved"
"""The session lives on another node."""
ENDED_STOPPING: Final = "stopping"
"""This node stops."""
ENDED_OWNERSHIP_LOST: Final = "ownership_lost"
"""This node lost its lease."""
ENDED_DISMISSED: Final = "dismissed"
"""An actor ended the session."""

ENDS_ONLY_THIS_COPY: Final = frozenset({ENDED_STOPPING, ENDED_OWNERSHIP_LOST, ENDED_MOVED})
"""Reasons that end this node's copy of a session that lives on elsewhere."""
ENDS_FOR_GOOD: Final = frozenset({ENDED_CLOSED, ENDED_EXPIRED, ENDED_OVERFLOW, ENDED_REPLACED, ENDED_DISMISSED})
"""Reasons that end a session on every node; any other word that a peer sends counts as `ENDED_CLOSED`."""
TOLD_ONLY_HERE: Final = frozenset({ENDED_MOVED, ENDED_STOPPING})
"""Reasons that concern this node only: an actor that lives elsewhere by now is not told of them."""

TOOK_OVER: Final = "another connection of this player took over"
NODE_STOPS: Final = "this node is stopping"


class Ending(NamedTuple):
    """The end of a session: for its actor the word `why`, for its client a close code and a text; without a code
    the client is told that all is well."""

    why: str
    code: int = 0
    reason: str = ""
