"""The open facts of one activation, step by step."""

from server.activations.open_facts import OpenFacts
from server.actors.facts import Fact, FactDone, FactName, Stamp
from server.ids import ActorId


def gift(number: int) -> Fact:
    return Fact(FactName(ActorId("purse/p"), "take", Stamp(1, number)), (number,))


def told(facts: OpenFacts, now: float = 0.0) -> list[int]:
    """Numbers of the facts that are to be told now."""
    numbers = []
    while (fact := facts.begin(now)) is not None:
        numbers.append(fact.name.number.version)
    return numbers


def test_a_fact_waits_until_its_boundary_is_stored() -> None:
    facts = OpenFacts()
    facts.look([gift(1)], 5)
    facts.look([gift(1), gift(2)], 7)
    facts.stored(4)
    assert told(facts) == [] and facts.busy
    facts.stored(6)
    assert told(facts) == [1]
    facts.stored(7)
    assert told(facts) == [2]
    assert told(facts) == [], "each once while it is under way"


def test_a_fact_that_is_no_more_is_not_told() -> None:
    facts = OpenFacts()
    facts.look([gift(1), gift(2)], 1)
    facts.look([gift(2)], 2)
    facts.stored(2)
    assert told(facts) == [2]


def test_a_failed_fact_comes_again_at_its_time() -> None:
    facts = OpenFacts()
    facts.look([gift(1)], 1)
    facts.stored(1)
    name = gift(1).name
    assert told(facts) == [1]
    assert facts.failed(name) == 1
    facts.again(name, 3.0)
    assert (told(facts, 2.9), facts.next_at(), told(facts, 3.0)) == ([], 3.0, [1])
    assert facts.failed(name) == 2


def test_a_fact_that_is_over_is_reported_once_and_not_told_again_while_the_state_lists_it() -> None:
    facts = OpenFacts()
    facts.look([gift(1)], 1)
    facts.stored(1)
    assert told(facts) == [1]
    facts.over(FactDone(gift(1).name, "thanks"))
    facts.over(FactDone(gift(1).name, "thanks"))
    assert [done.answer for done in facts.done] == ["thanks"] and facts.busy
    facts.done.clear()
    assert not facts.busy
    facts.look([gift(1), gift(2)], 2)
    facts.stored(2)
    assert told(facts) == [2]


def test_an_answer_to_what_is_no_more_open_is_nothing_to_report() -> None:
    facts = OpenFacts()
    facts.look([gift(1)], 1)
    facts.stored(1)
    assert told(facts) == [1]
    facts.look([], 2)
    facts.over(FactDone(gift(1).name))
    assert facts.done == [] and not facts.busy and facts.failed(gift(1).name) == 0
