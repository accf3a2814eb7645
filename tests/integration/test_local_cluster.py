"""The directory of a cluster of this machine's: what `garrison demo` and `garrison play` leave there."""

import asyncio
import os
import random
import secrets
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from server.cli.local_cluster import Home, LocalCluster, reserve
from server.cluster.membership import KinshipMembership
from server.cluster.view import Member
from server.errors import Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings, TransportSettings
from server.transport.ports import Service
from server.transport.tcp import TcpTransport
from tests.support.local_clusters import local_cluster
from tests.support.program import garrison


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


async def test_another_process_without_the_clusters_key_is_no_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F51: it knows all addresses and speaks both languages."""
    async with local_cluster(tmp_path / "demo", "demo", monkeypatch, nodes=1) as cluster:
        ready = cluster.nodes[0].ready
        seed = f"gossip.seeds={ready['gossip']}"
        signing = f"security.signing_key={'k' * 32}"
        words = ("node", "--name", "stranger", "--set", seed, "--set", signing)
        started = await asyncio.to_thread(garrison, *words, cwd=tmp_path)
        assert (started.returncode, started.stdout) == (2, "")
        assert started.stderr.count("\n") == 1
        assert "security.cluster_key: is needed where nodes join each other (gossip.seeds is set)" in started.stderr

        key, supervisor = secrets.token_bytes(32), Supervisor("stranger")
        gossip = KinshipMembership(GossipSettings(seeds=[ready["gossip"]]), "demo", key, Metrics(), supervisor)
        links = TcpTransport(TransportSettings(), "demo", key, SystemClock(), Metrics(), supervisor, random.Random(1))
        me = NodeAddress(NodeId("stranger"), Incarnation(1))
        target = NodeAddress(NodeId("node-1"), Incarnation(ready["incarnation"]))
        try:
            await links.start(me)
            await gossip.start(Member(me.node, me.incarnation, 4, "up", links.endpoint, "", ""), lambda: None)
            links.set_peers({target: f"127.0.0.1:{cluster.places[0].transport}"})
            with pytest.raises(Unavailable, match="another cluster key"):
                await links.request(target, Service.CALL, b"a forged call", 5.0)
            await gossip.leave()
        finally:
            await gossip.close()
            await links.stop()
            await supervisor.stop()
        async with httpx.AsyncClient() as client:
            metrics = (await client.get(f"{ready['admin_url']}/metrics")).text
        assert 'garrison_members{node="node-1"} 1.0' in metrics
        assert cluster.nodes[0].running
        assert "stranger" not in cluster.home.log("node-1").read_text().replace("stranger@1 at", "")
