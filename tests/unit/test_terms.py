"""Terms and foreign nodes (F1): whom a node takes for one of its cluster, and who gives way. Pure."""

from itertools import permutations

import msgspec
import pytest

from server.cluster.foreign import stand
from server.cluster.terms import TERMS, Terms, differences
from server.cluster.view import Member, MemberState
from server.ids import Incarnation, NodeId

A, B, NOT_TOLD = Terms(database="a" * 32 + ".1"), Terms(database="b" * 32 + ".1"), Terms()


def member(name: str, terms: Terms, state: MemberState = "up", since: int = 0) -> Member:
    return Member(NodeId(name), Incarnation(1), 4, state, "", "", "", terms=terms, since=since)


def refused(*heard: Member) -> list[str]:
    """Those of `heard` that do not serve, all of which hear the same."""
    return [me.node for me in heard if stand(me, heard).refused]


def test_every_term_is_a_field_with_a_letter_of_its_own() -> None:
    assert [term.field for term in TERMS] == [field.name for field in msgspec.structs.fields(Terms)]
    assert len({term.letter for term in TERMS} | set("vwstcalgb")) == len(TERMS) + 9


def test_a_term_that_is_not_told_is_not_different() -> None:
    assert differences(A, NOT_TOLD) == differences(NOT_TOLD, B) == differences(A, A) == []
    assert [term.field for term in differences(A, B)] == ["database"]
    assert refused(member("n1", A), member("old", NOT_TOLD), member("n2", A)) == []


def test_a_newcomer_with_another_database_refuses_itself_and_members_take_no_notice() -> None:
    n1, n2, late = member("n1", A), member("n2", A), member("late", B, "joining")
    assert refused(n1, n2, late) == ["late"]
    at_n1 = stand(n1, (n1, n2, late))
    assert (at_n1.own, at_n1.foreign) == ((n1, n2), (late,))
    told, ignored = stand(late, (n1, n2, late)).refused, at_n1.ignored
    for line in (told, ignored):
        assert "\n" not in line and A.database in line and B.database in line and "late" in line and "n1" in line
    assert "does not serve" in told and "is ignored" in ignored and "store.url" in told


@pytest.mark.parametrize("newcomers", range(1, 5))
def test_newcomers_however_many_stop_nobody_that_serves(newcomers: int) -> None:
    late = [member(f"late{n}", A, "joining") for n in range(newcomers)]
    assert refused(member("old", B, since=100), *late) == [one.node for one in late]


def test_one_database_goes_on_of_nodes_that_start_at_once() -> None:
    for heard in permutations([member("n1", B, "joining"), member("n2", A, "joining"), member("n3", B, "joining")]):
        assert sorted(refused(*heard)) == ["n1", "n3"]


def test_a_newcomer_of_the_group_that_serves_comes_up_beside_foreign_ones() -> None:
    assert refused(member("n1", B), member("n2", A, "joining"), member("n3", B, "joining")) == ["n2"]


def test_the_larger_of_two_groups_that_serve_goes_on_then_the_older_then_the_first() -> None:
    assert refused(member("n1", A, since=1), member("n2", B, since=9), member("n3", B, since=9)) == ["n1"]
    assert refused(member("n1", A, since=9), member("n2", B, since=1)) == ["n1"]
    assert refused(member("n1", A, since=5), member("n2", B, since=5)) == ["n2"]
    assert refused(member("n1", A), member("n2", B, since=5)) == ["n1"], "who does not say since when is younger"


def test_one_of_three_groups_goes_on() -> None:
    third = Terms(database="c" * 32 + ".1")
    heard = [member("n1", A), member("n2", B), member("n3", B), member("n4", third), member("n5", third, "joining")]
    assert refused(*heard) == ["n1", "n4", "n5"]


def test_a_restored_database_is_another_one() -> None:
    """Its nodes do not mix with those that still run on it as it was."""
    assert differences(A, Terms(database="a" * 32 + ".2"))
