"""Each checker against a sound run, which it must pass, and a planted fault, which it must catch."""

from collections.abc import Callable

import pytest
from msgspec import msgpack
from msgspec.structs import replace

from game.messages import Accepted, Death, Joined, Kill, MatchJoin, MatchReport, Saved
from game.player.messages import ProfileSet
from game.player.state import PlayerState
from game.saved_commands import SavedCommand, SavedCommands
from server.ids import Incarnation, NodeAddress, NodeId
from server.wire.messages import Failed
from tests.sim import checkers
from tests.sim.history import (
    Answered,
    Asked,
    Connected,
    Excuse,
    History,
    NodeReport,
    Observation,
    Pushed,
    Saw,
    Served,
    Stored,
    StoredEvent,
    StoredState,
    Subscribed,
)

TOPIC = "match/m1"
KILL = Kill(1000, "a", "b")
DEATH = Death(1000, "b")
JOIN = ("a/1", 1)
REPORT = ("host/1", 7)
NAME = ("a/1", 2)
EVENTS = [msgpack.encode(event) for event in (Joined(0, "a", None), KILL, DEATH)]
STORED = Stored(
    logs={
        TOPIC: [StoredEvent(1, EVENTS[0], JOIN), StoredEvent(2, EVENTS[1], REPORT), StoredEvent(3, EVENTS[2], REPORT)]
    },
    states={"player/a": StoredState(5, ProfileSet(0, "a/1", 2, "Arbiter"))},
)


def _stream(client: str) -> History:
    return [
        Connected(at=0, client=client, session=f"s-{client}", node="n1", recovered=False),
        Subscribed(at=0, client=client, subscription=1, topic=TOPIC, from_seq=1),
        Pushed(at=1, client=client, session=f"s-{client}", seq=1),
        *(Saw(at=1, client=client, subscription=1, topic=TOPIC, seq=seq, event=EVENTS[seq - 1]) for seq in (1, 2)),
        Connected(at=2, client=client, session=f"s-{client}", node="n1", recovered=True),
        Pushed(at=2, client=client, session=f"s-{client}", seq=2),
        Saw(at=2, client=client, subscription=1, topic=TOPIC, seq=3, event=EVENTS[2]),
    ]


def _sound() -> History:
    return [
        *_stream("a"),
        *_stream("b"),
        Asked(at=3, client="a", request_id=1, request=MatchJoin(1, "1", 1, "m1"), command=JOIN),
        Answered(at=3, client="a", request_id=1, reply=Accepted(1, "m1", 1, 2)),
        Asked(at=4, client="host", request_id=1, request=_report(1), command=REPORT),
        Asked(at=5, client="host", request_id=2, request=_report(2), command=REPORT),
        Answered(at=5, client="host", request_id=2, reply=Accepted(2, "m1", 2, 4)),
        Asked(at=6, client="a", request_id=2, request=ProfileSet(2, "1", 2, "Arbiter"), command=NAME),
        Answered(at=6, client="a", request_id=2, reply=Saved(2, "player/a", 5)),
    ]


def _report(request_id: int) -> MatchReport:
    return MatchReport(request_id, "1", 7, "m1", [KILL, DEATH])


def _without(history: History, wrong: Callable[[Observation], bool]) -> History:
    return [item for item in history if not wrong(item)]


def _changed(history: History, which: Callable[[Observation], bool], **fields: object) -> History:
    """The history with `fields` replaced in the first observation that `which` picks."""
    place = next(place for place, item in enumerate(history) if which(item))
    return [*history[:place], replace(history[place], **fields), *history[place + 1 :]]


def _saw(client: str, seq: int) -> Callable[[Observation], bool]:
    return lambda item: isinstance(item, Saw) and item.client == client and item.seq == seq


def _answer(client: str, request_id: int) -> Callable[[Observation], bool]:
    return lambda item: isinstance(item, Answered) and item.client == client and item.request_id == request_id


def _log(*entries: StoredEvent) -> Stored:
    return STORED._replace(logs={TOPIC: list(entries)})


def test_a_sound_history_passes() -> None:
    assert checkers.check_history(_sound(), STORED, [TOPIC]) == []


