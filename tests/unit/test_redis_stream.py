"""Phases of a run's stream in Redis: legal transitions, the story that an illegal one tells, and a trim that fails."""

import asyncio
import random
from typing import Any

import msgspec
import pytest
from redis import exceptions

from server.errors import Unavailable
from server.ids import ActorId, Epoch, Incarnation, NodeAddress, NodeId
from server.runtime.clock import SystemClock
from server.runtime.metrics import Metrics
from server.runtime.phases import IllegalTransition
from server.settings import JournalSettings
from server.storage.journal.redis_names import RedisKeys, RedisPlace
from server.storage.journal.redis_stream import STREAM_PHASES, TRIM_PHASES, RedisStream
from tests.support.waiting import until

ME = NodeAddress(NodeId("node-1"), Incarnation(1))


class Purse(msgspec.Struct, frozen=True):
    coins: int = 0


class Entity:
    def __init__(self) -> None:
        self.id, self.epoch, self.version = ActorId("purse/a"), Epoch(1), 0


class ScriptedLink:
    """Answers every command at once; `failures` are raised first, by command."""

    address = "scripted"

    def __init__(self) -> None:
        self.commands: list[tuple[Any, ...]] = []
        self.failures: dict[str, list[Exception]] = {}
        self.newest_id: bytes | None = b"1-0"

    async def ask(self, *command: Any, within_s: float | None = None) -> Any:
        self.commands.append(command)
        await asyncio.sleep(0)
        queued = self.failures.get(command[0])
        if queued:
            raise queued.pop(0)
        return b"ok"

    async def newest(self, key: str) -> bytes | None:
        return self.newest_id

    def sent(self, name: str) -> int:
        return sum(command[0] == name for command in self.commands)


def _stream(link: ScriptedLink) -> tuple[RedisStream, list[int]]:
    durable: list[int] = []
    settings = JournalSettings(redis_timeout_s=0.01)
    stream = RedisStream(
        link,  # type: ignore[arg-type]
        RedisKeys("test"), ME, RedisPlace("server", "run", "scripted"), settings,
        clock=SystemClock(), rng=random.Random(1), metrics=Metrics(),
        on_durable=lambda entity, version: durable.append(version),
    )  # fmt: skip
    return stream, durable


def test_nothing_follows_the_end_of_a_stream_and_a_broken_one_only_closes() -> None:
    assert STREAM_PHASES.ends("closed")
    assert [after for after in STREAM_PHASES.phases if STREAM_PHASES.may("broken", after)] == ["closed"]
    assert not TRIM_PHASES.may("ready", "waiting")


def test_a_stream_that_is_closed_twice_tells_its_story() -> None:
    stream, _ = _stream(ScriptedLink())
    stream.opened()
    stream.close()
    with pytest.raises(IllegalTransition, match=r"closed -> closed; its story: .*opening -> open -> closed"):
        stream.close()
    STREAM_PHASES.refused.clear()


async def test_a_stream_refuses_appends_in_every_phase_but_open() -> None:
    link = ScriptedLink()
    stream, durable = _stream(link)
    with pytest.raises(Unavailable, match="not open yet"):
        stream.append(Entity(), Purse())
    stream.opened()
    task = asyncio.ensure_future(stream.run())
    assert stream.append(Entity(), Purse()) is False
    await until(lambda: durable == [1])
    link.failures["XADD"] = [Unavailable("planted")] * 3
    stream.append(Entity(), Purse())
    await until(lambda: stream.phase == "away")
    with pytest.raises(Unavailable, match="does not answer"):
        stream.append(Entity(), Purse())
    await until(lambda: stream.phase == "open")
    link.newest_id = None
    link.failures["XADD"] = [Unavailable("planted")]
    stream.append(Entity(), Purse())
    await until(lambda: stream.phase == "broken")
    with pytest.raises(Unavailable, match="adopted by another node, or removed"):
        stream.append(Entity(), Purse())
    await task
    stream.close()
    with pytest.raises(Unavailable, match="closed"):
        stream.append(Entity(), Purse())
    assert len(durable) == 2


async def test_a_trim_that_failed_is_sent_again_only_after_the_next_truncation() -> None:
    link = ScriptedLink()
    stream, durable = _stream(link)
    stream.opened()
    task = asyncio.ensure_future(stream.run())
    for version in range(1, 3):
        stream.append(Entity(), Purse())
        await until(lambda: len(durable) == version)  # noqa: B023
    link.failures["XTRIM"] = [exceptions.ResponseError("planted: READONLY")]
    stream.truncate(stream.position)
    await until(lambda: link.sent("XTRIM") == 1)
    stream.append(Entity(), Purse())
    await until(lambda: len(durable) == 3)
    assert link.sent("XTRIM") == 1
    stream.truncate(stream.position)
    await until(lambda: link.sent("XTRIM") == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
