"""The directory's protocol on several nodes, under whatever order of view changes, messages, losses,
births, deaths and crashes: once views agree and messages pass, every owner lists exactly what lives
elsewhere in its slots, and nothing waits."""

from functools import lru_cache
from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.cluster.view import Member, MemberState, View
from server.directory.handoff import Handover
from server.directory.messages import Heard, Word
from server.errors import Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId

NAMES: Final = ("n1", "n2", "n3", "n4")
IDS: Final = [ActorId(f"{kind}/{n}") for kind in ("volatile", "durable") for n in range(12)]
WAIT_S: Final = 1.0
CONFIRM_S: Final = 5.0
STATES: Final = st.sampled_from(["up", "up", "up", "joining", "leaving"])


@lru_cache(maxsize=100)
def view_of(members: tuple[tuple[NodeAddress, MemberState], ...]) -> View:
    return View(tuple(Member(at.node, at.incarnation, 1, state, "", "", "") for at, state in members))


class Node:
    """One run of one node: its protocol, and what lives there."""

    def __init__(self, me: NodeAddress) -> None:
        self.me = me
        self.live: dict[ActorId, None] = {}
        self.core = Handover(self, WAIT_S, CONFIRM_S, lambda attempt: min(0.5, 0.05 * 2.0 ** min(attempt, 8)))
        self.core.me = me
        self.view = View(())

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

    def see(self, view: View, now: float) -> None:
        if view.digest != self.view.digest:
            self.view = view
            self.core.on_view(view, now)


