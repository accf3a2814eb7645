"""Entities that wait for a journal that is away (F2): asked for seldom, counted, named, and free at once."""

import random

import pytest

from server.admin.metrics import MetricsText
from server.errors import Unavailable
from server.ids import ActorId, Incarnation, NodeAddress, NodeId, actor_id
from server.liveness.ports import Estate
from server.runtime.metrics import Metrics
from server.storage.waiting import KEPT, MOST_S, MOST_TOLD_S, NAMED, TOLD_AFTER_S, Waiting


def dead(name: str, run: int = 1) -> Estate:
    return Estate(NodeAddress(NodeId(name), Incarnation(run)), f"local:{name}")


ONE, TWO = actor_id("player", "one"), actor_id("player", "two")
AWAY = dead("node-2", 5)


def asked_for(waiting: Waiting, identity: ActorId, length_s: float, step_s: float = 0.02) -> int:
    """Claims of an entity that is called every `step_s`."""
    claims = 0
    for tick in range(round(length_s / step_s)):
        try:
            waiting.check(identity, tick * step_s)
            claims += 1
            waiting.refuse(identity, AWAY.owner, tick * step_s)
        except Unavailable as error:
            assert error.retry_after_s is not None and 0 < error.retry_after_s <= MOST_TOLD_S
    return claims


def test_an_entity_that_is_called_all_the_time_is_claimed_seldom_and_not_in_step_with_others() -> None:
    waiting = Waiting(random.Random(1))
    waiting.follow([AWAY], 0.0)
    counts = [asked_for(waiting, actor_id("player", f"p{n}"), 60.0) for n in range(20)]
    assert min(counts) >= 60.0 / MOST_S and max(counts) <= 20
    assert len(set(counts)) > 1, "jitter"


def test_all_are_free_at_once_when_the_journal_is_closed() -> None:
    waiting = Waiting(random.Random(1))
    waiting.follow([AWAY], 0.0)
    for identity in (ONE, TWO):
        with pytest.raises(Unavailable, match=f"{identity} waits for the journal of node-2#5"):
            waiting.refuse(identity, AWAY.owner, 0.0)
    waiting.follow([AWAY], 1.0)
    with pytest.raises(Unavailable):
        waiting.check(ONE, 0.5)
    waiting.follow([], 0.6)
    waiting.check(ONE, 0.7)
    waiting.check(TWO, 0.7)
    assert (len(waiting), waiting.counts(0.7), waiting.sentence(0.7)) == (0, {}, "")


def test_an_owner_that_is_not_away_keeps_nothing_waiting() -> None:
    waiting = Waiting(random.Random(1))
    waiting.follow([AWAY], 0.0)
    waiting.refuse(ONE, dead("node-3").owner, 0.0)
    with pytest.raises(Unavailable):
        waiting.refuse(ONE, AWAY.owner, 0.0)
    waiting.forget(ONE)
    waiting.check(ONE, 0.0)
    assert len(waiting) == 0


def test_a_journal_that_is_away_is_told_once_something_waits_or_it_lasts() -> None:
    waiting = Waiting(random.Random(1))
    waiting.follow([AWAY], 0.0)
    assert waiting.sentence(TOLD_AFTER_S - 0.1) == "", "a node on its host may be reading it"
    assert "node-2#5 (its journal: local:node-2; actors called here that wait: 0)" in waiting.sentence(TOLD_AFTER_S)
    with pytest.raises(Unavailable):
        waiting.refuse(ONE, AWAY.owner, 0.0)
    said = waiting.sentence(0.1)
    assert "actors called here that wait: 1" in said and "garrison forget" in said


def test_many_runs_that_are_away_make_no_sentence_and_no_labels_without_end() -> None:
    waiting, metrics = Waiting(random.Random(1)), Metrics()
    waiting.follow([dead(f"node-{n}") for n in range(500)], 0.0)
    for n in range(500):
        with pytest.raises(Unavailable):
            waiting.refuse(actor_id("player", f"p{n}"), dead(f"node-{n}").owner, 0.0)
    metrics.waiting = waiting.counts(0.0)
    assert len(metrics.waiting) == NAMED + 1 and metrics.waiting["other"] == 500 - NAMED
    assert "and 492 more" in waiting.sentence(0.0) and len(waiting.sentence(0.0)) < 2_000
    lines = [line for line in MetricsText(metrics, "n1").render().decode().splitlines() if "garrison_waiting{" in line]
    assert len(lines) == NAMED + 1 and 'garrison_waiting{node="n1",run="other"} 492.0' in lines
    waiting.follow([], 1.0)
    metrics.waiting = waiting.counts(1.0)
    assert "garrison_waiting{" not in MetricsText(metrics, "n1").render().decode(), "who is gone leaves no label"


def test_no_more_entities_are_remembered_than_there_is_room_for() -> None:
    waiting = Waiting(random.Random(1))
    waiting.follow([AWAY], 0.0)
    for n in range(KEPT + 5):
        with pytest.raises(Unavailable):
            waiting.refuse(actor_id("player", f"p{n}"), AWAY.owner, 0.0)
    assert len(waiting) == KEPT
    waiting.check(actor_id("player", "p0"), 0.0)
