"""Terms and foreign nodes (F1): whom a node takes for one of its cluster, and who gives way. Pure."""

from itertools import permutations

import msgspec
import pytest

from server.cluster.foreign import stand
from server.cluster.terms import TERMS, TOLD, Terms, differences, from_meta, text_of, to_meta
from server.cluster.view import Member, MemberState
from server.ids import Incarnation, NodeId

A, B, NOT_TOLD = Terms(database="a" * 32 + ".1"), Terms(database="b" * 32 + ".1"), Terms()


def member(name: str, terms: Terms, state: MemberState = "up", since: int = 0) -> Member:
    return Member(NodeId(name), Incarnation(1), 4, state, "", "", "", terms=terms, since=since)


def refused(*heard: Member) -> list[str]:
    """Those of `heard` that do not serve, all of which hear the same."""
    return [me.node for me in heard if stand(me, heard).refused]


def test_every_term_is_a_field_with_a_letter_of_its_own() -> None:
    every = (*TERMS, *TOLD)
    assert [term.field for term in every] == [field.name for field in msgspec.structs.fields(Terms)]
    assert len({term.letter for term in every} | set("vwstcalgb")) == len(every) + 9


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


def test_a_newcomer_of_another_app_refuses_itself() -> None:
    """F62."""
    game, shop = (Terms(database=A.database, app=app) for app in ("game", "shop"))
    n1, n2, late = member("n1", game), member("n2", game), member("late", shop, "joining")
    assert refused(n1, n2, late) == ["late"]
    assert "late on app shop (here n1 on game)" in stand(n1, (n1, n2, late)).ignored
    told = stand(late, (n1, n2, late)).refused
    assert "n1, n2 on app game (here late on shop)" in told and "--app" in told and "\n" not in told


def test_every_term_travels() -> None:
    told = Terms(*(f"{field}-1" for field in Terms.__struct_fields__))
    assert from_meta(to_meta(told)) == told
    assert from_meta({}) == Terms()


def test_names_of_any_form_become_terms() -> None:
    assert text_of("game") == "game"
    for odd in ("", "a game", "x" * 65, "spïel", "a\nb"):
        assert from_meta({"n": text_of(odd)}).app == text_of(odd) != odd
    assert text_of("a game") != text_of("a-game ")
