"""The directory's protocol on several nodes without a network: the test passes every message."""

from collections import Counter
from functools import lru_cache
from typing import Final

from msgspec.structs import replace

from server.cluster.view import Member, MemberState, View
from server.directory.bequest import DirectoryBequest, EntriesGone, ListersGone, decode
from server.directory.handoff import HandoffCore
from server.directory.messages import Word, WordAnswer
from server.errors import Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId

WAIT_S: Final = 1.0
CONFIRM_S: Final = 5.0


@lru_cache(maxsize=100)
def view_of(members: tuple[tuple[NodeAddress, MemberState], ...]) -> View:
    return View(tuple(Member(at.node, at.incarnation, 1, state, "", "", "") for at, state in members))


class Node:
    """A run of a node: its protocol, and the activations that live there."""

    def __init__(self, me: NodeAddress) -> None:
        self.me = me
        self.live: dict[ActorId, None] = {}
        self.core = self._core()
        self.core.start(me)
        self.view = View(())
        self.slices: list[bytes] = []
        """Parts of it that were copied ahead for an heir."""

    def _core(self) -> HandoffCore:
        return HandoffCore(self, WAIT_S, CONFIRM_S, lambda attempt: min(0.5, 0.05 * 2.0 ** min(attempt, 8)))

    def copy_ahead(self) -> None:
        data = self.core.going_over.copy_ahead(3)
        if data:
            self.slices.append(data)

    def succeed(self, now: float) -> None:
        """Go on in another process."""
        data, before = self.core.bequeath(now), self.core
        heir = self._core()
        heir.start(self.me, self.view)
        for part in self.slices:
            heir.going_over.inherit_ahead(part)
        heir.inherit(data, now)
        self.core, self.slices = heir, []
        assert before.bequeath(now) == data, "to bequeath changes nothing"
        assert heir.partition.entries() == before.partition.entries()
        before.going_over.end_copying()
        assert ordered(heir.bequeath(now)) == ordered(before.bequeath(now))

    def activation_ids(self) -> list[ActorId]:
        return list(self.live)

    def find(self, identity: ActorId) -> object | None:
        return self if identity in self.live else None

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        if identity.startswith("volatile/") and winner != self.me:
            self.die(identity)
        return identity in self.live

    def owner(self, identity: ActorId) -> NodeAddress | None:
        return self.view.table.owner(identity)

    def bear(self, identity: ActorId, moved: bool = False) -> None:
        self.live[identity] = None
        owner = self.owner(identity)
        if owner is not None:
            self.core.born(identity, owner, moved=moved)

    def die(self, identity: ActorId) -> None:
        if identity in self.live:
            del self.live[identity]
            self.core.died(identity, self.owner(identity))

    def die_all(self, identities: list[ActorId]) -> None:
        for identity in identities:
            self.die(identity)

    def see(self, view: View, now: float) -> None:
        if view.digest != self.view.digest:
            self.view = view
            self.core.on_view(view, now)


def ordered(data: bytes) -> DirectoryBequest:
    """A bequest whose order is that of names, where order means nothing."""
    it = decode(data)
    entries = EntriesGone(sorted((home, sorted(ids)) for home, ids in it.entries.entries), [])
    listers = ListersGone(sorted((sorted(peers), sorted(ids)) for peers, ids in it.listers.listed), [])
    return replace(it, entries=entries, listers=listers)


class Nodes:
    """Nodes of one cluster. `late` holds messages whose senders have given them up already."""

    def __init__(self) -> None:
        self.now = 100.0
        self.nodes: dict[str, Node] = {}
        self.runs = 0
        self.late: list[tuple[NodeAddress, NodeAddress, Word]] = []

    def start(self, name: str) -> Node:
        self.runs += 1
        node = self.nodes[name] = Node(NodeAddress(NodeId(name), Incarnation(self.runs)))
        return node

    def at(self, address: NodeAddress) -> Node | None:
        node = self.nodes.get(address.node)
        return node if node is not None and node.me == address else None

    # ---- how messages pass ----

    def talk(self, frm: Node, to: Node, fate: str = "ok") -> bool:
        """Returns whether there was something to say."""
        word = frm.core.next(to.me, self.now)
        if word is None:
            return False
        answer = self.deliver(frm.me, to.me, word) if fate in ("ok", "unheard") else None
        if fate == "late":
            self.late.append((frm.me, to.me, word))
        if answer is None or fate == "unheard":
            frm.core.failed(to.me, word.number, self.now)
        else:
            frm.core.answered(to.me, word.number, answer, self.now)
        return True

    def deliver(self, frm: NodeAddress, to: NodeAddress, word: Word) -> WordAnswer | None:
        node = self.at(to)
        try:
            return node.core.receive(frm, word, 100, self.now) if node is not None else None
        except Unavailable:
            return None

    def round(self) -> None:
        for node in list(self.nodes.values()):
            node.core.tick(self.now)
            for address in list(node.view.addresses):
                other = self.at(address)
                if other is None:
                    word = node.core.next(address, self.now)
                    if word is not None:
                        node.core.failed(address, word.number, self.now)
                elif other is not node:
                    self.talk(node, other)

    def truth(self) -> View:
        return view_of(tuple((self.nodes[name].me, "up") for name in sorted(self.nodes)))

    def agree(self) -> None:
        for node in self.nodes.values():
            node.see(self.truth(), self.now)

    def flow(self) -> None:
        """Pass messages and time until nobody has anything to say or to wait for."""
        for _ in range(400):
            self.round()
            if all(node.core.quiet and node.core.due() is None for node in self.nodes.values()):
                return
            self.now += 0.05
        raise AssertionError("it does not come to rest")

    def check(self) -> None:
        """Every owner lists what lives elsewhere, nobody anything else, and every actor lives once."""
        for node in self.nodes.values():
            expected = {
                identity: other.me
                for other in self.nodes.values()
                if other is not node
                for identity in other.live
                if node.owner(identity) == node.me
            }
            assert node.core.partition.entries() == expected
            assert node.core.questions.blocked == 0 and node.core.streams.frozen == 0
        homes = Counter(identity for node in self.nodes.values() for identity in node.live)
        assert all(count == 1 for count in homes.values()), homes