class Cluster(RuleBasedStateMachine):
    """`late` holds messages whose senders have given them up already."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.nodes: dict[str, Node] = {}
        self.dead: list[NodeAddress] = []
        self.runs = 0
        self.late: list[tuple[NodeAddress, NodeAddress, Word]] = []

    @initialize(names=st.sets(st.sampled_from(NAMES), min_size=1), together=st.booleans())
    def begin(self, names: set[str], together: bool) -> None:
        for name in sorted(names):
            self.start(name)
        if together:
            self.agree()
            self.flow()

    def node(self, pick: int) -> Node:
        return self.nodes[sorted(self.nodes)[pick % len(self.nodes)]]

    def at(self, address: NodeAddress) -> Node | None:
        node = self.nodes.get(address.node)
        return node if node is not None and node.me == address else None

    # ---- what happens ----

    @rule(name=st.sampled_from(NAMES))
    def start(self, name: str) -> None:
        if name in self.nodes:
            return
        self.runs += 1
        node = self.nodes[name] = Node(NodeAddress(NodeId(name), Incarnation(self.runs)))
        node.see(view_of(((node.me, "joining"),)), self.now)

    @rule(pick=st.integers(0, 3))
    def crash(self, pick: int) -> None:
        if len(self.nodes) > 1:
            node = self.node(pick)
            del self.nodes[node.me.node]
            self.dead.append(node.me)

    @rule(
        pick=st.integers(0, 3),
        seen=st.lists(st.tuples(st.integers(0, 7), STATES), max_size=5),
        mine=STATES,
    )
    def see(self, pick: int, seen: list[tuple[int, MemberState]], mine: MemberState) -> None:
        """Any view at all: of the living and the dead, in any state."""
        node = self.node(pick)
        everybody = [one.me for one in self.nodes.values()] + self.dead[-2:]
        members = {str(everybody[n % len(everybody)].node): (everybody[n % len(everybody)], state) for n, state in seen}
        members[str(node.me.node)] = (node.me, mine)
        node.see(view_of(tuple(members[name] for name in sorted(members))), self.now)

    @rule(pick=st.integers(0, 3))
    def see_the_truth(self, pick: int) -> None:
        self.node(pick).see(self.truth(), self.now)

    @rule(pick=st.integers(0, 3), which=st.lists(st.sampled_from(IDS), min_size=1, max_size=8))
    def bear(self, pick: int, which: list[ActorId]) -> None:
        for identity in which:
            held = identity.startswith("durable/") and any(identity in one.live for one in self.nodes.values())
            if not held and identity not in self.node(pick).live:
                self.node(pick).bear(identity)

    @rule(pick=st.integers(0, 3), which=st.lists(st.sampled_from(IDS), min_size=1, max_size=8))
    def die(self, pick: int, which: list[ActorId]) -> None:
        for identity in which:
            self.node(pick).die(identity)

    @rule(frm=st.integers(0, 3), to=st.integers(0, 3), identity=st.sampled_from(IDS), first=st.booleans())
    def move(self, frm: int, to: int, identity: ActorId, first: bool) -> None:
        source, target = self.node(frm), self.node(to)
        if identity in source.live and source is not target and identity not in target.live:
            if first:
                source.die(identity)
            target.bear(identity, moved=True)
            source.die(identity)

    @rule(pick=st.integers(0, 3), identity=st.sampled_from(IDS), where=st.integers(0, 3))
    def doubt(self, pick: int, identity: ActorId, where: int) -> None:
        node = self.node(pick)
        if node.owner(identity) == node.me:
            node.core.missed(identity, self.node(where).me)

    @rule(pick=st.integers(0, 3), identity=st.sampled_from(IDS), where=st.integers(0, 3))
    def place(self, pick: int, identity: ActorId, where: int) -> None:
        node = self.node(pick)
        if node.owner(identity) == node.me and identity not in node.live:
            node.core.place(identity, self.node(where).me, self.now)

    @rule(frm=st.integers(0, 3), to=st.integers(0, 3), fate=st.sampled_from(["ok", "ok", "lost", "unheard", "late"]))
    def say(self, frm: int, to: int, fate: str) -> None:
        self.talk(self.node(frm), self.node(to), fate)

    @rule(n=st.integers(0, 20))
    def arrive_late(self, n: int) -> None:
        if self.late:
            frm, to, word = self.late.pop(n % len(self.late))
            self.deliver(frm, to, word)

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.3, 0.6, 3.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        for node in self.nodes.values():
            node.core.tick(self.now)

    @rule()
    def flow_for_a_while(self) -> None:
        for _ in range(5):
            self.round()

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
            frm.core.heard(to.me, word.number, answer, self.now)
        return True

    def deliver(self, frm: NodeAddress, to: NodeAddress, word: Word) -> Heard | None:
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

    # ---- the end ----

    def truth(self) -> View:
        return view_of(tuple((self.nodes[name].me, "up") for name in sorted(self.nodes)))

    def agree(self) -> None:
        for node in self.nodes.values():
            node.see(self.truth(), self.now)

    def flow(self) -> None:
        for _ in range(400):
            self.round()
            if all(node.core.quiet and node.core.due() is None for node in self.nodes.values()):
                return
            self.now += 0.05
        raise AssertionError("it does not come to rest")

    @invariant()
    def entries_are_in_order(self) -> None:
        """Always: only of slots that are this node's in its view, at other members of that view."""
        for node in self.nodes.values():
            for identity, host in node.core.partition.entries().items():
                assert node.owner(identity) == node.me
                assert host != node.me and node.view.has(host)

    def teardown(self) -> None:
        if not self.nodes:
            return
        self.agree()
        self.flow()
        for frm, to, word in self.late:
            self.deliver(frm, to, word)
        self.flow()
        self.check()

    def check(self) -> None:
        for node in self.nodes.values():
            expected = {
                identity: other.me
                for other in self.nodes.values()
                if other is not node
                for identity in other.live
                if node.owner(identity) == node.me
            }
            assert node.core.partition.entries() == expected
            assert node.core.settling.blocked == 0 and node.core.sealed == 0
        for identity in IDS:
            assert sum(identity in node.live for node in self.nodes.values()) <= 1


Cluster.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCluster = Cluster.TestCase
