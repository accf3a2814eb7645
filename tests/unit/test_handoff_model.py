"""The directory's protocol on several nodes, under whatever order of view changes, messages, losses,
births, deaths and crashes: once views agree and messages pass, every owner lists exactly what lives
elsewhere in its slots, and nothing waits."""

from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.cluster.view import MemberState
from server.ids import ActorId, NodeAddress
from tests.support.directories import Node, Nodes, view_of

NAMES: Final = ("n1", "n2", "n3", "n4")
IDS: Final = [ActorId(f"{kind}/{n}") for kind in ("volatile", "durable") for n in range(12)]
STATES: Final = st.sampled_from(["up", "up", "up", "joining", "leaving"])


class Cluster(RuleBasedStateMachine, Nodes):
    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        Nodes.__init__(self)
        self.dead: list[NodeAddress] = []

    @initialize(names=st.sets(st.sampled_from(NAMES), min_size=1), together=st.booleans())
    def begin(self, names: set[str], together: bool) -> None:
        for name in sorted(names):
            self.run(name)
        if together:
            self.agree()
            self.flow()

    def node(self, pick: int) -> Node:
        return self.nodes[sorted(self.nodes)[pick % len(self.nodes)]]

    # ---- what happens ----

    @rule(name=st.sampled_from(NAMES))
    def run(self, name: str) -> None:
        if name in self.nodes:
            return
        node = self.start(name)
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
        everybody = [node.me for node in self.nodes.values()] + self.dead[-2:]
        members = {str(everybody[n % len(everybody)].node): (everybody[n % len(everybody)], state) for n, state in seen}
        members[str(node.me.node)] = (node.me, mine)
        node.see(view_of(tuple(members[name] for name in sorted(members))), self.now)

    @rule(pick=st.integers(0, 3))
    def see_the_truth(self, pick: int) -> None:
        self.node(pick).see(self.truth(), self.now)

    @rule(pick=st.integers(0, 3), which=st.lists(st.sampled_from(IDS), min_size=1, max_size=8))
    def bear(self, pick: int, which: list[ActorId]) -> None:
        for identity in which:
            held = identity.startswith("durable/") and any(identity in node.live for node in self.nodes.values())
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

    @rule(pick=st.integers(0, 3), slices=st.integers(1, 4))
    def copy_ahead(self, pick: int, slices: int) -> None:
        for _ in range(slices):
            self.node(pick).copy_ahead()

    @rule(pick=st.integers(0, 3), to=st.integers(0, 3), speaks=st.booleans())
    def succeed(self, pick: int, to: int, speaks: bool) -> None:
        """Go on in another process, perhaps with a word under way that comes late."""
        node, peer = self.node(pick), self.node(to)
        word = node.core.next(peer.me, self.now) if speaks and node is not peer else None
        if word is not None:
            self.late.append((node.me, peer.me, word))
        node.succeed(self.now)

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


Cluster.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestCluster = Cluster.TestCase
