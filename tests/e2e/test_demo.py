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


PLAIN = ("--upgrade-after", "0", "--set", "columns.enabled=false")
"""Of a demo that is about other things: without the upgrade, which a slow machine would reach, and without what a node
with columns starts beside itself."""


def demo(*arguments: str, cwd: Path, players: int = 16, speed: float = 200) -> Running:
    sizes = ("--players", str(players), "--speed", str(speed), "--status-every", "2")
    return Running("demo", "--json", "--port", "0", *sizes, *arguments, cwd=cwd)


def test_its_figures_and_the_upgrade_of_every_node(tmp_path: Path) -> None:
    with demo("--upgrade-after", "1", cwd=tmp_path, players=48, speed=90) as running:
        assert "garrison.db" in running.line("preparing")
        assert "http://127.0.0.1:" in running.line("dashboard")
        assert "48 bot players" in running.line("times faster")
        assert "90 times faster" in running.lines[-1]
        assert "0 sessions dropped" in running.line("upgraded 3 nodes")
        running.line(" 54 sessions")  # the players and six hosts
        over = running.line(" over: ")
        running.interrupt()
        figures = running.figures()
    assert list(figures) == FIGURES
    assert (figures["nodes"], figures["players"]) == (3, 48)
    assert figures["sessions"] > 48
    assert figures["heartbeats"] > 48
    assert figures["matches_ended"] > 0
    assert figures["replays_verified"] >= figures["matches_ended"]
    assert figures["match_events_stored"] >= figures["match_events_sent"] > 100
    assert figures["acknowledged_changes"] > 48
    assert figures["acknowledged_changes_lost"] == figures["differences"] == 0
    assert figures["ghosts"] == figures["unequal_friendships"] == 0
    assert (figures["friendships"], figures["watched"]) == (96, 192)  # two neighbours on either side
    assert figures["presence_changes"] > 192
    assert figures["parties"] == 3  # of six squads
    assert figures["party_joins"] >= 3
    assert (figures["nodes_upgraded"], figures["upgrade_sessions_dropped"]) == (3, 0)
    assert figures["upgrade_longest_pause_ms"] > 0

    assert "http://127.0.0.1:" in over and "/theatre" in over  # the dashboard's address, again, at the last match
    command, *arguments = over.split(" over: ")[1].split("   ")[0].split()
    assert command == "garrison"
    replayed = here(*arguments, cwd=tmp_path)  # the very command that it printed
    assert replayed.returncode == 0, replayed.stderr
    assert "the match is over" in replayed.stdout


def test_without_the_flush_at_stop_changes_are_lost_and_counted(tmp_path: Path) -> None:
    """Nothing is flushed while it runs either, so that every profile change is in memory only."""
    unflushed = ("--no-flush-at-stop", "--set", "store.flush_interval_s=3600")
    with demo(*unflushed, *PLAIN, cwd=tmp_path) as running:
        running.line(" over: ")  # however long the machine takes for it: everybody has changed something
        running.interrupt()
        figures = running.figures(codes=(1,))
    assert figures["acknowledged_changes_lost"] > 0
    said = (tmp_path / ".garrison/demo/audit.log").read_text()
    assert "lost from player/" in said
    assert "lost from match/" not in said  # logged events were stored before they were acknowledged


def test_a_killed_node_leaves_the_others_serving_and_is_started_again_with_what_is_printed(tmp_path: Path) -> None:
    """The node that is started again belongs to the demo (F45), which counts it and stops it."""
    with demo(*PLAIN, cwd=tmp_path, players=48) as running:
        first = running.line("dashboard")
        line = running.line("node-1     ws://")
        running.line(" over: ")
        os.kill(pid_in(line), signal.SIGKILL)
        assert "2 nodes still serve" in running.line("node-1 (pid")
        assert running.line("dashboard") != first
        for arguments in (("status",), ("matches", "--live")):  # they asked node-1 until now
            asked = here(*arguments, cwd=tmp_path)
            serving = "node-2" in asked.stdout or "node-3" in asked.stdout  # a node may have no match just now
            assert (asked.returncode, serving) == (0, True), (asked.stdout, asked.stderr)
        for _ in range(3):  # two seconds apart: at least some of these began after the kill
            running.line(" over: ")
        assert " 2 nodes · 54 sessions" in running.line(" 54 sessions")  # everybody is back, on two nodes
        command = shlex.split(line.partition("start it again: ")[2])
        asked = run_script(command, tmp_path)
        assert (asked.returncode, asked.stderr) == (0, "")
        assert "is back" in running.line("node-1 (pid")
        assert run_script(command, tmp_path).returncode == 0
        assert "is not started again" in running.line("node-1 runs")
        running.interrupt()
        figures = running.figures()
        assert none_left(tmp_path)
    assert (figures["nodes"], figures["acknowledged_changes_lost"]) == (3, 0)
    assert figures["replays_verified"] >= 7
    assert "lost from match/" not in (tmp_path / ".garrison/demo/audit.log").read_text()
    alone = run_script(command, tmp_path)
    assert alone.returncode == 1
    assert "nobody starts node-1 again" in alone.stderr


def run_script(command: list[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False, timeout=30)


def test_killing_every_node_blames_them_and_compares_all_the_same(tmp_path: Path) -> None:
    with demo(*PLAIN, cwd=tmp_path) as running:
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
    """The run that stops in order is the second one in its directory, after one that was broken off."""
    with demo(*PLAIN, cwd=tmp_path) as running:
        running.line("starting the bots")
        running.interrupt()
        running.line("once more to stop at once")
        running.interrupt()
        assert running.end(timeout_s=10) == (130, "")
        assert none_left(tmp_path)
    before = (tmp_path / ".garrison/demo/signing.key").read_text()
    with demo(*PLAIN, cwd=tmp_path) as running:
        running.line("starting the bots")
        running.line(" over: ")
        running.interrupt()
        running.line("once more to stop at once")
        running.line("stopping the bots")
        running.line("stopping the nodes")
        figures = running.figures()
        assert none_left(tmp_path)
    assert figures["acknowledged_changes_lost"] == 0
    assert figures["sessions"] > 0
    assert (tmp_path / ".garrison/demo/signing.key").read_text() == before


def test_ctrl_c_while_it_starts(tmp_path: Path) -> None:
    with demo("--fresh", *PLAIN, cwd=tmp_path) as running:
        running.line("starting node-1")
        running.interrupt()
        running.line("once more to stop at once")
        running.interrupt()
        assert running.end(timeout_s=30)[0] == 130
        assert none_left(tmp_path)
    settings = tomllib.loads((tmp_path / ".garrison/demo/garrison.toml").read_text())
    assert settings["cluster"] == "demo"
