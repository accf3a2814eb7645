"""Journals that are taken away: under their owner, which must not go on as if they were there, and
from their successor, which must not take a loss for nothing to do."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from server.errors import Unavailable
from server.storage.journal import local_files
from tests.support.journals import Entity, JournalRig, Process, run

OWNER = run("node-1")


@pytest.fixture(params=["local", "redis"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig(request.param, tmp_path)
    yield rig
    await rig.close()


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[JournalRig]:
    rig = JournalRig("local", tmp_path)
    yield rig
    await rig.close()


def folder(rig: JournalRig) -> Path:
    return Path(rig.settings.directory, rig.cluster)


async def left(rig: JournalRig) -> Process:
    """An owner that is gone, with something in its journal."""
    owner = await rig.process("node-1")
    Entity("a").change(owner.journal, 1)
    await rig.durable(owner, 1)
    await owner.journal.close(keep=True)
    return owner


async def lose(rig: JournalRig) -> None:
    """Every journal of the cluster, but not the name of its place."""
    if rig.kind == "local":
        shutil.rmtree(folder(rig))
        return
    redis = Redis.from_url(rig.settings.redis_url)
    streams = await redis.keys(f"garrison:{rig.cluster}:journal:*")
    assert streams
    await redis.delete(*streams)
    await redis.aclose()


# ---- under its owner ----


FILES = ("volume", "lock", "segment-000", "segment-001")


@pytest.mark.parametrize(
    "how", ["the whole directory", "this run", "adopted", *FILES, *(f"another {file}" for file in FILES)]
)
async def test_files_that_are_taken_away_acknowledge_nothing_more(local: JournalRig, how: str, tmp_path: Path) -> None:
    owner, successor = await local.process("node-1"), await local.process("node-2", None)
    entity = Entity("a")
    assert entity.change(owner.journal, 1)
    assert not owner.journal.broken
    (mine,) = [path for path in folder(local).iterdir() if path.is_dir()]
    if how == "the whole directory":
        shutil.rmtree(local.settings.directory)
    elif how == "this run":
        shutil.rmtree(mine)
    elif how == "adopted":
        await successor.journal.remove(OWNER, owner.journal.place)
    else:
        name = how.removeprefix("another ")
        file = (Path(local.settings.directory) if name == "volume" else mine) / name
        content = file.read_bytes()
        file.rename(tmp_path / "kept")  # so that another file gets another inode
        if name != how:
            file.write_bytes(content)
    assert owner.journal.broken
    refused = owner.metrics.journal_refused_total
    for _ in range(3):
        with pytest.raises(Unavailable, match="adopted by another node, or removed"):
            entity.change(owner.journal, 2)
        owner.journal.truncate(owner.journal.position)
    assert owner.metrics.journal_refused_total == refused + 3
    assert owner.journal.broken
    await owner.journal.close(keep=False)
    back = await local.process("node-1", 2)  # the node goes on as a new run
    assert entity.change(back.journal, 3)
    assert not back.journal.broken


async def test_a_place_that_does_not_answer_is_not_a_loss(local: JournalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = await local.process("node-1")

    def unreadable(*_: object) -> os.stat_result:
        raise PermissionError("not now")

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", unreadable)
        assert not owner.journal.broken
    assert Entity("a").change(owner.journal, 1)


# ---- from its successor ----


async def test_a_journal_that_is_missing_is_damage(rig: JournalRig) -> None:
    owner, successor = await left(rig), await rig.process("node-2", None)
    await lose(rig)
    for _ in range(2):
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert recovered.newest == {}
        assert f"the journal of {OWNER} is gone" in recovered.damage[0]
    await successor.journal.remove(OWNER, owner.journal.place)  # it is settled nevertheless


async def test_another_name_of_the_cluster_is_no_empty_journal(rig: JournalRig, tmp_path: Path) -> None:
    owner = await left(rig)
    renamed = JournalRig(rig.kind, tmp_path)
    successor = await renamed.process("node-2", None)
    if rig.kind == "local":
        recovered = await successor.journal.recover(OWNER, owner.journal.place)
        assert "is gone" in recovered.damage[0]
    else:  # another cluster has another name of the same Redis
        place = owner.journal.place.split(":")
        place[1] = successor.journal.place.split(":")[1]
        recovered = await successor.journal.recover(OWNER, ":".join(place))
        assert "is gone" in recovered.damage[0]
    await renamed.close()


@pytest.mark.parametrize("by", ["a clean stop", "a successor", "a stop that nothing was written before", "no start"])
async def test_files_removed_in_order_or_never_there_are_no_loss(rig: JournalRig, by: str) -> None:
    owner, successor = await rig.process("node-1", None), await rig.process("node-2", None)
    if by != "no start":
        await owner.journal.open(OWNER)
        if by != "a stop that nothing was written before":
            Entity("a").change(owner.journal, 1)
            await rig.durable(owner, 1)
        await owner.journal.close(keep=by == "a successor")
    if by == "a successor":
        other = await rig.process("node-3", None)
        assert len((await other.journal.recover(OWNER, owner.journal.place)).newest) == 1
        await other.journal.remove(OWNER, owner.journal.place)
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert (recovered.newest, recovered.damage) == ({}, [])


async def test_a_start_that_ends_half_way_is_no_loss(local: JournalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, successor = await local.process("node-1", None), await local.process("node-2", None)

    class Killed(BaseException):
        pass

    def killed(*_: object) -> int:
        raise Killed

    for function in ("take_lock", "remove"):  # it cleans nothing up
        monkeypatch.setattr(local_files, function, killed)
    with pytest.raises(Killed):
        await owner.journal.open(OWNER)
    monkeypatch.undo()
    recovered = await successor.journal.recover(OWNER, owner.journal.place)
    assert (recovered.newest, recovered.damage) == ({}, [])


async def test_a_removal_that_ends_half_way_is_no_loss(local: JournalRig) -> None:
    owner, successor = await left(local), await local.process("node-2", None)
    (segment,) = folder(local).glob("*/segment-000")
    content = segment.read_bytes()
    await successor.journal.remove(OWNER, owner.journal.place)
    segment.parent.mkdir()
    segment.write_bytes(content[:1_000])
    assert (await successor.journal.recover(OWNER, owner.journal.place)).damage == []


async def test_notes_of_files_go_after_a_day(local: JournalRig) -> None:
    await (await local.process("node-1")).journal.close(keep=False)
    await local.process("node-2", None)
    notes = sorted(folder(local).iterdir())
    assert [note.suffix for note in notes] == [".removed", ".unopened"]
    assert {note.stat().st_mode & 0o777 for note in notes} == {0o600}
    await local.process("node-3", None)
    assert len(list(folder(local).iterdir())) == 3
    for note in notes:
        made = note.stat().st_mtime
        os.utime(note, (made, made - local_files.NOTE_S - 60))
    await local.process("node-4", None)
    assert len(list(folder(local).iterdir())) == 2
    assert not any(note.exists() for note in notes)


async def test_notes_in_redis_expire(tmp_path: Path) -> None:
    rig = JournalRig("redis", tmp_path)
    await (await rig.process("node-1")).journal.close(keep=False)
    await rig.process("node-2", None)
    redis = Redis.from_url(rig.settings.redis_url)
    notes = await redis.keys(f"garrison:{rig.cluster}:journal-*")
    assert len(notes) == 2
    assert all([0 < await redis.ttl(note) <= 24 * 3600 for note in notes])
    await redis.aclose()
    await rig.close()
