"""Mutants of the rules by which watchers see what is true, or that nobody knows (`server/presence/core.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

CORE = "server.presence.core:PresenceCore"
OUT = "server.presence.outgoing:Outgoing"
SEEN = "server.presence.watching:WatchedPlayers"


def of(name: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name, 13, "presences", ((where, old, new),))


MUTANTS: Final = (
    of(
        "a node asks once",
        f"{OUT}.take_back",
        "self.interest = {**dict.fromkeys(word.watched), **dict.fromkeys(word.unwatched), **self.interest}",
        "pass",
    ),
    of("an owner is sure whoever has vanished", f"{CORE}._is_whole", " and not self.missing", ""),
    of("a former owner keeps what it heard", f"{CORE}._take_home", "for player in word.untold:", "for player in ():"),
    of("a new owner is not told", f"{CORE}.on_view", "there.out.truth.setdefault(player, (0, 0))", "pass"),
    of(
        "only who is online becomes unknown",
        f"{SEEN}.doubt",
        "if entry.source is source:",
        "if entry.source is source and not entry.offline:",
    ),
    of(
        "who watches is told once",
        f"{CORE}._changed",
        "peer.out.answers[player] = None",
        "pass",
    ),
    of("who has moved is gone for a moment", f"{CORE}.hide", "if moved:", "if False:"),
)