def test_catches_two_contents_under_one_number() -> None:
    history = _changed(_sound(), _saw("b", 2), event=EVENTS[0])
    assert checkers.one_content_per_number(history)
    assert not checkers.one_content_per_number(_sound())


@pytest.mark.parametrize("fault", ["gap", "duplicate", "swapped", "no subscription"])
def test_catches_a_subscription_out_of_order(fault: str) -> None:
    history = _sound()
    place = next(place for place, item in enumerate(history) if _saw("a", 2)(item))
    if fault == "gap":
        del history[place]
    elif fault == "duplicate":
        history.insert(place, history[place])
    elif fault == "swapped":
        history[place - 1], history[place] = history[place], history[place - 1]
    else:
        history = _without(history, lambda item: isinstance(item, Subscribed))
    assert checkers.subscriptions_in_order(history)


def test_catches_a_watcher_that_lacks_the_end() -> None:
    history = _without(_sound(), _saw("b", 3))
    assert checkers.streams_complete(history, STORED, [TOPIC])
    assert not checkers.streams_complete(history, STORED, [])


def test_catches_an_event_seen_and_not_stored() -> None:
    assert checkers.seen_is_stored(_sound(), _log(*STORED.logs[TOPIC][:2]))
    assert checkers.seen_is_stored(_changed(_sound(), _saw("a", 3), event=EVENTS[0]), STORED)


def test_catches_a_log_with_a_gap() -> None:
    first, _, third = STORED.logs[TOPIC]
    assert checkers.logs_without_gap(_log(first, third))


def test_catches_a_second_answer_and_one_out_of_nowhere() -> None:
    extra = Answered(at=9, client="a", request_id=2, reply=Failed(2, "internal", ""))
    assert checkers.one_answer_each([*_sound(), extra])
    assert checkers.one_answer_each([*_sound(), replace(extra, request_id=99)])


def test_catches_a_lost_push() -> None:
    assert checkers.pushes_in_order(_without(_sound(), lambda item: isinstance(item, Pushed) and item.seq == 1))
    # The same pushes are right for a session that began anew.
    first_again = _changed(_sound(), lambda item: isinstance(item, Pushed) and item.seq == 2, seq=1)
    assert checkers.pushes_in_order(first_again)


@pytest.mark.parametrize(
    "stored",
    [
        _log(*STORED.logs[TOPIC][:2]),
        _log(*STORED.logs[TOPIC][:2], StoredEvent(3, EVENTS[2], ("other", 1))),
        STORED._replace(states={}),
        STORED._replace(states={"player/a": StoredState(4, None)}),
        STORED._replace(states={"player/a": StoredState(5, ProfileSet(0, "x", 1, "another"))}),
    ],
    ids=["event lost", "event of another", "state lost", "version lost", "version replaced"],
)
def test_catches_an_acknowledged_change_that_is_not_stored(stored: Stored) -> None:
    assert checkers.acknowledged_is_stored(_sound(), stored)


def test_only_what_was_in_the_memory_of_a_dead_node_is_excused() -> None:
    lost = STORED._replace(states={"player/a": StoredState(4, None)})
    assert not checkers.acknowledged_is_stored(_sound(), lost, [Excuse("player/a", 4, 5, until=6.4)])
    for excuse in (Excuse("player/a", 4, 5, 1.0), Excuse("player/a", 5, 9, 6.4), Excuse("player/b", 4, 5, 6.4)):
        assert checkers.acknowledged_is_stored(_sound(), lost, [excuse])
    assert checkers.acknowledged_is_stored(_sound(), _log(), [Excuse("match/m1", 0, 9, 9)])


@pytest.mark.parametrize("saved", [(), (SavedCommand(2, 4),), (SavedCommand(2, 5), SavedCommand(2, 6))])
def test_catches_a_change_that_is_no_ancestor_of_the_final_state(saved: tuple[SavedCommand, ...]) -> None:
    def stored(*commands: SavedCommand) -> Stored:
        state = PlayerState(display_name="Chief", answered={"1": SavedCommands(0, commands)})
        return STORED._replace(states={"player/a": StoredState(9, state)})

    assert checkers.acknowledged_is_stored(_sound(), stored(*saved))
    assert not checkers.acknowledged_is_stored(_sound(), stored(SavedCommand(2, 5)))


