"""The directory's protocol, case by case: what hearsay, old messages and turning views would break."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.cluster.view import MemberState, View
from server.directory import early
from server.directory.messages import Handoff, Word, WordAnswer, pack, unpack
from server.directory.questions import Questions
from server.directory.stream import LIMITS, Stream, parts
from server.errors import BadInput, Unavailable
from server.ids import SLOT_COUNT, ActorId, Incarnation, NodeAddress, NodeId, slot
from tests.support.directories import Node, Nodes, view_of

IDS = [ActorId(f"durable/{n}") for n in range(200)]
N1, N2, N3 = (NodeAddress(NodeId(name), Incarnation(1)) for name in ("n1", "n2", "n3"))


class Some(Nodes):
    """Nodes that agree, each with some activations."""

    def __init__(self, names: str) -> None:
        super().__init__()
        for name in names:
            self.start(name)
        self.agree()
        for n, identity in enumerate(IDS):
            self.nodes[names[n % len(names)]].bear(identity)
        self.flow()
        self.check()

    def view(self, names: str, **states: MemberState) -> View:
        return view_of(tuple((self.nodes[name].me, states.get(name, "up")) for name in sorted(names)))

    def show(self, view: View, to: str) -> None:
        for name in to:
            self.nodes[name].see(view, self.now)

    def say(self, frm: str, to: str) -> None:
        """Everything that one has to say to the other now."""
        while self.talk(self.nodes[frm], self.nodes[to]):
            pass

    def a_while(self) -> None:
        """Messages pass although views disagree: it does not come to rest."""
        for _ in range(20):
            self.round()

    def listed(self, at: Node, host: Node) -> list[ActorId]:
        return [identity for identity, where in at.core.partition.entries().items() if where == host.me]

    def settle(self) -> None:
        self.agree()
        self.flow()
        self.check()


def test_a_handoff_under_another_membership_is_completed_by_asking() -> None:
    """The giver had lost a member, and its entries, in the view under which it froze them."""
    world = Some("abcd")
    a, c, d = world.nodes["a"], world.nodes["c"], world.nodes["d"]
    world.show(world.view("abcd", d="joining"), "abcd")
    world.flow()
    whole = world.view("abcd")
    world.show(whole, "bcd")
    world.show(world.view("abd"), "a")  # `c` has gone and `d` is up, at once
    world.say("a", "d")
    assert d.core.questions.blocked > 0
    lacking = [one for one in c.live if whole.table.owner(one) == d.me and a.owner(one) == d.me]
    assert any(d.core.partition.find(one) is None for one in lacking)
    world.show(whole, "a")
    world.flow()
    world.check()


def test_a_giver_that_met_somebody_in_the_same_change_is_not_sure() -> None:
    world = Some("abd")
    a, b, d = (world.nodes[name] for name in "abd")
    apart = world.view("ad", a="leaving")  # `b` notices nothing
    world.show(apart, "ad")
    world.say("a", "d")
    assert a.core.streams.frozen == 0
    whole = world.view("abd")
    world.show(whole, "ad")
    world.say("d", "a")
    lacking = [one for one in b.live if a.owner(one) == a.me and apart.table.owner(one) == d.me]
    assert lacking and a.core.questions.blocks(lacking[0])
    world.flow()
    world.check()


def test_a_receiver_waits_for_all_that_its_giver_still_waits_for() -> None:
    world = Some("abc")
    world.start("d")
    world.show(world.view("abcd", d="joining"), "abcd")
    world.flow()
    del world.nodes["c"]
    for name in "abd":
        world.show(world.view("abd", d="joining"), name)
    b, d, whole = world.nodes["b"], world.nodes["d"], world.view("abd")
    world.show(whole, "abd")
    world.say("a", "d")
    world.say("d", "a")
    world.say("a", "d")
    assert d.core.questions.blocked > 0
    world.say("b", "d")
    world.flow()
    world.check()
    assert world.listed(d, b)


def test_a_giver_that_lost_its_listener_begins_afresh() -> None:
    world = Some("abc")
    a, b = world.nodes["a"], world.nodes["b"]
    world.show(world.view("ac"), "a")  # `b` notices nothing
    dead = world.listed(b, a)
    assert dead
    a.die_all(dead[::2])
    world.a_while()
    assert set(dead[::2]) <= set(world.listed(b, a))
    world.show(world.view("abc"), "a")
    world.flow()
    world.check()


def test_a_node_that_was_lost_and_comes_back_as_joining_is_asked() -> None:
    world = Some("ab")
    a, b = world.nodes["a"], world.nodes["b"]
    world.show(world.view("a"), "a")
    world.show(world.view("ab", b="joining"), "a")
    world.flow()
    assert world.listed(a, b)
    world.show(world.view("ab"), "a")
    world.flow()
    world.check()


def test_a_birth_while_nobody_owned_anything_is_told_later() -> None:
    world = Some("ab")
    a = world.nodes["a"]
    world.show(world.view("ab", a="leaving", b="leaving"), "a")  # `b` notices nothing
    for n in range(50):
        a.bear(ActorId(f"durable/nobody-{n}"))
    a.die_all(IDS[::4])
    world.settle()


def test_a_birth_that_did_not_arrive_goes_to_the_heir() -> None:
    world = Some("abc")
    a, b, c = (world.nodes[name] for name in "abc")
    del world.nodes["c"]
    world.show(world.view("ab"), "b")
    world.a_while()  # `b` has asked `a`
    new = [ActorId(f"durable/new-{n}") for n in range(100)]
    mine = [one for one in new if a.owner(one) == c.me and b.owner(one) == b.me]
    for one in mine:
        a.bear(one)
    world.show(world.view("ab"), "a")
    world.flow()
    world.check()
    assert set(mine) <= set(world.listed(b, a))


def test_a_peer_told_of_a_birth_hears_of_the_death_whoever_owns_the_slot_then() -> None:
    world = Some("ab")
    c = world.start("c")
    world.show(world.view("abc", c="joining"), "abc")
    world.flow()
    a, b = world.nodes["a"], world.nodes["b"]
    world.show(world.view("abc"), "a")
    dead = [one for one in world.listed(b, a) if a.owner(one) == c.me]
    assert dead
    a.die_all(dead)
    world.say("a", "b")
    assert not set(dead) & set(world.listed(b, a))
    world.show(world.view("abc", c="joining"), "a")
    world.flow()
    world.check()


def test_news_that_only_a_dead_node_had_is_told_to_the_owner_of_now() -> None:
    """Who has thought all the time that it owns the slot asks nobody."""
    world = Some("ab")
    c = world.start("c")
    world.show(world.view("abc", a="joining", c="joining"), "b")
    world.show(world.view("abc", c="joining"), "ac")
    world.a_while()
    a, b = world.nodes["a"], world.nodes["b"]
    new = [one for n in range(100) if c.owner(one := ActorId(f"durable/new-{n}")) == a.me]
    for one in new:
        c.bear(one)
    world.say("c", "a")
    assert set(new) <= set(world.listed(a, c))
    del world.nodes["a"]
    world.show(world.view("bc", c="joining"), "bc")
    world.flow()
    world.check()
    assert set(new) <= set(world.listed(b, c))


def test_a_handoff_goes_on_to_who_owns_its_slots_now() -> None:
    world = Some("ab")
    for name in "cd":
        world.start(name)
    world.show(world.view("abcd", c="joining", d="joining"), "abcd")
    world.flow()
    a, d = world.nodes["a"], world.nodes["d"]
    world.show(world.view("abcd", d="joining"), "ab")
    after = world.view("abcd", c="leaving")
    world.show(after, "abcd")
    for name in "ab":
        world.say(name, "d")
    assert d.core.questions.blocked == 0 and a.core.streams.frozen == 0
    assert set(d.core.partition.entries()) == {identity for identity in IDS if after.table.owner(identity) == d.me}
    world.flow()
    world.check()


def test_when_the_giver_dies_the_others_are_asked_at_once() -> None:
    world = Some("ab")
    d = world.start("d")
    world.show(world.view("abd", d="joining"), "abd")
    world.flow()
    world.show(world.view("abd"), "d")
    del world.nodes["a"]
    world.show(world.view("bd"), "bd")
    b = world.nodes["b"]
    word = d.core.next(b.me, world.now)
    assert word is not None and sum(len(unpack(slots)) for _, slots in word.asks) > SLOT_COUNT // 4
    d.core.failed(b.me, word.number, world.now)
    world.flow()
    world.check()


def test_a_live_activation_counts_for_more_than_one_that_was_sent_somewhere() -> None:
    world = Some("abc")
    a, b, c = (world.nodes[name] for name in "abc")
    one = next(one for n in range(99) if a.owner(one := ActorId(f"volatile/{n}")) == a.me)
    a.core.place(one, b.me, world.now)
    c.bear(one)
    world.flow()
    assert one in c.live
    world.check()


def test_an_owner_does_not_list_elsewhere_what_lives_with_it() -> None:
    world = Some("ab")
    a, b = world.nodes["a"], world.nodes["b"]
    one = next(one for n in range(99) if a.owner(one := ActorId(f"volatile/{n}")) == a.me)
    world.show(world.view("b"), "b")
    a.bear(one)
    b.bear(one)
    world.show(world.view("ab"), "b")
    world.flow()
    world.check()
    assert one in a.live


def test_slots_that_are_taken_back_are_checked() -> None:
    world = Some("abc")
    a, b = world.nodes["a"], world.nodes["b"]
    world.show(world.view("abc", c="leaving"), "abc")
    world.flow()
    world.show(world.view("abc"), "a")
    dead = [one for one in world.listed(a, b) if b.owner(one) == a.me] + [
        one for one in b.live if b.owner(one) == a.me and a.owner(one) != a.me
    ]
    assert dead
    b.die_all(dead)
    world.say("b", "a")  # they are frozen there
    world.show(world.view("abc", c="leaving"), "a")
    assert world.listed(a, b)
    word = a.core.next(b.me, world.now)  # nobody knows whether `c` ever had them
    assert word is not None and word.asks and a.core.questions.blocked > 0
    a.core.failed(b.me, word.number, world.now)
    world.flow()
    world.check()


def test_held_entries_are_checked_when_they_are_taken() -> None:
    world = Some("ab")
    c = world.start("c")
    world.show(world.view("abc", c="joining"), "abc")
    world.flow()
    world.show(world.view("abc"), "ab")
    world.say("a", "c")
    world.say("b", "c")
    assert c.core.early == 2
    for name in "ab":
        node = world.nodes[name]
        node.die_all([one for one in node.live if node.owner(one) == c.me])
        world.say(name, "c")
    world.show(world.view("abc"), "c")
    assert len(c.core.partition) > 0 and c.core.early == 0
    world.flow()
    world.check()


def test_an_entry_that_nobody_vouches_for_does_not_survive_a_handoff() -> None:
    world = Some("ab")
    a, b = world.nodes["a"], world.nodes["b"]
    world.show(world.view("ab", a="leaving"), "b")  # `b` takes over, `a` never notices
    world.flow()
    stale = next(one for n in range(99) if a.owner(one := ActorId(f"durable/stale-{n}")) == a.me)
    a.core.partition.register(stale, b.me)
    world.show(world.view("ab"), "b")
    world.flow()
    world.check()


def test_a_message_that_was_overtaken_is_refused() -> None:
    world = Some("ab")
    a, b = world.nodes["a"], world.nodes["b"]
    identity = ActorId("durable/late")
    while a.owner(identity) != b.me:
        identity = ActorId(identity + "x")
    a.bear(identity)
    first = a.core.next(b.me, world.now)
    assert first is not None and first.born == [identity]
    a.core.failed(b.me, first.number, world.now)
    a.die(identity)
    world.flow()
    with pytest.raises(Unavailable):
        b.core.receive(a.me, first, 100, world.now)
    old_run = NodeAddress(a.me.node, Incarnation(0))
    with pytest.raises(Unavailable):
        b.core.receive(old_run, Word(10_000, 0, [identity]), 100, world.now)
    world.check()


def test_an_answer_to_a_message_that_is_no_longer_under_way_counts_for_nothing() -> None:
    world = Some("ab")
    a, b = world.nodes["a"], world.nodes["b"]
    a.core.answered(b.me, 77, WordAnswer(0), world.now)
    a.core.failed(b.me, 77, world.now)
    a.core.answered(N3, 1, WordAnswer(0), world.now)
    world.check()


def test_refused_entries_are_told_again_to_whoever_owns_them_then() -> None:
    world = Some("ab")
    c = world.start("c")
    world.show(world.view("abc", c="joining"), "abc")
    world.flow()
    a = world.nodes["a"]
    world.show(world.view("abc"), "a")
    new = [ActorId(f"durable/new-{n}") for n in range(100)]
    mine = [one for one in new if a.owner(one) == c.me]
    for one in mine:
        a.bear(one)
    world.say("a", "c")  # refused: `c` does not know yet
    assert not any(c.core.partition.find(one) for one in mine)
    world.settle()
    assert all(c.core.partition.find(one) == a.me for one in mine)


def test_the_registered_copy_of_two_volatile_ones_stays() -> None:
    world = Some("abc")
    a, b = world.nodes["a"], world.nodes["b"]
    node = next(node for n in range(99) if a.owner(node := ActorId(f"volatile/{n}")) == world.nodes["c"].me)
    a.bear(node)
    world.flow()
    b.bear(node)
    world.flow()
    assert node in a.live and node not in b.live
    b.bear(node, moved=True)
    world.flow()
    assert node in b.live and node not in a.live
    world.check()


def test_the_owner_itself_gives_way_to_what_was_moved_and_wins_otherwise() -> None:
    world = Some("ab")
    a, b = world.nodes["a"], world.nodes["b"]
    one, other = [one for n in range(99) if a.owner(one := ActorId(f"volatile/{n}")) == a.me][:2]
    a.bear(one)
    b.bear(one)
    b.bear(other)
    world.flow()
    assert one in a.live and one not in b.live
    a.bear(other)  # although it is listed at `b`
    world.flow()
    assert other in a.live and other not in b.live
    b.bear(one, moved=True)
    world.flow()
    assert one in b.live and one not in a.live
    world.check()


# ---- what came early ------------------------------------------------------------------------------


def handoff(number: int, oldest: int = 1) -> Handoff:
    return Handoff(number, oldest, 0, pack(np.arange(10)), b"", [])


def test_held_handoffs_are_bounded_in_number_bytes_and_time() -> None:
    some = early.EarlyHandoffs(wait_s=1.0)
    assert some.hold(N1, handoff(1), early.MOST_BYTES - 10, 0.0)
    assert not some.hold(N2, handoff(2), 11, 0.0)
    assert some.hold(N1, handoff(1), 10, 0.0)  # the same again replaces it
    for number in range(2, early.MOST + 1):
        assert some.hold(N1, handoff(number), 10, 0.5)
    assert not some.hold(N1, handoff(early.MOST + 1), 10, 0.5)
    some.expire(1.2)
    assert len(some) == early.MOST - 1 and some.due() == 1.5
    some.expire(1.5)
    assert len(some) == 0 and some.due() is None


def test_handoffs_that_the_giver_no_longer_offers_are_dropped() -> None:
    some = early.EarlyHandoffs(wait_s=1.0)
    some.hold(N1, handoff(1), 10, 0.0)
    some.take(N1, handoff(2))
    assert some.was_taken(N1, handoff(2)) and not some.was_taken(N2, handoff(2))
    assert not some.was_taken(N1, handoff(3, oldest=3)) and len(some) == 0
    assert not some.was_taken(N1, handoff(2))
    some.hold(N1, handoff(5), 10, 0.0)
    assert [giver for giver, _ in some.ripe(lambda: np.ones(SLOT_COUNT, dtype=np.bool_))] == [N1]
    assert some.ripe(lambda: np.zeros(SLOT_COUNT, dtype=np.bool_)) == []
    some.keep(lambda giver: giver != N1)
    assert len(some) == 0


# ---- slots that settle ----------------------------------------------------------------------------

SLOTS = np.arange(100, 200)
INSIDE = next(one for n in range(10_000) if 100 <= slot(one := ActorId(f"near/{n}")) < 200)


def test_a_handoff_that_is_late_is_asked_for_and_nothing_blocks_for_ever() -> None:
    some = Questions(wait_s=1.0)
    some.expect(SLOTS, N1, 10.0)
    assert some.blocks(INSIDE) and some.due() == 10.5 and some.overdue(10.4) == []
    late = some.overdue(10.5)
    assert list(some.spread(late[0], [N1, N2])) == list(SLOTS)
    assert some.owed_by(N2).keys() == set(late) and some.overdue(10.9) == []
    some.answered(N1, late[0])
    assert some.blocks(INSIDE)
    assert some.overdue(11.0) == [] and not some.blocks(INSIDE) and some.open == 1
    assert list(some.unsure(SLOTS)) == list(SLOTS)
    some.answered(N2, late[0])
    assert some.open == 0 and some.due() is None and len(some.unsure(SLOTS)) == 0


def test_a_handoff_ends_what_was_awaited_from_its_giver_only() -> None:
    some = Questions(wait_s=1.0)
    some.expect(SLOTS, N1, 0.0)
    number = some.ask(SLOTS[:50], [N2], 0.0, blocks=True)
    assert len(some.handed_over(N2, SLOTS)) == 0
    assert list(some.handed_over(N1, np.arange(150, 300))) == list(range(150, 200))
    assert some.blocked == 50
    assert list(some.handed_over(N1, np.arange(150))) == list(range(100, 150))
    assert some.blocked == 50  # `N2` has not answered
    some.answered(N2, number)
    assert some.blocked == 0 and some.open == 0


def test_lost_slots_and_members_that_are_gone_end_what_was_awaited() -> None:
    some = Questions(wait_s=1.0)
    some.expect(SLOTS, N1, 0.0)
    number = some.ask(SLOTS, [N2, N3], 0.0, blocks=True)
    some.slots_lost(SLOTS[:90])
    assert some.blocked == 10
    late = some.member_left(N1)
    some.spread(late[0], [N2])
    assert some.member_left(N2) == [] and some.open == 1
    some.answered(N3, number)
    assert some.open == 0 and some.blocked == 0
    assert some.ask(SLOTS, [], 0.0, blocks=True) == some.ask(SLOTS[:0], [N1], 0.0, blocks=True) == 0


# ---- streams and bytes ----------------------------------------------------------------------------


def backoff(attempt: int) -> float:
    return min(1.0, 0.1 * 2.0**attempt)


def test_a_failed_message_is_said_again_with_what_has_changed_since() -> None:
    live = dict.fromkeys(IDS[:3])
    stream = Stream()
    for identity in IDS[:2]:
        stream.tell(identity, True)
    stream.tell(IDS[2], True, claim=True)
    stream.check(IDS[9], listed=True)
    stream.afresh = True
    first = stream.compose(1, 5, live.__contains__, N1, 0.0)
    assert (first.born, first.claimed, first.listed, first.afresh) == (IDS[:2], [IDS[2]], [IDS[9]], True)
    assert stream.due() is None
    del live[IDS[0]]
    stream.tell(IDS[0], False)
    stream.failed(10.0, backoff)
    assert stream.due() == 10.2
    second = stream.compose(2, 5, live.__contains__, N1, 10.2)
    assert (second.born, second.claimed, second.gone, second.listed) == ([IDS[1]], [IDS[2]], [IDS[0]], [IDS[9]])
    assert second.afresh
    stream.delivered(WordAnswer(5), 10.3, backoff)
    assert stream.empty


def test_a_message_carries_so_much_and_the_answer_to_a_question_comes_last() -> None:
    batch, stream = LIMITS.batch, Stream()
    for n in range(batch + 1):
        stream.tell(ActorId(f"near/{n}"), True)
    stream.told[3] = None
    first = stream.compose(1, 0, lambda _: True, N1, 0.0)
    assert len(first.born) == batch and first.told == []
    stream.delivered(WordAnswer(0), 0.0, backoff)
    assert stream.compose(2, 0, lambda _: True, N1, 0.0).told == [3]


def test_large_handoffs_are_cut_between_slots() -> None:
    batch = 500
    ids = [ActorId(f"near/{n}") for n in range(2 * batch + 5)]
    slots = np.array(sorted({slot(identity) for identity in ids}))
    cut = parts(slots, dict.fromkeys(ids, N1), batch)
    assert len(cut) == 3
    assert sorted(one for _, some in cut for one in some) == sorted(ids)
    assert [int(n) for inside, _ in cut for n in inside] == slots.tolist()
    assert all(slot(one) in set(inside.tolist()) for inside, some in cut for one in some)


@settings(max_examples=50, deadline=None)
@given(st.one_of(st.sets(st.integers(0, SLOT_COUNT - 1), max_size=50), st.builds(range, st.integers(0, SLOT_COUNT))))
def test_sets_of_slots_travel_in_at_most_8_kib(numbers: "set[int] | range") -> None:
    slots = np.array(sorted(numbers), dtype=np.intp)
    data = pack(slots)
    assert len(data) <= SLOT_COUNT // 8
    assert unpack(data).tolist() == slots.tolist()


@pytest.mark.parametrize("size", [1, 8_191, 8_194])
def test_malformed_sets_of_slots_are_refused(size: int) -> None:
    with pytest.raises(BadInput):
        unpack(bytes(size))
