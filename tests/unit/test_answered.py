"""The lineage to forget: found at hand, and the one that looking at all of them finds (F28)."""

import random
from collections import Counter

import pytest

from game.match.answered import Answer, Answered, Answers
from server import states

MOST = 24


def least_missed(answered: dict[str, Answers]) -> str:
    """The rule in plain words: the oldest of the caller that has the most."""
    counts = Counter(name.partition("/")[0] for name in answered)
    most = max(counts.values())
    crowd = [name for name in answered if counts[name.partition("/")[0]] == most]
    return min(crowd, key=lambda name: answered[name].recent[-1].next_seq)


@pytest.mark.parametrize("seed", range(12))
def test_the_same_is_forgotten_as_when_all_are_looked_at(seed: int) -> None:
    """Also after a state was read again, after a turn that failed, and with callers of every sort."""
    rng = random.Random(seed)
    callers = [f"p{n}" for n in range(rng.choice([1, 3, 12, 40]))]
    found, expected = Answered(), dict[str, Answers]()
    kept = [(found, expected)]
    forgotten = 0
    for seq in range(1, 1_500):
        busy = rng.choice(callers[: rng.choice([1, 2, len(callers)])])
        lineage = rng.choice(sorted(expected)) if expected and rng.random() < 0.4 else f"{busy}/{rng.randrange(60)}"
        answers = Answers(0, (Answer(1, seq, seq + 1),))
        found, expected = found.set(lineage, answers), {**expected, lineage: answers}
        if len(expected) > MOST:
            victim = least_missed(expected)
            found = found.without_the_least_missed()
            expected = {name: answers for name, answers in expected.items() if name != victim}
            forgotten += 1
        assert found == expected, f"event {seq}"
        if rng.random() < 0.02:
            found = states.decoder(Answered)(states.encode_canonical(found))
        if rng.random() < 0.02:
            kept.append((found, expected))
        if rng.random() < 0.02:
            found, expected = rng.choice(kept)
    assert forgotten > 50


def test_the_order_does_not_grow_with_what_was_forgotten() -> None:
    found = Answered()
    for seq in range(1, 5_000):
        found = found.set(f"p{seq % 90}/{seq}", Answers(0, (Answer(1, seq, seq + 1),)))
        if len(found) > MOST:
            found = found.without_the_least_missed()
            assert found._order is not None and found._order.notes <= 4 * (MOST + 1) + MOST
