"""What a chaos run computes: times to recovery from gaps, its plan, its counters."""

from itertools import islice
from pathlib import Path

import pytest

from garrison.messages import Accepted, Saved
from garrison_bots.ledger import Ledger
from server.lab.chaos.figures import Gap, Gaps, Struck, percentile, recovery
from server.lab.chaos.nodes import Counters, fenced_writes
from server.lab.chaos.plan import KINDS, NETWORK_KINDS, SECONDS, plan
from server.lab.chaos.run import BROKEN, is_good

P, Q, M = "player/p", "player/q", "match/m"


def told(*gaps: tuple[str, float, float], now: float = 100.0, quiet: dict[str, float] | None = None) -> Gaps:
    made = Gaps(0.25)
    for gap in gaps:
        made.add(Gap(*gap))
    made.heard(now, [P, Q, M], quiet or {})
    return made


def kill(*entities: str, at: float = 10.0, until: float = 50.0) -> Struck:
    return Struck("kill", "node-1", at, entities, until)


def test_the_gap_that_lies_over_a_fault_is_its_time() -> None:
    gaps = told((P, 9.9, 12.0), (Q, 10.1, 11.0), (M, 2.0, 3.0))
    assert kill(P, Q, M).waits(gaps) == pytest.approx({P: 2.0, Q: 0.9, M: 0.25})  # M: never late by more than that
    assert kill(P, Q, M).elsewhere(gaps) == {}


def test_a_gap_that_begins_late_into_a_fault_counts() -> None:
    gaps = told((P, 10.1, 10.4), (P, 13.0, 19.478))
    assert kill(P).waits(gaps) == pytest.approx({P: 6.478})


def test_an_actor_that_lived_elsewhere_counts_if_it_was_late() -> None:
    gaps = told((P, 9.9, 12.0), (Q, 12.0, 18.5), (M, 11.0, 11.3))
    struck = kill(P)
    assert struck.elsewhere(gaps) == pytest.approx({Q: 6.5})  # 0.3 s is no unavailability
    assert recovery([struck], gaps) == {
        "median": 4.25, "max": 6.5, "count": 2,
        "players": {"median": 4.25, "max": 6.5, "count": 2},
        "elsewhere": {"median": 6.5, "max": 6.5, "count": 1},
    }  # fmt: skip


def test_a_gap_belongs_to_the_last_fault_before_it() -> None:
    gaps = told((P, 19.9, 24.0), (Q, 8.0, 14.0), (M, 30.0, 31.0))
    first, second = kill(M, until=20.0), kill(at=20.0)
    assert first.waits(gaps) == {M: 0.25}
    assert first.elsewhere(gaps) == {}  # Q was late before, P only after the second one
    assert second.elsewhere(gaps) == pytest.approx({P: 4.0, M: 1.0})


def test_all_long_gaps_of_a_run_are_somebodys() -> None:
    gaps = told((P, 9.9, 12.0), (Q, 10.0, 13.0), (P, 21.0, 22.0), (M, 25.0, 30.0))
    faults = [kill(P, until=20.0), kill(M, at=20.0)]
    counted = [found for struck in faults for found in (struck.waits(gaps) | struck.elsewhere(gaps)).values()]
    assert (len(counted), max(counted)) == (len(gaps.lengths()), max(gaps.lengths()))


def test_an_actor_that_still_waits_is_not_back() -> None:
    assert kill(P).waiting(told(now=11.0, quiet={P: 9.9})) == 1
    assert kill(P).waiting(told(now=11.0, quiet={Q: 9.9})) == 1  # wherever it lives
    assert kill(P).waiting(told(now=10.5)) == 1  # too early to say
    assert kill(P).waiting(told((P, 9.9, 10.4), now=10.5)) == 0
    assert kill(P).waiting(told(now=11.0)) == 0


