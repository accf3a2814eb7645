"""`garrison demo`: its figures, a killed node, Ctrl-C once and twice, and what is left behind."""

import os
import shlex
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.program import Running, environment, here, none_left

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

FIGURES = [
    "nodes", "players", "sessions", "heartbeats", "heartbeats_per_s", "match_events_sent", "match_events_stored",
    "matches_ended", "replays_verified", "acknowledged_changes", "acknowledged_changes_lost",
    "differences", "ghosts", "unequal_friendships", "friendships", "watched", "presence_changes", "parties",
    "party_joins", "nodes_upgraded", "upgrade_connections_closed", "upgrade_sessions_dropped",
    "upgrade_longest_pause_ms",
]  # fmt: skip


def demo(*arguments: str, cwd: Path, players: int = 48, speed: float = 200) -> Running:
    sizes = ("--players", str(players), "--speed", str(speed), "--status-every", "2")
    return Running("demo", "--json", "--port", "0", *sizes, *arguments, cwd=cwd)


def test_its_figures_and_a_second_run_in_the_same_directory(tmp_path: Path) -> None:
    with demo("--seconds", "10", cwd=tmp_path, players=120, speed=90) as running:
        assert "garrison.db" in running.line("preparing")
        assert "http://127.0.0.1:" in running.line("dashboard")
        assert "120 bot players" in running.line("times faster")
        assert "90 times faster" in running.lines[-1]
        over = running.line(" over: ")
        figures = running.figures()
    assert list(figures) == FIGURES
    assert (figures["nodes"], figures["players"], figures["sessions"]) == (3, 120, 135)
    assert figures["heartbeats"] > 120
    assert figures["matches_ended"] > 0
    assert figures["replays_verified"] >= figures["matches_ended"]
    assert figures["match_events_stored"] >= figures["match_events_sent"] > 100
    assert figures["acknowledged_changes"] > 120
    assert figures["acknowledged_changes_lost"] == figures["differences"] == 0
    assert figures["ghosts"] == figures["unequal_friendships"] == 0
    assert (figures["friendships"], figures["watched"]) == (240, 480)  # two neighbours on either side
    assert figures["presence_changes"] > 480
    assert figures["parties"] == 8  # of 15 squads
    assert figures["party_joins"] >= 8

    assert "http://127.0.0.1:" in over and "/theatre" in over  # the dashboard's address, again, at the last match
    command, *arguments = over.split(" over: ")[1].split("   ")[0].split()
    assert command == "garrison"
    replayed = here(*arguments, cwd=tmp_path)  # the very command that it printed
    assert replayed.returncode == 0, replayed.stderr
    assert "the match is over" in replayed.stdout

    before = (tmp_path / ".garrison/demo/signing.key").read_text()
    with demo("--seconds", "3", cwd=tmp_path) as running:
        again = running.figures()
    assert again["acknowledged_changes_lost"] == 0
    assert again["sessions"] > 0
    assert (tmp_path / ".garrison/demo/signing.key").read_text() == before


def test_without_the_flush_at_stop_changes_are_lost_and_counted(tmp_path: Path) -> None:
    """Nothing is flushed while it runs either, so that every profile change is in memory only."""
    with demo(
        "--seconds", "3", "--no-flush-at-stop", "--set", "store.flush_interval_s=3600", cwd=tmp_path, players=16
    ) as running:
        figures = running.figures(codes=(1,))
    assert figures["acknowledged_changes_lost"] > 0
    said = (tmp_path / ".garrison/demo/audit.log").read_text()
    assert "lost from player/" in said
    assert "lost from match/" not in said  # logged events were stored before they were acknowledged


def test_a_killed_node_leaves_the_others_serving(tmp_path: Path) -> None:
    with demo(cwd=tmp_path) as running:
        first = running.line("dashboard")
        pid = pid_in(running.line("node-1     ws://"))
        running.line(" over: ")
        os.kill(pid, signal.SIGKILL)
        assert "2 nodes still serve" in running.line("node-1 (pid")
        assert running.line("dashboard") != first
        for arguments in (("status",), ("matches", "--live")):  # they asked node-1 until now
            asked = here(*arguments, cwd=tmp_path)
            serving = "node-2" in asked.stdout or "node-3" in asked.stdout  # a node may have no match just now
            assert (asked.returncode, serving) == (0, True), (asked.stdout, asked.stderr)
        for _ in range(3):  # two seconds apart: at least some of these began after the kill
            running.line(" over: ")
        running.interrupt()
        figures = running.figures()
    assert figures["nodes"] == 2
    assert figures["sessions"] == 54  # everybody is back
    assert figures["replays_verified"] >= 7
    assert "lost from match/" not in (tmp_path / ".garrison/demo/audit.log").read_text()


def test_a_killed_node_is_started_again_with_what_is_printed(tmp_path: Path) -> None:
    """F45: it belongs to the demo, which counts it and stops it."""
    with demo(cwd=tmp_path, players=16) as running:
        line = running.line("node-2     ws://")
        running.line("starting the bots")
        os.kill(pid_in(line), signal.SIGKILL)
        running.line("node-2 (pid")
        command = shlex.split(line.partition("start it again: ")[2])
        asked = run_script(command, tmp_path)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert "is back" in running.line("node-2 (pid")
        assert run_script(command, tmp_path).returncode == 0
        assert "is not started again" in running.line("node-2 runs")
        running.interrupt()
        figures = running.figures()
        assert (figures["nodes"], figures["acknowledged_changes_lost"]) == (3, 0)
        assert none_left(tmp_path)
    alone = run_script(command, tmp_path)
    assert alone.returncode == 1
    assert "nobody starts node-2 again" in alone.stderr


def run_script(command: list[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=30)


def test_killing_every_node_blames_them_and_compares_all_the_same(tmp_path: Path) -> None:
    with demo(cwd=tmp_path, players=16) as running:
        pids = [pid_in(running.line(f"node-{number}     ws://")) for number in (1, 2, 3)]
        running.line(" over: ")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert ": signal 9" in running.line("no node is left (node-")
        figures = running.figures(codes=(0, 1))
    assert list(figures) == FIGURES
    assert figures["nodes"] == 0
    assert figures["matches_ended"] > 0
    assert figures["acknowledged_changes"] > 0
    assert none_left(tmp_path)


def pid_in(line: str) -> int:
    return int(line.partition("kill -9 ")[2].split()[0])


def test_ctrl_c_stops_in_order_and_a_second_one_at_once(tmp_path: Path) -> None:
    with demo(cwd=tmp_path, players=16) as running:
        running.line("starting the bots")
        running.line(" over: ")
        running.interrupt()
        running.line("once more to stop at once")
        running.line("stopping the bots")
        running.line("stopping the nodes")
        assert running.figures()["acknowledged_changes_lost"] == 0
        assert none_left(tmp_path)
    with demo(cwd=tmp_path, players=16) as running:
        running.line("starting the bots")
        running.interrupt()
        running.line("once more to stop at once")
        running.interrupt()
        assert running.end(timeout_s=10) == (130, "")
        assert none_left(tmp_path)


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    with demo("--fresh", cwd=tmp_path, players=16) as running:
        running.line("starting node-1")
        running.interrupt()
        running.line("once more to stop at once")
        running.interrupt()
        assert running.end(timeout_s=30)[0] == 130
        assert none_left(tmp_path)
    settings = tomllib.loads((tmp_path / ".garrison/demo/garrison.toml").read_text())
    assert settings["cluster"] == "demo"
