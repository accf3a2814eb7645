"""`presence_successions(seed) -> violations`: the play of `presence_cores.py`, whose nodes go on in other processes now
and then: copied ahead while it all goes on, with links that are down for a moment, and words under way.

The heir knows what the predecessor knew, exactly. A picture is as true and as old as it may be without successions, and
where nobody crashes and no word is lost, a picture that was known is so all the time.
"""

from typing import Final

from msgspec.structs import replace

from server.presence.bequest import HeardBequest, PresenceBequest, decode
from server.presence.core import PresenceCore
from tests.sim.presence_cores import LIMITS, OFFLINE, CoreNode, Cores

PAUSES_S: Final = (0.0, 0.1, 0.6)
SETTLED_S: Final = 14.0
"""Time from which on no node comes any more where nobody crashes."""


class Successions(Cores):
    """A run of the scenario."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.promise_s += max(PAUSES_S)
        self.slices: dict[CoreNode, list[bytes]] = {}
        self.count = 0
        self.known: dict[str, None] = {}

    def run(self) -> list[str]:
        self.at(1.0, self.copy_some)
        self.at(1.5, self.succession)
        return super().run()

    def copy_some(self) -> None:
        for node in self.nodes.values():
            for _ in range(self.rng.choice((0, 1, 4))):
                if data := node.core.going_over.copy_ahead(2):
                    self.slices.setdefault(node, []).append(data)
        self.at(self.rng.uniform(0.05, 0.5), self.copy_some)

    def succession(self) -> None:
        self.at(self.rng.uniform(2.0, 4.0) if self.gentle else self.rng.uniform(0.3, 2.0), self.succession)
        if self.nodes:
            name = self.rng.choice(sorted(self.nodes))
            self.succeed(self.nodes[name])
            links = [link for other in self.nodes if other != name for link in ((name, other), (other, name))]
            links = [link for link in links if link not in self.cut]
            if self.calm:  # even one that is down for no time loses the heir's first word, and costs a second
                return
            self.cut.update(links)
            self.at(self.rng.choice(PAUSES_S), lambda: self.cut.difference_update(links))

    def succeed(self, node: CoreNode) -> None:
        """Go on in another process, whose memory is made of bytes and of activations."""
        before, data = node.core, node.core.bequeath(self.now)
        heir = PresenceCore("p", lambda _row: OFFLINE, False, node._backoff, LIMITS)
        heir.start(node.address, before.view)
        for part in self.slices.pop(node, ()):
            heir.going_over.inherit_ahead(part, self.now)
        living = {player: it for player, it in before.home.shown.items() if player not in before.home.lingering}
        heir.home.shown.update(living)
        heir.inherit(data, self.now)
        for player, entry in node.entries.items():
            there = heir.watching.entries.get(player)
            if there is None or (there.state, there.pictures) != (entry.state, entry.pictures):
                self.wrong[f"{player} is not in the heir of {node.address} as it was"] = None
                continue
            node.entries[player] = there
            if entry in self.highest:
                self.highest[there] = self.highest[entry]
        waits = [
            [{entry.player for entry in some} for some in (it.unanswered, it.wanted, it.stale_rows, it.changed)]
            for it in (before.watching, heir.watching)
        ]
        if waits[0] != waits[1]:
            self.wrong[f"entries of the heir of {node.address} do not wait for what they waited for"] = None
        before.going_over.end_copying()
        if ordered(heir.bequeath(self.now)) != ordered(before.bequeath(self.now)):
            self.wrong[f"the heir of {node.address} does not know what it knew"] = None
        node.core = heir
        self.count += 1

    def look(self) -> None:
        super().look()
        if self.gentle and self.now > SETTLED_S:
            for node in self.nodes.values():
                for entry in node.entries.values():
                    where = f"{entry.player} at {node.address}"
                    if entry.state == "known":
                        self.known[where] = None
                    elif entry.state == "unknown" and where in self.known:
                        self.wrong[f"{self.now:.2f} {where} is not known any more"] = None
                    elif entry.state == "asked":
                        self.known.pop(where, None)


def ordered(data: bytes) -> PresenceBequest:
    """A bequest in the order of names, where order means nothing."""
    it = decode(data)

    def heard(bequest: HeardBequest) -> HeardBequest:
        copy = bequest.copy
        shown = sorted(copy.shown, key=lambda here: here.player)
        return replace(bequest, copy=replace(copy, shown=shown, hidden=[], watched=sorted(copy.watched), unwatched=[]))

    entries = sorted(it.watched.entries, key=lambda entry: entry.player)
    return replace(
        it,
        peers=[replace(peer, heard=heard(peer.heard)) for peer in it.peers],
        own=heard(it.own),
        watched=replace(it.watched, entries=entries, gone=[]),
        lingering=sorted(it.lingering, key=lambda lingers: lingers.player),
    )


def presence_successions(seed: int) -> list[str]:
    """See the module's head."""
    return Successions(seed).run()
