"""`view-change`: what it costs a node that another one joins, leaves or dies: the slot table, and the
directory's handoff or rebuilding.

The protocol of all nodes runs in this process, every message encoded and decoded, without a network.
What is counted is CPU time, by node: the mean over all nodes, and the busiest. 100,000 activations
live in the cluster, a tenth of them elsewhere than on their slot's owner.
"""

import gc
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import Any, Final

import msgspec

from server.cluster.slots import SlotTable
from server.cluster.view import Member, MemberState, View
from server.directory.handoff import HandoffCore
from server.directory.messages import Word, WordAnswer
from server.ids import ActorId, Incarnation, NodeAddress, NodeId
from server.lab.bench.floors import view_change as floor
from server.lab.bench.harness import Effort, Outcome, outcome, progress

SIZES: Final = (3, 100, 1_000)
ACTIVATIONS: Final = 100_000
ELSEWHERE: Final = 10
"""Activations for each one that does not live on its slot's owner."""
WEIGHT: Final = 4
KINDS: Final = ("join", "leave", "crash")
_encode = msgspec.msgpack.encode
_word = msgspec.msgpack.Decoder(Word)
_answer = msgspec.msgpack.Decoder(WordAnswer)


class _Node:
    """A simulated node: its activations, its protocol, and the CPU seconds that it took."""

    def __init__(self, me: NodeAddress, view: View) -> None:
        self.me, self.spent = me, 0.0
        self.live: dict[ActorId, None] = {}
        self.core = HandoffCore(self, 1.0, 5.0, lambda attempt: 0.1)
        self.core.start(me, view)

    def activation_ids(self) -> Iterable[ActorId]:
        return list(self.live)

    def find(self, identity: ActorId) -> object | None:
        return self if identity in self.live else None

    def drop_duplicate(self, identity: ActorId, winner: NodeAddress) -> bool:
        raise AssertionError(f"{identity} lives twice, here and at {winner}")

    @contextmanager
    def counted(self) -> Iterator[None]:
        begin = time.process_time()
        try:
            yield
        finally:
            self.spent += time.process_time() - begin


