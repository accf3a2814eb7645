"""The answer to a hello, as a table: one row an outcome."""

import itertools

import pytest

from server.sessions.hello_rules import ROWS, Decision, Facts, decide


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        (Facts(), "open"),
        (Facts(over=True, home="elsewhere", resumable=True), "stopping"),
        (Facts(home="silent"), "wait for home"),
        (Facts(home="silent", leaving=True), "wait for home"),
        (Facts(home="silent", may_wait=False), "redirect"),
        (Facts(home="elsewhere"), "redirect"),
        (Facts(home="elsewhere", leaving=True), "redirect"),
        (Facts(home="elsewhere", resumable=True), "redirect"),
        (Facts(home="elsewhere", follows=False), "open"),
        (Facts(home="silent", follows=False), "open"),
        (Facts(home="elsewhere", follows=False, leaving=True), "leaving"),
        (Facts(leaving=True), "open"),
        (Facts(to_seek=True), "seek"),
        (Facts(to_seek=True, overtaken=True), "seek"),
        (Facts(home="elsewhere", to_seek=True), "redirect"),
        (Facts(overtaken=True), "replaced"),
        (Facts(overtaken=True, moving=True, resumable=True), "replaced"),
        (Facts(moving=True), "moving"),
        (Facts(moving=True, resumable=True), "moving"),
        (Facts(resumable=True), "resume"),
        (Facts(resumable=True, room=False), "resume"),
        (Facts(room=False), "full"),
    ],
)
def test_a_hello_is_answered_by_the_first_row_that_holds(facts: Facts, decision: Decision) -> None:
    assert decide(facts) == decision


def test_every_combination_of_facts_has_an_answer_and_every_row_answers_some() -> None:
    bools = [(False, True)] * 9
    answers = {
        decide(Facts(over, home, follows, may_wait, leaving, to_seek, overtaken, moving, resumable, room))
        for home in ("here", "elsewhere", "silent")
        for over, follows, may_wait, leaving, to_seek, overtaken, moving, resumable, room in itertools.product(*bools)
    }
    assert answers == {decision for _, decision in ROWS}


def test_nobody_is_let_in_by_a_node_that_is_over_and_nobody_is_resumed_while_it_moves() -> None:
    for resumable, room, to_seek in itertools.product((False, True), repeat=3):
        assert decide(Facts(over=True, resumable=resumable, room=room, to_seek=to_seek)) == "stopping"
        assert decide(Facts(moving=True, resumable=resumable, room=room)) == "moving"
