"""`garrison chaos`: real processes are killed, stopped and cut off, and nothing is left behind."""

import signal
from pathlib import Path
from typing import Any

import pytest

from server.lab.chaos.network import why_not
from tests.support.program import Running, here, none_left

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FIGURES = [
    "seconds", "seed", "nodes", "players", "store", "journal", "network", "faults", "failover_s", "partition_s",
    "recovery_s", "never_served", "unavailability_s", "acknowledged_changes", "acknowledged_changes_lost",
    "differences", "pictures_compared", "wrong_pictures", "longest_unknown_s", "ghosts", "unequal_friendships",
    "accepted_writes", "double_writers", "fenced_writes", "upgrades", "connections_lost", "sessions_dropped",
    "sessions_resumed", "stream_faults", "matches_ended", "replays_verified", "takeovers", "migrations",
    "client_errors", "crashes", "unsettled",
]  # fmt: skip
SHARED_MEMORY = Path("/dev/shm")


def chaos(*arguments: str, cwd: Path, count: int) -> Running:
    return Running("chaos", "--json", "--players", "16", "--count", str(count), "--seed", "1", *arguments, cwd=cwd)


def journals(running: Running) -> list[str]:
    """Journals in shared memory of the nodes that this command started."""
    return sorted(place.name for place in SHARED_MEMORY.glob(f"garrison-chaos-*-{running.process.pid}"))


def check(figures: dict[str, Any], *kinds: str) -> None:
    assert list(figures) == FIGURES
    assert set(figures["faults"]) == set(kinds)
    assert figures["double_writers"] == figures["connections_lost"] == 0
    assert figures["never_served"] == figures["crashes"] == figures["stream_faults"] == figures["unsettled"] == 0
    assert figures["differences"] == 0
    assert figures["pictures_compared"] >= 16 * 4 * sum(figures["faults"].values())
    assert figures["wrong_pictures"] == 0
    assert figures["ghosts"] == figures["unequal_friendships"] == 0
    assert figures["accepted_writes"] > 100
    assert figures["acknowledged_changes"] > 200


def test_one_writer_and_nothing_lost_with_a_local_journal(tmp_path: Path) -> None:
    kinds = ("kill", "stop") if why_not(4) else ("kill", "partition", "stop")
    with chaos("--faults", ",".join(kinds), cwd=tmp_path, count=len(kinds)) as running:
        running.line("probes live there")
        running.line("all served again")
        figures = running.figures(timeout_s=150)
    check(figures, *kinds)
    assert figures["acknowledged_changes_lost"] == 0
    failover = figures["failover_s"]
    assert 0 < failover["median"] <= failover["max"]
    assert failover["count"] == sum(failover[kind]["count"] for kind in ("matches", "players") if kind in failover)
    assert figures["recovery_s"]["stop"]["count"] > 0
    assert (figures["network"] == "namespaces") == (figures["partition_s"] is not None) == ("partition" in kinds)
    assert figures["sessions_dropped"] + figures["sessions_resumed"] > 0
    assert journals(running) == []
    assert none_left(tmp_path)


def test_without_a_journal_a_kill_loses_what_was_not_stored(tmp_path: Path) -> None:
    slow = ("--set", "store.flush_interval_s=4")  # so that there is always something to lose
    with chaos("--faults", "kill", "--journal", "none", *slow, cwd=tmp_path, count=1) as running:
        figures = running.figures(timeout_s=120)
        assert any(line.startswith("lost from player/") for line in running.lines)
    check(figures, "kill")
    assert figures["acknowledged_changes_lost"] > 0


def test_ctrl_c_in_the_middle_of_a_pause_leaves_nothing(tmp_path: Path) -> None:
    with chaos("--faults", "pause", cwd=tmp_path, count=9) as running:
        running.line("pause node-")
        running.interrupt()
        running.line("once more to stop at once")
        running.interrupt()
        assert running.end(timeout_s=20) == (130, "")
        assert none_left(tmp_path)
    assert journals(running) == []


def test_killing_the_parent_takes_its_nodes_along(tmp_path: Path) -> None:
    with chaos("--faults", "pause", cwd=tmp_path, count=9) as running:
        running.line("pause node-")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(10)
        assert none_left(tmp_path)


def test_impossible_faults_are_refused(tmp_path: Path) -> None:
    for arguments, why in (
        (("--faults", "flood"), "no fault 'flood'"),
        (("--faults", "loss", "--no-namespaces"), "loss cannot be done: --no-namespaces was given"),
        (("--faults", ","), "',' names none"),
        (("--set", "journal.mode=none"), "journal.mode: say --journal none, local or redis"),
        (("--set", "store.lease_perod_s=1"), "lease_perod_s"),
    ):
        done = here("chaos", *arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert why in done.stderr
