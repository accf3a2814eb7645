"""A session's transfer without any node: the sender's phases and effects, the receiver's decisions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ids import Incarnation, NodeAddress, NodeId
from server.runtime.phases import IllegalTransition
from server.sessions.end_reasons import (
    ENDED_CLOSED,
    ENDED_DISMISSED,
    ENDED_MOVED,
    ENDED_REPLACED,
    ENDED_STOPPING,
    Ending,
)
from server.sessions.transfer import (
    TRANSFER,
    ArrivalFacts,
    Attempts,
    Departed,
    EndHere,
    ForgetThere,
    GoOn,
    JoinLine,
    Reclaim,
    Reclaimed,
    Reclaims,
    Release,
    Target,
    TellClient,
    Transfer,
    admit,
    heed_reclaim,
)
from server.sessions.transfer_frames import INSTALLED, REFUSED, REPLACED
from server.wire.messages import CloseCode, Going

A, B = (NodeAddress(NodeId(name), Incarnation(1)) for name in ("a", "b"))
PUSH = Going(0, "ws://x", 1)


def shipped(going: bytes = b"going") -> Transfer:
    """A transfer to A that is packed and on its way."""
    transfer = Transfer("p", Target(A, "ws://a"))
    assert transfer.join_line() == (JoinLine(A, None),)
    assert transfer.at_head(A) == "pack"
    transfer.freeze([("ledger/f", 3)], going)
    return transfer


def test_an_arrived_session_is_released_and_its_client_told_with_the_late_pushes_behind_it() -> None:
    transfer = shipped()
    assert transfer.keep(PUSH, 1) and not transfer.keep(PUSH, 1)
    effects = transfer.answered(INSTALLED, ended=False, attached=True)
    assert effects == (Departed(A, (PUSH,)), Release(), TellClient(b"going"))
    assert (transfer.phase, transfer.late) == ("arrived", [])
    assert transfer.answered(REFUSED, ended=False, attached=True) == ()  # a repeated shipment's answer


def test_nobody_is_told_of_the_arrival_of_a_session_without_a_connection() -> None:
    assert shipped().answered(INSTALLED, ended=False, attached=False)[1:] == (Release(), EndHere(ENDED_MOVED))


def test_a_client_that_fetched_its_session_is_not_told_to_go() -> None:
    transfer = Transfer("p", Target(A, "ws://a"))
    assert transfer.pull(Target(B, "ws://b")) == (JoinLine(B, None),)
    assert transfer.at_head(B) == "pack"
    transfer.freeze([], b"")
    (_, _, end) = transfer.answered(INSTALLED, ended=False, attached=True)
    assert isinstance(end, EndHere) and end.code == CloseCode.MOVED


@pytest.mark.parametrize("why", [ENDED_CLOSED, ENDED_STOPPING])
@pytest.mark.parametrize("late", [False, True])
def test_a_session_that_ends_on_its_way_ends_there_too_unless_only_this_node_stops(why: str, late: bool) -> None:
    transfer = shipped()
    if late:
        transfer.answered(INSTALLED, ended=False, attached=True)
        effects = transfer.session_ended(Ending(why))
    else:
        assert transfer.session_ended(Ending(why)) == ()  # where it is, is not known yet
        _, *rest = transfer.answered(INSTALLED, ended=True, attached=False)
        effects = tuple(rest)
    assert effects == ((ForgetThere(A, Ending(why)),) if why == ENDED_CLOSED else ())


def test_a_refused_session_thaws_with_what_it_watched_and_the_late_pushes() -> None:
    transfer = shipped()
    transfer.keep(PUSH, 9)
    assert transfer.answered(REFUSED, ended=False, attached=True) == (GoOn([("ledger/f", 3)], (PUSH,), stay=False),)
    assert (transfer.phase, transfer.frozen) == ("returned", False)


@pytest.mark.parametrize("going", [b"", b"going"])
def test_a_lost_receiver_is_remembered_and_a_client_that_was_packed_a_going_is_told_to_stay(going: bytes) -> None:
    reclaim, go_on = shipped(going).lost(ended=False)
    assert reclaim == Reclaim(A)
    assert isinstance(go_on, GoOn) and go_on.stay is bool(going)
    assert shipped().lost(ended=True) == (Reclaim(A),)


def test_a_session_that_is_replaced_there_ends_here() -> None:
    (end,) = shipped().answered(REPLACED, ended=False, attached=True)
    assert isinstance(end, EndHere) and end.why == ENDED_REPLACED


def test_a_retargeted_session_changes_its_line_when_its_turn_comes() -> None:
    transfer = Transfer("p", Target(A, "ws://a"))
    transfer.join_line()
    transfer.retarget(Target(B, "ws://b"))
    assert transfer.at_head(A) == "elsewhere"
    assert transfer.join_line() == (JoinLine(B, None),)
    assert transfer.at_head(A) == "not here"
    assert transfer.pull(Target(A, "ws://a")) == (JoinLine(A, B),)
    transfer.call_off()
    assert transfer.at_head(A) == "not here"


def test_an_illegal_transition_tells_the_story() -> None:
    transfer = Transfer("player-7 s1", Target(A, "ws://a"))
    transfer.join_line()
    transfer.call_off()
    with pytest.raises(IllegalTransition, match=r"player-7 s1: off -> queued.*due -> queued -> off"):
        transfer.join_line()
    TRANSFER.refused.clear()


EVENTS = st.sampled_from(["installed", "refused", "replaced", "lost", "given up", "ended", "push", "back"])


@given(st.lists(EVENTS, max_size=8))
def test_a_frozen_session_goes_on_in_one_place_and_each_late_push_goes_one_way(events: list[str]) -> None:
    transfer, ended, effects, pushed = shipped(), False, list[Any](), 0
    for event in events:
        if event == "push":
            if transfer.frozen and not ended:
                pushed += transfer.keep(PUSH, 99)
        elif event == "ended":
            if not ended:
                effects += transfer.session_ended(Ending(ENDED_CLOSED))
            ended = True
        elif event == "back":
            if transfer.phase == "shipping":
                effects += transfer.arrived(B, ended, True)
        elif event == "lost":
            effects += transfer.lost(ended)
        elif event == "given up":
            effects += transfer.given_up()
        else:
            verdict = {"installed": INSTALLED, "refused": REFUSED, "replaced": REPLACED}[event]
            effects += transfer.answered(verdict, ended, True)  # type: ignore[arg-type]
        ended = ended or any(isinstance(effect, EndHere) for effect in effects)
    kinds = [type(effect) for effect in effects]
    assert kinds.count(GoOn) + kinds.count(Departed) <= 1
    assert not (GoOn in kinds and Release in kinds)
    sent = sum(len(effect.late) for effect in effects if isinstance(effect, (GoOn, Departed)))
    assert sent + len(transfer.late) == pushed or (ended and sent == 0)
    assert transfer.phase in TRANSFER.phases


def facts(**known: Any) -> ArrivalFacts:
    whole = ArrivalFacts(moves=2, last_moves=0, here="none", fits=True, rival_moving=False, rival_stays=False)
    return whole._replace(**known)


@pytest.mark.parametrize(
    ("known", "verdict", "install", "here"),
    [
        ({}, INSTALLED, True, "keep"),
        ({"last_moves": 2}, INSTALLED, False, "keep"),
        ({"last_moves": 3, "here": "live"}, INSTALLED, False, "keep"),
        ({"here": "live"}, REPLACED, False, "keep"),
        ({"here": "moving"}, INSTALLED, True, "departed"),
        ({"here": "untouched"}, INSTALLED, True, "supersede"),
        ({"here": "moving", "fits": False}, REFUSED, False, "departed"),
        ({"fits": False}, REFUSED, False, "keep"),
        ({"rival_moving": True, "rival_stays": True}, REFUSED, False, "keep"),
        ({"rival_stays": True}, REPLACED, False, "keep"),
        ({"here": "untouched", "rival_stays": True}, REPLACED, False, "supersede"),
    ],
)
def test_an_arriving_session_is_admitted_by_a_table(
    known: dict[str, Any], verdict: int, install: bool, here: str
) -> None:
    assert tuple(admit(facts(**known))) == (verdict, install, here)


@pytest.mark.parametrize(
    ("here", "here_moves", "gone_moves", "verdict"),
    [
        ("none", 0, 0, "note"),
        ("none", 0, 5, "ignore"),
        ("none", 0, 4, "note"),
        ("untouched", 5, 0, "supersede"),
        ("untouched", 6, 0, "ignore"),
        ("moving", 5, 0, "ignore"),
        ("live", 5, 0, "ignore"),
    ],
)
def test_word_of_a_reclaim_ends_only_the_copy_that_nobody_has_touched(
    here: Any, here_moves: int, gone_moves: int, verdict: str
) -> None:
    assert heed_reclaim(5, here, here_moves, gone_moves) == verdict


def test_a_shipment_is_repeated_only_where_it_may_have_arrived() -> None:
    assert Attempts(10.0).failed(unknown=False, listed=True, now=0.0) == "refused"
    attempts = Attempts(10.0)
    assert attempts.failed(unknown=True, listed=True, now=1.0) == "again"
    assert attempts.failed(unknown=False, listed=True, now=2.0) == "again"  # the first may still be there
    assert attempts.failed(unknown=False, listed=True, now=10.0) == "given up"
    assert attempts.failed(unknown=False, listed=False, now=11.0) == "lost"


def test_a_reclaim_is_told_to_its_node_when_that_is_listed_until_it_has_heard() -> None:
    reclaims = Reclaims(bound=2)
    entry = Reclaimed("t1", A, 4, until=10.0)
    reclaims.note(entry)
    assert not reclaims.begin(entry, {B}) and reclaims.idle(5.0) == [entry]
    assert reclaims.begin(entry, {A}) and reclaims.idle(5.0) == []
    reclaims.heard(entry)
    assert len(reclaims) == 0
    for number in range(3):
        reclaims.note(Reclaimed(f"u{number}", A, 1, until=10.0))
    assert len(reclaims) == 2 and reclaims.idle(10.0) == [] and len(reclaims) == 0


def test_a_session_that_an_actor_ends_on_its_way_is_ended_there_at_once() -> None:
    """Its sender may be gone before it learns that the session has arrived. Other ends wait for that."""
    dismissal = Ending(ENDED_DISMISSED, 4012, "enough")
    transfer = shipped()
    assert transfer.session_ended(dismissal) == (ForgetThere(A, dismissal),)
    assert ForgetThere(A, dismissal) in transfer.answered(INSTALLED, ended=True, attached=False)
    other = shipped()
    assert other.session_ended(Ending(ENDED_CLOSED)) == ()
    assert ForgetThere(A, Ending(ENDED_CLOSED)) in other.answered(INSTALLED, ended=True, attached=False)