class _Cluster:
    """`size` nodes, of which the last one comes and goes."""

    def __init__(self, size: int, ids: list[ActorId]) -> None:
        self.size, self.ids = size, ids
        self.run = 1
        self.names = [f"node-{number:04}" for number in range(size)]
        self.view = View(self._with(None))
        self.nodes = {at: _Node(at, self.view) for at in self.view.addresses}
        around = cycle(self.nodes.values())
        for n, identity in enumerate(ids):
            home = next(around) if n % ELSEWHERE == 0 else self.nodes[self._owner(identity)]
            self._bear(home, identity)
        self.pass_messages()

    def _member(self, name: str, state: MemberState = "up") -> Member:
        incarnation = Incarnation(self.run if name == self.names[-1] else 1)
        return Member(NodeId(name), incarnation, WEIGHT, state, "", "", "")

    def _owner(self, identity: ActorId) -> NodeAddress:
        owner = self.view.table.owner(identity)
        assert owner is not None
        return owner

    def _bear(self, node: _Node, identity: ActorId, moved: bool = False) -> None:
        node.live[identity] = None
        node.core.born(identity, self._owner(identity), moved=moved)

    def pass_messages(self) -> int:
        """Until nobody has anything to say; returns how many there were."""
        messages = 0
        speaking = list(self.nodes.values())
        while speaking:
            again: dict[NodeAddress, _Node] = {}
            for node in speaking:
                awake, node.core.streams.awake = node.core.streams.awake, {}
                for peer in awake:
                    if peer in self.nodes:
                        messages += self._talk(node, self.nodes[peer])
                        again[peer] = self.nodes[peer]
                again[node.me] = node
            speaking = [node for node in again.values() if node.core.streams.awake]
        return messages

    def _talk(self, frm: _Node, to: _Node) -> int:
        """All that one has to say to the other; returns how many messages it took."""
        for count in range(1_000_000):
            with frm.counted():
                word = frm.core.next(to.me, 0.0)
                data = _encode(word)
            if word is None:
                return count
            with to.counted():
                answer = _encode(to.core.receive(frm.me, _word.decode(data), len(data), 0.0))
            with frm.counted():
                frm.core.answered(to.me, word.number, _answer.decode(answer), 0.0)
        raise AssertionError("a node that never ends to talk")

    def change(self, members: tuple[Member, ...]) -> dict[str, float]:
        """All nodes see these; returns the figures, in ms of one node."""
        begin = time.process_time()
        view = self.view = self.view.follow(members)
        table_ms = 1e3 * (time.process_time() - begin)
        for node in self.nodes.values():
            node.spent = 0.0
        for node in self.nodes.values():
            with node.counted():
                node.core.on_view(view, 0.0)
        messages = self.pass_messages()
        spent = [1e3 * node.spent for node in self.nodes.values()]
        return {
            "table_ms": table_ms,
            "directory_ms": sum(spent) / len(spent),
            "busiest_ms": max(spent) + table_ms,
            "messages": messages / len(spent),
        }

    def steps(self) -> dict[str, dict[str, float]]:
        """The last node joins, gets its actors, leaves, joins again and dies."""
        figures = {}
        for kind in ("leave", "crash"):
            last = self._appear()
            figures["join"] = self.change(self._with("up"))
            self._go_home()
            if kind == "leave":
                figures[kind] = self.change(self._with("leaving"))
                self._go_home()
            orphans = list(last.live)
            del self.nodes[last.me]
            gone = self.change(self._with(None))
            if kind == "crash":
                figures[kind] = gone
            for identity in orphans:
                self._bear(self.nodes[self._owner(identity)], identity)
            self._check()
            self.run += 1
        return figures

    def _appear(self) -> _Node:
        """The last node is seen, and owns nothing yet."""
        node = _Node(self._member(self.names[-1]).address, self.view)
        self.nodes[node.me] = node
        self.change(self._with("joining"))
        return node

    def _with(self, state: MemberState | None) -> tuple[Member, ...]:
        """The members, the last one in `state` or gone."""
        others = tuple(self._member(name) for name in self.names[:-1])
        return others if state is None else (*others, self._member(self.names[-1], state))

    def _go_home(self) -> None:
        """Nine of ten actors move to their slots' owners."""
        for node in list(self.nodes.values()):
            away = [name for name in node.live if self._owner(name) != node.me and not name.endswith("0")]
            for identity in away:
                owner = self._owner(identity)
                del node.live[identity]
                node.core.died(identity, owner)
                self._bear(self.nodes[owner], identity, moved=True)
        self.pass_messages()
        self._check()

    def _check(self) -> None:
        """Assert that the measured work was done: every activation away from its owner is listed."""
        self.pass_messages()
        listed = sum(len(node.core.partition) for node in self.nodes.values())
        away = sum(self._owner(identity) != node.me for node in self.nodes.values() for identity in node.live)
        assert listed == away, f"{listed} entries, {away} activations away from their owners"
        assert all(node.core.quiet for node in self.nodes.values())

    def floor_ms(self, kind: str) -> float:
        """The floor of one node: its share of what must be done."""
        others = self.size - 1
        share = len(self.ids) // self.size // self.size  # moves among all nodes
        moved = [str(identity) for identity in self.ids[: max(1, share)]]
        slots = floor.SLOTS if kind == "join" else max(1, floor.SLOTS // self.size)
        draws = WEIGHT if kind == "join" else WEIGHT * others
        heirs = min(others, floor.SLOTS // self.size)
        asked = heirs * others // self.size if kind == "crash" else 1
        return 1e3 * floor.run(draws, slots, moved, asked)


def _scratch_ms(size: int) -> float:
    """The table of a node that has just heard of everybody."""
    owners = tuple((NodeAddress(NodeId(f"node-{n:04}"), Incarnation(1)), WEIGHT) for n in range(size))
    begin = time.process_time()
    SlotTable(owners)
    return 1e3 * (time.process_time() - begin)


async def run(effort: Effort) -> Outcome:
    """CPU ms of one node for a change of the view: the mean of joining, leaving and dying, of all sizes."""
    ids = [ActorId(f"bench/{number:06}") for number in range(effort.size(ACTIVATIONS))]
    sizes = (3, 10, 30) if effort.short else SIZES
    real: list[float] = []
    below: list[float] = []
    seen: dict[tuple[int, str], list[dict[str, float]]] = {}
    clusters = [_Cluster(size, ids) for size in sizes]
    gc.collect()
    gc.freeze()
    for number in range(effort.rounds + 1):
        floors, costs = [], []
        for cluster in clusters:
            floors += [cluster.floor_ms(kind) for kind in KINDS]
            for kind, figures in cluster.steps().items():
                costs.append(figures["table_ms"] + figures["directory_ms"])
                if number:
                    seen.setdefault((cluster.size, kind), []).append(figures)
        lower, upper = sum(floors) / len(floors), sum(costs) / len(costs)
        progress(f"view-change: round {number}/{effort.rounds}: floor {lower:.3f}, real {upper:.3f} ms")
        if number:
            below.append(lower)
            real.append(upper)
    detail = {f"{size} nodes": _of(size, seen) for size in sizes}
    return outcome("view-change", "ms", real, below, None, activations=len(ids), **detail)


def _of(size: int, seen: dict[tuple[int, str], list[dict[str, float]]]) -> dict[str, Any]:
    kinds = {}
    for kind in KINDS:
        rounds = seen[size, kind]
        kinds[kind] = {name: round(statistics.median(figures[name] for figures in rounds), 3) for name in rounds[0]}
    return {"table_from_scratch_ms": round(_scratch_ms(size), 2), **kinds}
