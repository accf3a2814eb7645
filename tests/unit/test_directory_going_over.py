"""The directory goes over to an heir: what is copied ahead and changes after that goes with the rest."""

from collections.abc import Callable

import pytest

from server.directory.bequest import SLICE, EntriesGone, decode_ahead, encode
from server.directory.handoff import HandoffCore
from server.errors import BadInput
from server.ids import ActorId
from tests.support.directories import Node, Nodes, view_of

IDS = [ActorId(f"durable/{n}") for n in range(60)]


def _nodes() -> Nodes:
    nodes = Nodes()
    for name in ("n1", "n2", "n3"):
        nodes.start(name)
    nodes.agree()
    for place, identity in enumerate(IDS):
        list(nodes.nodes.values())[place % 3].bear(identity)
    nodes.flow()
    nodes.check()
    return nodes


def _listed(nodes: Nodes, node: Node) -> ActorId:
    """An activation elsewhere, in a slot of `node`."""
    return next(iter(node.core.partition.entries()))


def _home(nodes: Nodes, identity: ActorId) -> Node:
    return next(node for node in nodes.nodes.values() if identity in node.live)


def _talk_all(nodes: Nodes) -> None:
    for _ in range(3):
        nodes.round()


def _birth_elsewhere(nodes: Nodes, node: Node) -> None:
    new = (ActorId(f"durable/new{n}") for n in range(10_000))
    nodes.nodes["n2"].bear(next(identity for identity in new if node.owner(identity) == node.me))
    _talk_all(nodes)


def _death_elsewhere(nodes: Nodes, node: Node) -> None:
    identity = _listed(nodes, node)
    _home(nodes, identity).die(identity)
    _talk_all(nodes)


def _move_elsewhere(nodes: Nodes, node: Node) -> None:
    identity = _listed(nodes, node)
    source = _home(nodes, identity)
    target = next(it for it in nodes.nodes.values() if it not in (source, node))
    target.bear(identity, moved=True)
    source.die(identity)
    _talk_all(nodes)


def _birth_here(nodes: Nodes, node: Node) -> None:
    new = (ActorId(f"durable/new{n}") for n in range(10_000))
    node.bear(next(identity for identity in new if node.owner(identity) != node.me))
    _talk_all(nodes)


def _death_here(nodes: Nodes, node: Node) -> None:
    for identity in [identity for identity in node.live if node.owner(identity) != node.me][:3]:
        node.die(identity)


def _member_gone(nodes: Nodes, node: Node) -> None:
    del nodes.nodes["n3"]
    nodes.agree()


def _member_comes(nodes: Nodes, node: Node) -> None:
    nodes.start("n4")
    nodes.agree()


def _member_begins_afresh(nodes: Nodes, node: Node) -> None:
    other = nodes.nodes["n2"]
    without = view_of(tuple((it.me, "up") for it in nodes.nodes.values() if it is not node))
    other.see(without, nodes.now)
    other.see(nodes.truth(), nodes.now)
    nodes.talk(other, node)


EVENTS: list[Callable[[Nodes, Node], None]] = [
    _birth_elsewhere, _death_elsewhere, _move_elsewhere, _birth_here, _death_here, _member_gone, _member_comes,
    _member_begins_afresh,
]  # fmt: skip


@pytest.mark.parametrize("ahead", [0, 7, 1_000])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__.strip("_"))
def test_changes_after_a_slice_was_copied_go_over_too(event: Callable[[Nodes, Node], None], ahead: int) -> None:
    nodes = _nodes()
    node = nodes.nodes["n1"]
    for _ in range(ahead):
        node.copy_ahead()
    event(nodes, node)
    node.succeed(nodes.now)  # asserts that the heir knows the same
    nodes.agree()
    nodes.flow()
    nodes.check()


def test_a_word_under_way_goes_again_under_a_higher_number() -> None:
    nodes = _nodes()
    node, other = nodes.nodes["n1"], nodes.nodes["n2"]
    node.die(next(identity for identity in node.live if node.owner(identity) == other.me))
    word = node.core.next(other.me, nodes.now)
    assert word is not None and word.gone
    node.succeed(nodes.now)
    again = node.core.next(other.me, nodes.now)
    assert again is not None and again.gone == word.gone and again.number > word.number
    assert nodes.deliver(node.me, other.me, again) is not None
    assert nodes.deliver(node.me, other.me, word) is None, "the word of the predecessor comes too late"


def test_a_death_that_nobody_has_heard_of_is_told_by_the_heir() -> None:
    nodes = _nodes()
    node, other = nodes.nodes["n1"], nodes.nodes["n2"]
    identity = next(identity for identity in node.live if node.owner(identity) == other.me)
    assert other.core.partition.find(identity) == node.me
    node.die(identity)
    node.succeed(nodes.now)
    nodes.flow()
    assert other.core.partition.find(identity) is None


def test_bequests_of_another_run_or_view_are_refused_and_change_nothing() -> None:
    nodes = _nodes()
    node, other = nodes.nodes["n1"], nodes.nodes["n2"]
    data = node.core.bequeath(nodes.now)
    for me, view in ((other.me, node.view), (node.me, view_of(((node.me, "up"),)))):
        heir = HandoffCore(node, 1.0, 1.0, lambda _: 0.1)
        heir.start(me, view)
        with pytest.raises(BadInput):
            heir.inherit(data, nodes.now)
        assert len(heir.partition) == 0


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x90", b"\x93\x07\x90\x90"])
def test_bytes_that_are_no_bequest_are_refused(data: bytes) -> None:
    core = HandoffCore(_nodes().nodes["n1"], 1.0, 1.0, lambda _: 0.1)
    with pytest.raises(BadInput):
        core.inherit(data, 0.0)
    with pytest.raises(BadInput):
        core.going_over.inherit_ahead(data)


def test_slices_are_bounded_and_end() -> None:
    nodes = _nodes()
    core = nodes.nodes["n1"].core
    assert core.going_over.to_copy == 0
    sizes = []
    while data := core.going_over.copy_ahead(7):
        some = decode_ahead(data)
        parts = some.entries if isinstance(some, EntriesGone) else some.listed
        sizes.append(sum(len(ids) for _, ids in parts) + len(some.gone))
    assert sizes and max(sizes) <= 7 and core.going_over.to_copy == 0
    assert SLICE <= 5_000 and len(encode(core.going_over.left()[0])) < 10
    core.going_over.end_copying()
    assert len(core.going_over.left()[0].entries) > 0, "called off: all of it is to be copied again"
