"""The journal in a Redis that is full, takes nothing for now, trims nothing, or is far away."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError, ResponseError

from server.errors import Unavailable
from server.ids import NodeId
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import JournalSettings
from server.storage.journal.redis import RedisJournal
from server.storage.journal.redis_server import is_temporary
from tests.support.journals import Entity, JournalRig, Process, run
from tests.support.redis_server import RedisServer, own_server
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until

OWNER = run("node-1")
NOTE = "n" * 100_000


@pytest.fixture
def server() -> Any:
    server = own_server()
    server.options = {"appendonly": "no"}
    server.start()
    yield server
    server.remove()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator[Any]:
    redis = Redis.from_url(server.url)
    yield redis
    await redis.aclose()


@pytest.fixture
async def rig(server: RedisServer, tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig("redis", tmp_path, server.url, redis_timeout_s=0.3, max_backlog_bytes=50_000_000)
    yield rig
    await rig.close()


async def fill(rig: JournalRig, redis: Any, owner: Process, entity: Entity) -> None:
    """2 MB into the stream of `owner`; then Redis has room for one of them."""
    used = (await redis.info("memory"))["used_memory"]
    for number in range(20):
        entity.change(owner.journal, number, NOTE)
        await rig.durable(owner, number + 1)
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("maxmemory", used + 1_000_000)
    with pytest.raises(OutOfMemoryError):
        await redis.set("x", 1)


def refuses(process: Process, entity: Entity, why: str) -> bool:
    try:
        entity.change(process.journal, entity.version)
    except Unavailable as error:
        return why in error.message
    return False


def takes(process: Process, entity: Entity) -> bool:
    try:
        entity.change(process.journal, entity.version)
    except Unavailable:
        return False
    return True


async def test_a_redis_that_is_full_of_what_is_stored_takes_entries_again(rig: JournalRig, redis: Any) -> None:
    owner, entity = await rig.process("node-1"), Entity("a")
    await fill(rig, redis, owner, entity)
    await until(lambda: refuses(owner, entity, "does not answer"))
    waiting = entity.version
    assert len(owner.heard) < waiting
    owner.journal.truncate(owner.journal.position)  # a flush has stored all of it
    await rig.durable(owner, waiting)
    await until(lambda: takes(owner, entity))
    await rig.durable(owner, entity.version)
    assert [version for _, version in owner.heard] == list(range(1, entity.version + 1))


async def test_stored_entries_are_removed_though_there_are_always_more(
    rig: JournalRig, redis: Any, tmp_path: Path
) -> None:
    rig = JournalRig("redis", tmp_path, rig.settings.redis_url)  # with little room
    owner = await rig.process("node-1")
    journal, entity, heard = owner.journal, Entity("a"), 0
    done = asyncio.Event()

    def more(_: object, version: int) -> None:
        nonlocal heard
        heard = version
        if version % 40 == 0:
            journal.truncate(journal.position)
        if version < 800:
            entity.change(journal, version, "n" * 1_000)  # the queue is never empty after an entry
        else:
            done.set()

    journal.on_durable = more
    entity.change(journal, 0)
    async with asyncio.timeout(10):
        await done.wait()
    assert owner.metrics.journal_refused_total == 0
    calls = (await redis.info("commandstats"))["cmdstat_xtrim"]["calls"]
    assert 10 <= calls <= 2 * 800 // 40 + 1, "about one for each truncation"
    await rig.close()


async def test_a_run_that_begins_in_a_full_redis_settles_what_fills_it(rig: JournalRig, redis: Any) -> None:
    gone, entity = await rig.process("node-1"), Entity("a")
    await fill(rig, redis, gone, entity)
    place = gone.journal.place
    await gone.journal.close(keep=True)
    back = await rig.process("node-1", 2)
    assert refuses(back, entity, "not open yet")
    assert not back.journal.broken
    for _ in range(2):
        recovered = await back.journal.recover(OWNER, place)
        assert (recovered.newest[entity.id].version, recovered.damage) == (20, [])
    await back.journal.remove(OWNER, place)
    await until(lambda: takes(back, entity))
    await rig.durable(back, 1)
    recovered = await back.journal.recover(OWNER, place)
    assert (recovered.newest, recovered.damage) == ({}, [])


async def test_a_run_that_waits_for_room_can_be_closed(rig: JournalRig, redis: Any) -> None:
    gone = await rig.process("node-1")
    await fill(rig, redis, gone, Entity("a"))
    for keep in (True, False):
        back = await rig.process("node-2", 1)
        await back.journal.close(keep)
        with pytest.raises(Unavailable, match="closed"):
            Entity("b").change(back.journal, 1)
    await redis.config_set("maxmemory", 0)
    await gone.journal.close(keep=False)
    assert len(rig.supervisor) == 0


async def test_entries_that_redis_does_not_remove_count_and_are_reported_once(
    rig: JournalRig, redis: Any, server: RedisServer, tmp_path: Path
) -> None:
    may = ["+info", "+get", "+set", "+del", "+xadd", "+xrange", "+xrevrange"]
    await redis.execute_command("ACL", "SETUSER", "game", "on", ">secret", "~garrison:*", *may)
    url = server.url.replace("redis://", "redis://game:secret@")
    rig = JournalRig("redis", tmp_path, url, max_backlog_bytes=1_000_000)
    owner, entity = await rig.process("node-1"), Entity("a")
    with structlog.testing.capture_logs() as logs:
        for number in range(9):
            entity.change(owner.journal, number, NOTE)
            await rig.durable(owner, number + 1)
            owner.journal.truncate(owner.journal.position)
        with pytest.raises(Unavailable, match="Redis does not remove what is in the store"):
            entity.change(owner.journal, 9, NOTE)
        assert owner.metrics.journal_backlog_bytes > 900_000
        calls = (await redis.info("commandstats"))["cmdstat_xtrim"]["rejected_calls"]
        assert calls <= 9, "not more than one for each truncation"
        await redis.execute_command("ACL", "SETUSER", "game", "+xtrim")
        owner.journal.truncate(owner.journal.position)
        await until(lambda: owner.metrics.journal_backlog_bytes == 0)
    said = [entry["event"] for entry in logs if "remove" in entry["event"]]
    assert said == ["Redis does not remove what is stored: the journal fills", "Redis removes what is stored again"]
    entity.change(owner.journal, 10, NOTE)
    await rig.durable(owner, 10)
    await rig.close()


# ---- it takes nothing for now ----


def journal_at(url: str) -> RedisJournal:
    settings = JournalSettings(redis_url=url, redis_timeout_s=1.0)
    return RedisJournal(settings, "test", NodeId("node-1"), Metrics(), Supervisor("x"), LoopClock(), random.Random(1))


@contextlib.asynccontextmanager
async def refusing(redis: Any, how: str) -> AsyncIterator[None]:
    if how == "full":
        await redis.config_set("maxmemory", 1)
        yield
        await redis.config_set("maxmemory", 0)
    elif how == "without a replica":
        await redis.config_set("min-replicas-to-write", 1)
        yield
        await redis.config_set("min-replicas-to-write", 0)
    else:
        await redis.config_set("replica-serve-stale-data", "yes" if how == "a replica" else "no")
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        await redis.execute_command("REPLICAOF", "NO", "ONE")


REFUSALS = ["full", "a replica", "without a master", "without a replica"]


@pytest.mark.parametrize("how", REFUSALS)
async def test_a_run_begins_as_soon_as_redis_takes_it(rig: JournalRig, redis: Any, how: str) -> None:
    owner, entity = await rig.process("node-1", None), Entity("a")
    async with refusing(redis, how):
        await owner.journal.open(OWNER)
        assert refuses(owner, entity, "not open yet")
        assert not owner.journal.broken
    await until(lambda: takes(owner, entity))
    await rig.durable(owner, 1)
    assert len((await owner.journal.recover(OWNER, owner.journal.place)).newest) == 1


@pytest.mark.parametrize("how", REFUSALS)
async def test_a_server_that_takes_nothing_for_now_is_not_a_bad_setting(
    server: RedisServer, redis: Any, how: str
) -> None:
    journal = journal_at(server.url)
    async with refusing(redis, how):
        with pytest.raises(Unavailable, match="takes nothing now"):
            await journal.prepare()
    await journal.prepare()
    server_name = journal.place.split(":")[1]
    async with refusing(redis, how):
        again = journal_at(server.url)
        if how == "without a master":  # it does not even say its name
            with pytest.raises(Unavailable, match="takes nothing now"):
                await again.prepare()
        else:
            await again.prepare()
            assert again.place.split(":")[1] == server_name


def test_refusals_that_may_end_are_told_from_those_that_will_not() -> None:
    for text in ("MISCONF Redis is configured to save", "NOREPLICAS Not enough good replicas", "BUSY Redis is busy"):
        assert is_temporary(ResponseError(text))
    for text in ("unknown command 'XADD'", "WRONGTYPE Operation against a key", "BUSYKEY Target key name"):
        assert not is_temporary(ResponseError(text))


# ---- it is far away ----


class Slow:
    """A proxy that stalls in the middle of an answer of more than `room` bytes."""

    def __init__(self, port: int) -> None:
        self._port, self._answered = port, 0
        self.room: int | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Slow":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, back]
        self._tasks += [asyncio.create_task(self._ask(reader, back)), asyncio.create_task(self._answer(there, writer))]

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self._answered = 0
            writer.write(data)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                self._answered += len(data)
                if self.room is None or self._answered <= self.room:
                    writer.write(data)


async def test_a_journal_is_read_over_a_slow_line(server: RedisServer, tmp_path: Path) -> None:
    async with Slow(server.port) as line:
        rig = JournalRig("redis", tmp_path, line.url, redis_timeout_s=0.3, max_backlog_bytes=10_000_000)
        owner, successor = await rig.process("node-1"), await rig.process("node-2", None)
        for number in range(20):
            Entity(f"p{number}").change(owner.journal, number, NOTE)
            await rig.durable(owner, number + 1)
        await owner.journal.close(keep=True)
        line.room = 350_000  # three entries
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert (len(recovered.newest), recovered.damage) == (20, [])
        await rig.close()
