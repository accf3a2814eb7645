"""The journal in Redis: what only a real server, a broken line or a restart can show."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from server.errors import BadSetting, Unavailable
from server.ids import NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import JournalSettings
from server.storage.journal.redis import RedisJournal
from server.storage.journal.redis_names import parse_place
from server.storage.journal.redis_server import MAX_ID, check
from tests.support.journals import Entity, JournalRig, Process, run
from tests.support.redis_server import RedisServer, own_server
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

OWNER = run("node-1")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig("redis", tmp_path)
    yield rig
    await rig.close()


@pytest.fixture
def server() -> Any:
    server = own_server()
    server.start()
    yield server
    server.remove()


@contextlib.asynccontextmanager
async def rig_at(url: str, folder: Path, **settings: Any) -> AsyncIterator[JournalRig]:
    rig = JournalRig("redis", folder, url, redis_timeout_s=0.3, **settings)
    yield rig
    await rig.close()


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Any]:
    redis = Redis.from_url(url)
    try:
        yield redis
    finally:
        await redis.aclose()


def key(rig: JournalRig, process: Process, incarnation: int = 1) -> str:
    place = parse_place(process.journal.place)
    assert place is not None
    return f"garrison:{rig.cluster}:journal:node-1:{incarnation}:{place.run}"


async def test_a_sealed_stream_refuses_by_itself(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    Entity("a").change(owner.journal, 1)
    await rig.durable(owner, 1)
    await successor.journal.recover(OWNER, owner.journal.place)
    async with client(rig.settings.redis_url) as redis:
        stream = key(rig, owner)
        for identity in ("3-0", "*", "18446744073709551615-18446744073709551614"):
            with pytest.raises(ResponseError):
                await redis.execute_command("XADD", stream, "NOMKSTREAM", identity, "late", "x")
        await successor.journal.remove(OWNER, owner.journal.place)
        assert await redis.execute_command("XADD", stream, "NOMKSTREAM", "3-0", "late", "x") is None
        assert not await redis.exists(stream)


@pytest.mark.parametrize("how", ["sealed", "removed", "somebody else's entry"])
async def test_changes_that_wait_on_a_lost_stream_are_never_durable(rig: JournalRig, how: str) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    Entity("a").change(owner.journal, 1)
    await rig.durable(owner, 1)
    await successor.journal.recover(OWNER, owner.journal.place)
    async with client(rig.settings.redis_url) as redis:
        if how != "sealed":
            await redis.delete(key(rig, owner))
        if how == "somebody else's entry":
            await redis.execute_command("XADD", key(rig, owner), "77-0", "x", "y")
    for n in range(10):
        Entity(f"late{n}").change(owner.journal, 1)
    await until(lambda: owner.journal.broken)  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="adopted"):
        Entity("later").change(owner.journal, 1)
    assert len(owner.heard) == 1
    await owner.journal.open(run("node-1", 2))  # the node comes back as a new run
    assert not owner.journal.broken  # type: ignore[attr-defined]
    Entity("new").change(owner.journal, 1)
    await rig.durable(owner, 2)


async def test_one_loop_iteration_is_one_entry(rig: JournalRig) -> None:
    owner = await rig.process("node-1")
    async with client(rig.settings.redis_url) as redis:
        for n in range(500):
            Entity(f"p{n}").change(owner.journal, n)
        await rig.durable(owner, 500)
        assert await redis.xlen(key(rig, owner)) == 2  # it was opened, and these
        for n in range(2_000):
            Entity(f"p{n}").change(owner.journal, n)
            if n == 1_000:
                owner.journal.truncate(owner.journal.position)
                await rig.durable(owner, 1_501)
                await until(lambda: owner.metrics.journal_backlog_bytes == 0)  # there is no room for all of them
        await rig.durable(owner, 2_500)
        owner.journal.truncate(owner.journal.position)
        await until(lambda: owner.metrics.journal_backlog_bytes == 0)
        await owner.journal.close(keep=True)
        assert await redis.xlen(key(rig, owner)) == 1  # the newest stays, so that its number is known


async def test_a_restart_in_the_middle_loses_and_repeats_nothing(tmp_path: Path, server: RedisServer) -> None:
    async with rig_at(server.url, tmp_path, max_backlog_bytes=10_000_000) as rig:
        owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
        entity, expected = Entity("a"), 0
        for restart in (server.kill, server.stop, server.kill):
            for _ in range(100):
                entity.change(owner.journal, entity.version)
                if entity.version % 10 == 0:
                    await asyncio.sleep(0)
            restart()
            with contextlib.suppress(Unavailable):
                entity.change(owner.journal, entity.version)
            await until(lambda: _refuses(owner, entity))
            server.start()
            expected = entity.version
            await rig.durable(owner, expected)
            await until(lambda: not _refuses(owner, entity))
        await rig.durable(owner, entity.version)
        assert [version for _, version in owner.heard] == list(range(1, entity.version + 1))
        assert owner.metrics.journal_refused_total > 0
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert (recovered.newest[entity.id].version, recovered.damage) == (entity.version, [])


def _refuses(owner: Process, entity: Entity) -> bool:
    try:
        entity.change(owner.journal, entity.version)
    except Unavailable as error:
        assert "does not answer" in error.message
        return True
    return False


async def test_a_server_that_hangs_is_away_and_what_it_had_is_known_later(tmp_path: Path, server: RedisServer) -> None:
    async with rig_at(server.url, tmp_path) as rig:
        owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
        entity = Entity("a")
        assert server._process is not None
        server._process.send_signal(signal.SIGSTOP)
        entity.change(owner.journal, 0)
        await until(lambda: _refuses(owner, entity))
        with pytest.raises(Unavailable, match="does not answer"):
            await successor.journal.recover(OWNER, owner.journal.place)
        with pytest.raises(Unavailable, match="does not answer"):
            await successor.journal.remove(OWNER, owner.journal.place)
        assert owner.heard == []
        assert "does not answer" in (owner.journal.refusal or "")  # the node tells it (F37)
        server._process.send_signal(signal.SIGCONT)
        await rig.durable(owner, entity.version)
        await until(lambda: not _refuses(owner, entity))
        await rig.durable(owner, entity.version)
        assert [version for _, version in owner.heard] == list(range(1, entity.version + 1))
        assert (await successor.journal.recover(OWNER, owner.journal.place)).damage == []


class Line:
    """A proxy that passes commands on and may keep the answers, then break the connections. New
    ones lead to `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.deaf = False
        self.commands = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Line":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers += [writer, back]
        self._tasks += [asyncio.create_task(self._pass(reader, back, False))]
        self._tasks += [asyncio.create_task(self._pass(there, writer, True))]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if answers and self.deaf:
                    self.commands += 1
                    self.cut()
                    return
                writer.write(data)
        writer.close()

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()


async def test_an_entry_whose_answer_is_lost_is_not_added_twice(tmp_path: Path, server: RedisServer) -> None:
    async with Line(server.port) as line, rig_at(line.url, tmp_path) as rig, client(server.url) as redis:
        owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
        entity = Entity("a")
        for number in range(1, 6):
            line.deaf, line.commands = True, 0
            entity.change(owner.journal, 0)
            await until(lambda: line.commands >= 1)
            line.deaf = False
            await rig.durable(owner, number)
        assert [version for _, version in owner.heard] == [1, 2, 3, 4, 5]
        assert await redis.xlen(key(rig, owner)) == 6
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert (recovered.newest[entity.id].version, recovered.damage) == (5, [])


async def test_an_old_master_that_keeps_its_connections_is_left(tmp_path: Path, server: RedisServer) -> None:
    """As behind a name or a proxy that follows an orderly failover."""
    heir = own_server()
    heir.start()
    try:
        async with Line(server.port) as line, client(server.url) as old, client(heir.url) as new:
            rig = JournalRig("redis", tmp_path, line.url)
            owner, other = await rig.process("node-1"), await rig.process("node-3")
            successor = await rig.process("node-2", None)
            entity = Entity("a")
            entity.change(owner.journal, 1)
            await rig.durable(owner, 1)
            await new.execute_command("REPLICAOF", "127.0.0.1", str(server.port))
            await until(lambda: _has(new, key(rig, owner)))
            await new.execute_command("REPLICAOF", "NO", "ONE")
            await old.execute_command("REPLICAOF", "127.0.0.1", str(heir.port))
            line.port = heir.port
            entity.change(owner.journal, 2)
            await rig.durable(owner, 2)
            await other.journal.close(keep=False)
            assert len(await new.keys(f"garrison:{rig.cluster}:journal-removed:node-3:*")) == 1
            with pytest.raises(Unavailable, match="cannot be read"):
                await successor.journal.recover(OWNER, owner.journal.place)
            recovered = await successor.journal.recover(OWNER, owner.journal.place)
            assert (recovered.newest[entity.id].version, recovered.damage) == (2, [])
            await rig.close()
    finally:
        heir.remove()


async def _has(redis: Any, name: str) -> bool:
    return bool(await redis.exists(name)) and (await redis.info("replication"))["master_link_status"] == "up"


async def test_while_redis_is_away_nothing_queues_without_bound(tmp_path: Path, server: RedisServer) -> None:
    async with rig_at(server.url, tmp_path) as rig:
        owner = await rig.process("node-1")
        server.kill()
        with pytest.raises(Unavailable):
            for number in range(100_000):
                Entity("a").change(owner.journal, number, "n" * 1_000)
        assert owner.metrics.journal_backlog_bytes <= rig.settings.max_backlog_bytes
        place = owner.journal.place
        await owner.journal.close(keep=True)  # bounded, and it does not raise
        with pytest.raises(Unavailable, match="closed"):
            Entity("a").change(owner.journal, 1)
        with pytest.raises(Unavailable):
            await owner.journal.recover(OWNER, place)


async def test_a_redis_that_lost_its_data_is_found_out(tmp_path: Path, server: RedisServer) -> None:
    async with rig_at(server.url, tmp_path) as rig:
        owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
        entity = Entity("a")
        entity.change(owner.journal, 1)
        await rig.durable(owner, 1)
        server.forget()
        server.start()
        with contextlib.suppress(Unavailable):
            entity.change(owner.journal, 2)
        await until(lambda: owner.journal.broken)  # type: ignore[attr-defined]
        newcomer = await rig.process("node-3", None)
        for reader in (successor, newcomer):
            assert reader.journal.reads(owner.journal.place)
            recovered = await reader.journal.recover(OWNER, owner.journal.place)
            assert recovered.newest == {}
            assert "has lost its data" in recovered.damage[0]


async def test_one_redis_under_two_addresses_is_one(rig: JournalRig, tmp_path: Path) -> None:
    owner = await rig.process("node-1")
    Entity("a").change(owner.journal, 1)
    await rig.durable(owner, 1)
    other_name = rig.settings.redis_url.replace("127.0.0.1", "localhost")
    other = JournalRig("redis", tmp_path, other_name)
    other.cluster = rig.cluster
    successor = await other.process("node-2", None)
    assert successor.journal.reads(owner.journal.place)
    assert len((await successor.journal.recover(OWNER, owner.journal.place)).newest) == 1
    elsewhere = JournalRig("redis", tmp_path, other_name)  # another cluster
    stranger = await elsewhere.process("node-2", None)
    assert not stranger.journal.reads(owner.journal.place)
    await other.close()
    await elsewhere.close()


async def test_foreign_changes_to_the_stream_are_named(rig: JournalRig) -> None:
    owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
    entities = [Entity(f"p{n}") for n in range(5)]
    for number, entity in enumerate(entities):
        entity.change(owner.journal, number)
        await rig.durable(owner, number + 1)
    stream, place = key(rig, owner), owner.journal.place
    async with client(rig.settings.redis_url) as redis:
        await successor.journal.recover(OWNER, place)
        entries = await redis.xrange(stream)
        assert [identity for identity, _ in entries] == [b"1-0", b"2-0", b"3-0", b"4-0", b"5-0", b"6-0", MAX_ID]
        await redis.xdel(stream, "4-0")
        recovered = await successor.journal.recover(OWNER, place)
        assert recovered.damage[0].endswith("record 3 is missing")
        assert len(recovered.newest) == 4
        for offset in range(0, 60, 7):
            await redis.delete(stream)
            for identity, fields in entries:
                if identity == b"6-0":  # the last: it was acknowledged as well
                    (field, data), *_ = fields.items()
                    bad = bytearray(data)
                    bad[offset % len(data)] ^= 16
                    await redis.execute_command("XADD", stream, identity, field, bytes(bad))
                else:
                    await redis.xadd(stream, fields, id=identity)
            recovered = await successor.journal.recover(OWNER, place)
            assert recovered.damage[0].endswith("record 5 is missing")
            assert len(recovered.newest) == 4


def journal_at(url: str, timeout_s: float = 1.0) -> RedisJournal:
    settings = JournalSettings(redis_url=url, redis_timeout_s=timeout_s)
    return RedisJournal(settings, "test", NodeId("node-1"), Metrics(), Supervisor("x"), LoopClock(), random.Random(1))


@pytest.mark.parametrize(
    "url",
    [
        "http://h:secret@x",
        "redis://:secret@h:port/0",
        "",
        "secret",
        "redis://:secret@h:99999999/0",
        "redis://:secret@h/0?secret=1",
        "redis://:secret@a..b/0",
        "redis://:secret@h/0?protocol=9",
        "redis://:secret@h/0?retry=3",
    ],
)
async def test_a_bad_address_is_a_bad_setting_without_the_password(url: str) -> None:
    with pytest.raises((BadSetting, Unavailable)) as caught:
        await journal_at(url).prepare()
    assert "secret" not in str(caught.value)
    assert "h:99999999" in str(caught.value) or caught.type is BadSetting


async def test_nobody_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"Redis at 127\.0\.0\.1:1/0 does not answer") as caught:
        await journal_at("redis://user:secret@127.0.0.1:1/0").prepare()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("says", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$abc\r\n"])
async def test_a_server_that_is_no_redis_is_a_bad_setting(says: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while await reader.read(1_000):
                writer.write(says)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(BadSetting, match=r"journal\.redis_url"):
        await journal_at(f"redis://127.0.0.1:{port}/0").prepare()
    server.close()


async def test_a_server_that_hangs_up_or_talks_nonsense_later_costs_no_change(
    tmp_path: Path, server: RedisServer
) -> None:
    """What then leaves the journal is one of our errors, and the entries go on afterwards."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        with contextlib.closing(writer):
            while await reader.read(1_000):
                answered += 1
                writer.write(b"$abc\r\n")

    answered = 0
    async with Line(server.port) as line, rig_at(line.url, tmp_path) as rig:
        owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
        entity = Entity("a")
        stranger = await asyncio.start_server(answer, "127.0.0.1", 0)
        line.port = stranger.sockets[0].getsockname()[1]
        line.cut()
        entity.change(owner.journal, 1)
        await until(lambda: answered >= 1)
        for attempt in (successor.journal.recover, successor.journal.remove):
            with pytest.raises(Unavailable, match="none of Redis's"):
                await attempt(OWNER, owner.journal.place)
        line.port = server.port
        await rig.durable(owner, 1)
        stranger.close()


async def test_the_options_of_an_address_do_not_turn_records_into_text(rig: JournalRig, tmp_path: Path) -> None:
    other = JournalRig("redis", tmp_path, f"{rig.settings.redis_url}?decode_responses=true")
    owner = await other.process("node-1")
    Entity("a").change(owner.journal, 1)
    await other.durable(owner, 1)
    assert (await owner.journal.recover(OWNER, owner.journal.place)).damage == []
    await other.close()


async def test_a_wrong_password_is_a_bad_setting_and_no_password_is_shown(tmp_path: Path, server: RedisServer) -> None:
    server.stop()
    server.options = {"requirepass": "rightful"}
    server.start()
    for url in (server.url, server.url.replace("//", "//:mistaken@")):
        with pytest.raises(BadSetting, match=r"journal.redis_url") as caught:
            await journal_at(url).prepare()
        assert "mistaken" not in str(caught.value)
    good = journal_at(server.url.replace("//", "//:rightful@"))
    await good.prepare()
    assert "rightful" not in good.place
    assert f"127.0.0.1:{server.port}/0" in good.place
    await good.open(OWNER)
    await good.close(keep=False)
    await good._supervisor.stop()


def test_servers_that_will_not_do_are_named() -> None:
    with pytest.raises(BadSetting, match=r"6.2 or later is needed, h:1/0 is 6.0.9"):
        check({"redis_version": "6.0.9"}, "h:1/0")
    with pytest.raises(BadSetting, match="maxmemory-policy is allkeys-lru"):
        check({"redis_version": "7.2.4", "maxmemory": 100, "maxmemory_policy": "allkeys-lru", "aof_enabled": 1}, "h")
    check({"redis_version": "7.2.4", "maxmemory": 100, "maxmemory_policy": "volatile-lru", "aof_enabled": 1}, "h")
    check({"redis_version": "8.0", "maxmemory": 0, "maxmemory_policy": "allkeys-lru", "aof_enabled": 1}, "h")


async def test_the_journal_closes_whatever_is_under_way(rig: JournalRig) -> None:
    owner = await rig.process("node-1", None)
    async with asyncio.timeout(30):
        for incarnation in range(1, 60):
            await owner.journal.open(run("node-1", incarnation))
            entity = Entity("a")
            for turns in range(incarnation % 6):
                entity.change(owner.journal, 1)
                owner.journal.truncate(owner.journal.position)
                for _ in range(turns * incarnation % 7):
                    await asyncio.sleep(0)
            await owner.journal.close(keep=incarnation % 2 == 0)
    assert len(rig.supervisor) == 0
