"""The port of the presence engine to the sessions above it: which players this node watches, and how they look.

    entries = presence.watch(["anna", "ben"])     an entry a player, at once; several watchers share it
    await presence.answered(entries)              all of them are known now, or "unknown"
    presence.on_change(told)                      `told(entries)`: these look different now
    presence.release(entry)                       its last watcher is gone

The engine keeps one entry a watched player and node, however many sessions watch. Who may see which of the pictures
is not its business.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal, Protocol

from server.actors.pictures import Pictures, ShownActor
from server.ids import ActorId

EntryState = Literal["asked", "known", "unknown"]
MAX_PLAYER: Final = 64
"""Characters of a player's name, which is a key of the session's actor."""


class WatchedPlayer:
    """The knowledge of this node about a player whom its sessions watch. `state`: "asked", not heard of yet; "known",
    `pictures` says how the player looks, also one who is offline; "unknown", nobody can tell now. `relations` is the
    number of the player's newest list of relations, as far as it was heard; 0 for a player who is offline.

    `watchers` is the session layer's own, which the engine leaves alone."""

    __slots__ = ("last_pictures", "offline", "player", "relations", "slot", "source", "state", "watchers")

    def __init__(self, player: str, slot: int = 0) -> None:
        self.player = player
        self.state: EntryState = "asked"
        self.relations = 0
        self.watchers: Any = None
        # The engine's own, from here on.
        self.slot = slot
        self.last_pictures: Pictures | None = None
        """The last pictures, also while the entry is "unknown"."""
        self.offline = False
        """Whether these are those of a player who is not here."""
        self.source: Any = None
        """The owner that has said so."""

    @property
    def pictures(self) -> Pictures | None:
        """How the player looks; None unless that is "known"."""
        return self.last_pictures if self.state == "known" else None

    def looks_like(self, pictures: Pictures, relations: int) -> bool:
        """Whether it looks so already."""
        return self.last_pictures == pictures and self.relations == relations

    def set(self, pictures: Pictures, relations: int) -> None:
        """Let it look so, where that is known."""
        self.last_pictures, self.relations = pictures, relations


Changed = Callable[[list[WatchedPlayer]], None]


class Presence(Protocol):
    """See the module's head."""

    def watch(self, players: Sequence[str]) -> list[WatchedPlayer]:
        """The entries of `players`, in their order, made where there is none. Names are 1 to `MAX_PLAYER` characters:
        the caller has checked that. Raises `Overloaded` where this node would watch too many: nothing is watched."""
        ...

    def release(self, entry: WatchedPlayer) -> None:
        """Watch that player no more. The entry is of no use afterwards; a later `watch` makes another one."""
        ...

    def answered(self, entries: Sequence[WatchedPlayer]) -> "asyncio.Future[None]":
        """Done as soon as none of `entries` is "asked" any more, within two seconds in any case: what nobody has
        answered by then is "unknown". Never fails."""
        ...

    def on_change(self, told: Changed) -> None:
        """Call `told` with entries that look different since the last call: another state, other pictures, a greater
        number of relations. Not within `watch`; at most a few hundred at a time; each entry once a call."""
        ...

    def look(self, players: Sequence[str]) -> "asyncio.Future[list[WatchedPlayer]]":
        """How `players` look now, in their order, without watching them: entries of the caller's own, "known" or
        "unknown". One request a node, one store query. Never fails; raises `Overloaded` for too many at a time."""
        ...


class ShownHere(Protocol):
    """The engine, as the outlet of this node's actors needs it."""

    def show(self, identity: ActorId, shown: ShownActor) -> None:
        """See `server.actors.outlet.Outlet.show`."""
        ...

    def withdraw(self, identity: ActorId, epoch: int, n: int) -> None:
        """See `server.actors.outlet.Outlet.withdraw`."""
        ...

    def hide(self, identity: ActorId, epoch: int, moved: bool) -> None:
        """See `server.actors.outlet.Outlet.hide`."""
        ...


class NodePresence(Presence, ShownHere, Protocol):
    """The whole engine of a node, as the gateway passes it on."""