def test_catches_a_client_that_waits_after_all_faults() -> None:
    history = [*_sound(), Served(at=20, client="a", since=11)]
    assert checkers.served_promptly(history, since=10)
    assert not checkers.served_promptly(history, since=12)


def test_catches_a_command_answered_in_two_ways() -> None:
    again = [
        Asked(at=7, client="host", request_id=3, request=_report(3), command=REPORT),
        Answered(at=7, client="host", request_id=3, reply=Accepted(3, "m1", 4, 6)),
    ]
    assert checkers.same_command_same_answer([*_sound(), *again])


def test_catches_two_commands_under_one_version() -> None:
    again = [
        Asked(at=7, client="a", request_id=3, request=ProfileSet(3, "1", 3, "Chief"), command=("a/1", 3)),
        Answered(at=7, client="a", request_id=3, reply=Saved(3, "player/a", 5)),
    ]
    assert checkers.same_command_same_answer([*_sound(), *again])


@pytest.mark.parametrize("where", ["at once", "later"])
def test_catches_a_command_that_took_effect_twice(where: str) -> None:
    twice = list(STORED.logs[TOPIC])
    twice.insert(1 if where == "at once" else 3, StoredEvent(9, EVENTS[0], JOIN))
    assert checkers.commands_once(_sound(), _log(*twice))
    assert not checkers.commands_once(_sound(), STORED)


def test_a_report_may_hold_the_same_event_twice() -> None:
    report = MatchReport(1, "1", 7, "m1", [KILL, KILL])
    history: History = [Asked(at=4, client="host", request_id=1, request=report, command=REPORT)]
    twice = [StoredEvent(1, EVENTS[1], REPORT), StoredEvent(2, EVENTS[1], REPORT)]
    assert not checkers.commands_once(history, _log(*twice))
    assert checkers.commands_once(history, _log(*twice, StoredEvent(3, EVENTS[1], REPORT)))


# ---- the cluster -------------------------------------------------------------------------------

N1, N2 = (NodeAddress(NodeId(name), Incarnation(number)) for name, number in (("n1", 1), ("n2", 2)))


def _nodes() -> list[NodeReport]:
    slots: dict[int, NodeAddress | None] = {0: N1, 1: N2}
    owners: dict[str, NodeAddress | None] = {"player/a": N1, "match/m1": N1}
    return [
        NodeReport(N1, 77, [N1, N2], slots, owners, {"match/m1": N2}, ["player/a"]),
        NodeReport(N2, 77, [N1, N2], slots, owners, {}, ["match/m1"]),
    ]


def test_a_sound_cluster_passes() -> None:
    assert checkers.check_cluster(_nodes()) == []


@pytest.mark.parametrize(
    "fault",
    [{"digest": 78}, {"slots": {0: N1, 1: N1}}, {"members": [N1, N2, NodeAddress(NodeId("n3"), Incarnation(3))]}],
)
def test_catches_views_that_differ(fault: dict[str, object]) -> None:
    first, second = _nodes()
    assert checkers.views_equal([first, second._replace(**fault)])  # type: ignore[arg-type]


def test_catches_a_slot_without_a_living_owner() -> None:
    first, second = _nodes()
    assert checkers.slots_owned([first])
    assert checkers.slots_owned([first, second._replace(slots={0: N1, 1: None})])


def test_catches_two_activations() -> None:
    first, second = _nodes()
    assert checkers.one_activation_each([first._replace(activations=["player/a", "match/m1"]), second])
    assert checkers.one_activation_each([first._replace(activations=["player/a", "player/a"]), second])


@pytest.mark.parametrize("fault", ["stale entry", "entry at the wrong node", "entry missing", "entry elsewhere"])
def test_catches_a_directory_that_is_wrong(fault: str) -> None:
    first, second = _nodes()
    if fault == "stale entry":
        second = second._replace(activations=[])
    elif fault == "entry at the wrong node":
        second = second._replace(directory={"match/m1": N2})
    elif fault == "entry missing":
        first = first._replace(directory={})
    else:
        first = first._replace(directory={"match/m1": N1})
    assert checkers.directory_true([first, second])
    assert not checkers.directory_true(_nodes())


def test_catches_a_task_left() -> None:
    assert checkers.none_left({"n1": ["n1:flush"], "n2": []})
    assert not checkers.none_left({"n1": [], "n2": []})