def test_an_actor_that_never_came_back_counts_until_the_end() -> None:
    gaps = told(now=60.0, quiet={P: 9.9, Q: 12.0})
    struck = kill(P, until=100.0)
    assert struck.waiting(gaps) == 2
    assert gaps.end() == 2
    gaps.add(Gap(Q, 12.0, 61.0))  # an answer after all: no second gap
    assert (struck.waits(gaps), struck.elsewhere(gaps)) == ({P: 50.0}, {Q: 49.0})
    assert len(gaps.lengths()) == 2
    assert recovery([], gaps) is None


def test_lengths_and_percentiles() -> None:
    gaps = told((P, 1.0, 1.3), (P, 2.0, 4.0), (Q, 3.0, 3.6))
    assert gaps.lengths() == pytest.approx([0.6, 2.0])
    assert (percentile([1.0, 2.0, 3.0], 0.5), percentile([1.0, 2.0], 1.0), percentile([], 0.5)) == (2.0, 2.0, 0.0)


@pytest.mark.parametrize("broken", BROKEN)
def test_figures_that_make_a_run_fail(broken: str) -> None:
    good = dict.fromkeys([*BROKEN, "acknowledged_changes_lost"], 0)
    assert {"differences", "double_writers", "wrong_pictures", "ghosts", "unequal_friendships"} <= set(BROKEN)
    assert is_good(good | {"journal": "local", "client_errors": 3})
    assert not is_good(good | {"journal": "local", broken: 1})
    assert is_good(good | {"journal": "none", "acknowledged_changes_lost": 5})
    assert not is_good(good | {"journal": "redis", "acknowledged_changes_lost": 5})


def test_a_seed_draws_the_same_faults_and_each_kind_once_a_round() -> None:
    kinds = (*KINDS, *NETWORK_KINDS)
    first = list(islice(plan(7, kinds), 4 * len(kinds)))
    assert first == list(islice(plan(7, kinds), 4 * len(kinds)))
    assert first != list(islice(plan(8, kinds), 4 * len(kinds)))
    for start in range(0, len(first), len(kinds)):
        assert sorted(fault.kind for fault in first[start : start + len(kinds)]) == sorted(kinds)
    assert all(SECONDS[fault.kind][0] <= fault.seconds <= SECONDS[fault.kind][1] for fault in first)


def test_counters_add_up_over_processes() -> None:
    counters = Counters()
    for node, value in (("node-1", 3.0), ("node-2", 1.0), ("node-1", 5.0), ("node-1", 2.0), ("node-2", 1.0)):
        counters.add(node, {"takeovers_total": value, "members": 3.0})
    assert counters["takeovers_total"] == 5 + 2 + 1
    assert counters["members"] == 0


def test_fenced_writes_are_counted_in_logs(tmp_path: Path) -> None:
    log = tmp_path / "node-1.log"
    log.write_text("x [error    ] activation fenced off  actor=player/p\nother\nx activation fenced off\n")
    assert fenced_writes([log, tmp_path / "node-2.log"]) == 2


def test_a_ledger_sees_versions_that_go_back() -> None:
    ledger = Ledger()
    for version in (5, 6, 9):
        ledger.saved(Saved(P, version), new=True)
    ledger.saved(Saved(P, 9))  # nothing was changed
    assert ledger.lost == 0
    ledger.saved(Saved(P, 7), new=True)  # 7, 8 and 9 were others
    assert (ledger.lost, ledger.entities[P]) == (3, 7)
    ledger.saved(Saved(P, 6))
    assert (ledger.lost, ledger.entities[P]) == (4, 6)
    ledger.undone(P, 2, "shows change 3 after 5")
    ledger.saved_anew(Saved(P, 4))
    ledger.accepted(Accepted("m", 1, 4))
    kept = ledger.to_json({})
    assert (kept["lost"], kept["changes"], kept["entities"], kept["matches"]) == (6, 8, {P: 4}, {"m": 4})
    assert len(kept["lost_from"]) == 3
