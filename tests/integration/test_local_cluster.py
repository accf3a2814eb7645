"""The directory of a cluster of this machine's: what `garrison demo` and `garrison play` leave there."""

import os
import subprocess
import sys
from pathlib import Path

from server.cli.local_cluster import Home, LocalCluster, reserve


def modes(home: Home) -> dict[str, int]:
    return {file.name: file.stat().st_mode & 0o777 for file in (home.path, *home.path.iterdir())}


async def test_database_and_logs_are_for_their_user_alone(tmp_path: Path) -> None:
    """F60: whatever the mask of the shell, and what earlier versions have left."""
    home = Home(tmp_path / "demo")
    home.path.mkdir(mode=0o755)
    (home.path / "old.log").write_text("a token")
    before = os.umask(0o002)
    try:
        cluster = LocalCluster(home, 1, 0, ["journal.mode=none"])
        await cluster.prepare("demo")
        home.database.chmod(0o644)
        await cluster.prepare("demo")
        try:
            await cluster.start(lambda text: None)
            running = modes(home)
        finally:
            await cluster.stop()
    finally:
        os.umask(before)
    assert {"garrison.db", "garrison.db-wal", "node-1.log", "old.log", "signing.key", "garrison.toml"} <= set(running)
    assert running.pop("demo") == 0o700
    assert {name: oct(mode) for name, mode in running.items() if mode != 0o600} == {}


def test_ports_of_a_cluster_are_reserved_until_its_process_ends() -> None:
    """Nodes bind their ports later than they are found, so a second cluster would find the same ones free."""
    code = "from server.cli import local_cluster as c; print(*c.free_places(2)[1][1:5], flush=True); input()"
    command = (sys.executable, "-c", code)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        ports = [int(word) for word in other.stdout.readline().split()]
        assert len(ports) == 4
        assert not any(reserve(port) for port in ports)
        other.communicate("\n")
    assert all(reserve(port) for port in ports)
