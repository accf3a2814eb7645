"""What a chaos run computes: times to recovery from gaps, its plan, its counters."""

from itertools import islice
from pathlib import Path

import pytest

from garrison.messages import Accepted, Saved
from garrison_bots.ledger import Ledger
from server.cli.chaos.figures import Gap, Gaps, Struck, percentile, recovery
from server.cli.chaos.nodes import Counters, fenced_writes
from server.cli.chaos.plan import KINDS, NETWORK_KINDS, SECONDS, plan

P, Q, M = "player/p", "player/q", "match/m"


def told(*gaps: tuple[str, float, float], now: float = 100.0, quiet: tuple[str, ...] = ()) -> Gaps:
    made = Gaps(0.25)
    for gap in gaps:
        made.add(Gap(*gap))
    made.heard(now, [P, Q, M], quiet)
    return made


def test_the_gap_that_lies_over_a_fault_is_its_time() -> None:
    gaps = told((P, 9.9, 12.0), (Q, 10.1, 11.0), (Q, 20.0, 30.0), (M, 2.0, 3.0))
    assert gaps.back_after(P, 10.0) == pytest.approx(2.0)
    assert gaps.back_after(Q, 10.0) == pytest.approx(1.0)  # an answer came in just after it
    assert gaps.back_after(M, 10.0) == 0.25  # it was never late, by more than that


def test_who_still_waits_is_not_back() -> None:
    assert told(now=11.0, quiet=(P,)).back_after(P, 10.0) is None
    assert told(now=10.5).back_after(P, 10.0) is None  # too early to say


def test_times_stay_as_they_were_first_known() -> None:
    gaps = told((P, 9.9, 12.0))
    struck = Struck("kill", "node-1", 10.0, (M, P, Q))
    assert struck.waiting(gaps) == 0
    gaps.heard(200.0, [], [P, Q, M])  # the probes have ended
    assert struck.waiting(gaps) == 0
    found = recovery([struck], 300.0)
    assert found == {
        "median": 0.25, "max": 2.0, "count": 3,
        "matches": {"median": 0.25, "max": 0.25, "count": 1},
        "players": {"median": 1.125, "max": 2.0, "count": 2},
    }  # fmt: skip


def test_what_never_came_back_counts_until_the_end() -> None:
    gaps = told(now=50.0, quiet=(P,))
    struck = Struck("kill", "node-1", 10.0, (P,))
    assert struck.waiting(gaps) == 1
    assert struck.times(60.0) == {"player": [50.0]}
    assert recovery([], 60.0) is None


def test_lengths_and_percentiles() -> None:
    gaps = told((P, 1.0, 1.3), (P, 2.0, 4.0), (Q, 3.0, 3.6))
    assert gaps.lengths(0.5) == pytest.approx([0.6, 2.0])
    assert (percentile([1.0, 2.0, 3.0], 0.5), percentile([1.0, 2.0], 1.0), percentile([], 0.5)) == (2.0, 2.0, 0.0)


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
