"""The journal in files: what only files can show. Processes are real here."""

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from server.errors import BadSetting, Unavailable
from server.ids import NodeId
from server.runtime.metrics import Metrics
from server.settings import JournalSettings
from server.storage.journal.local import LocalJournal, parse_place
from server.storage.journal.segment_file import HEAD_BYTES
from tests.support.journals import Entity, purse, run
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
OWNER = run("node-1")


def journal(folder: Path, node: str = "node-1", **more: str) -> LocalJournal:
    settings = JournalSettings(directory=str(folder), segment_bytes=65_536, segments=2)
    return LocalJournal(settings, "test", NodeId(node), Metrics(), **more)


async def prepared(folder: Path, node: str, **more: str) -> LocalJournal:
    it = journal(folder, node, **more)
    await it.prepare()
    return it


@pytest.fixture
async def owner(tmp_path: Path) -> AsyncIterator[LocalJournal]:
    it = await prepared(tmp_path / "j", "node-1")
    await it.open(OWNER)
    yield it
    await it.close(keep=False)


@pytest.fixture
async def successor(tmp_path: Path) -> LocalJournal:
    return await prepared(tmp_path / "j", "node-2")


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("j/test/*/segment-*"))


# ---- what is damaged is named ----


async def test_every_flipped_bit_is_named_or_changes_nothing(
    tmp_path: Path, owner: LocalJournal, successor: LocalJournal
) -> None:
    entities = [Entity(f"p{n}") for n in range(3)]
    for coins in range(4):
        for entity in entities:
            entity.change(owner, coins)
    whole = (await successor.recover(OWNER, owner.place)).newest
    first = files(tmp_path)[0]
    clean = first.read_bytes()
    used = clean.rstrip(b"\0")
    named = 0
    for offset in range(len(used)):
        for mask in (1, 128):
            bad = bytearray(clean)
            bad[offset] ^= mask
            first.write_bytes(bad)
            recovered = await successor.recover(OWNER, owner.place)
            for identity, record in recovered.newest.items():
                assert purse(record).coins == record.version - 1 <= 3, "a state that never was"
                assert identity in whole
            if recovered.damage:
                named += 1
                assert str(first) in recovered.damage[0]
            else:
                assert [r.version for r in recovered.newest.values()] == [4, 4, 4], offset
                assert offset < HEAD_BYTES  # a gap in the head, or the mark of what is truncated
    assert named >= 2 * (len(used) - HEAD_BYTES)
    first.write_bytes(clean)


async def test_damage_in_a_journal_that_went_round(
    tmp_path: Path, owner: LocalJournal, successor: LocalJournal
) -> None:
    entity = Entity("a")
    for coins in range(2_000):
        entity.change(owner, coins, "n" * 100)
        owner.truncate(max(1, owner.position - 100))
    recovered = await successor.recover(OWNER, owner.place)
    assert (recovered.newest[entity.id].version, recovered.damage) == (2_000, [])
    for file in files(tmp_path):
        clean = file.read_bytes()
        for offset in range(HEAD_BYTES + 10, len(clean), 5_000):
            bad = bytearray(clean)
            bad[offset] ^= 4
            file.write_bytes(bad)
            recovered = await successor.recover(OWNER, owner.place)
            record = recovered.newest.get(entity.id)
            assert record is not None
            assert purse(record).coins == record.version - 1
            assert record.version == 2_000 or recovered.damage
        file.write_bytes(clean)


async def test_a_missing_file_is_damage(tmp_path: Path, owner: LocalJournal, successor: LocalJournal) -> None:
    number = 0
    with pytest.raises(Unavailable):
        while True:
            Entity(f"p{number}").change(owner, number, "n" * 500)
            number += 1
    first, second = files(tmp_path)
    second.unlink()
    assert (await successor.recover(OWNER, owner.place)).damage == []  # nobody knows that there was more
    await owner.close(keep=True)
    await owner.open(run("node-1", 2))
    Entity("a").change(owner, 1)
    first.write_bytes(files(tmp_path)[-2].read_bytes())
    recovered = await successor.recover(OWNER, owner.place)
    assert recovered.newest == {}
    assert "it is of node node-1#2 in cluster test" in recovered.damage[0]


async def test_a_cut_file_is_damage(tmp_path: Path, owner: LocalJournal, successor: LocalJournal) -> None:
    for number in range(50):
        Entity(f"p{number}").change(owner, number)
    first = files(tmp_path)[0]
    place = owner.place
    await owner.close(keep=True)
    os.truncate(first, HEAD_BYTES + 1_000)
    recovered = await successor.recover(OWNER, place)
    assert 10 < len(recovered.newest) < 50
    assert f"records {len(recovered.newest) + 1} to 50 are missing" in recovered.damage[0]
    os.truncate(first, 10)
    damage = (await successor.recover(OWNER, place)).damage
    assert "ends after 10 bytes" in damage[0]


# ---- where it is ----


async def test_only_its_user_may_read_it(tmp_path: Path, owner: LocalJournal) -> None:
    folder = tmp_path / "j"
    for path in (folder, folder / "test", files(tmp_path)[0].parent):
        assert path.stat().st_mode & 0o777 == 0o700
    for path in (folder / "volume", *files(tmp_path), files(tmp_path)[0].parent / "lock"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["test", "volume"]


@pytest.mark.parametrize("level", ["", "test", "volume"])
@pytest.mark.parametrize("mode", [0o775, 0o702, 0o1777])
async def test_no_level_may_be_written_by_others(tmp_path: Path, level: str, mode: int) -> None:
    """F57."""
    folder = tmp_path / "j"
    await prepared(folder, "node-1")
    (folder / level).chmod(mode)
    with pytest.raises(BadSetting, match="others than its owner may write"):
        await prepared(folder, "node-2")


async def test_no_directory_above_it_may_be_written_by_others(tmp_path: Path) -> None:
    """F57: unless it is sticky, as /tmp is."""
    above = tmp_path / "above"
    (above / "own").mkdir(parents=True)
    await prepared(above / "own" / "j", "node-1")
    (tmp_path / "way").symlink_to(above)
    for mode, refused in ((0o777, True), (0o1777, False), (0o757, True), (0o755, False)):
        above.chmod(mode)
        for path in (above / "own" / "j", tmp_path / "way" / "own" / "j"):
            if refused:
                with pytest.raises(BadSetting, match=f"may write to {above}: chmod go-w, or \\+t"):
                    await prepared(path, "node-2")
            else:
                await prepared(path, "node-2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_no_directory_above_it_belongs_to_another_user_or_group(tmp_path: Path) -> None:
    """F57: a group that is the user's own may write there."""
    above = tmp_path / "above"
    await prepared(above / "j", "node-1")
    above.chmod(0o775)
    await prepared(above / "j", "node-2")
    os.chown(above, -1, 12_345)
    with pytest.raises(BadSetting, match="others than its owner may write"):
        await prepared(above / "j", "node-2")
    above.chmod(0o755)
    os.chown(above, 12_345, -1)
    with pytest.raises(BadSetting, match="belongs to another user"):
        await prepared(above / "j", "node-2")


@pytest.mark.parametrize("level", ["test", "volume"])
async def test_no_level_below_the_directory_is_a_link(tmp_path: Path, level: str) -> None:
    """F57: the directory itself may be, if an operator wants that."""
    folder = tmp_path / "j"
    await prepared(folder, "node-1")
    (folder / level).rename(tmp_path / "elsewhere")
    (folder / level).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadSetting, match="is a link"):
        await prepared(folder, "node-2")
    (folder / level).unlink()
    (tmp_path / "elsewhere").rename(folder / level)
    (tmp_path / "link").symlink_to(folder)
    await prepared(tmp_path / "link", "node-2")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("level", ["", "test", "volume"])
async def test_no_level_belongs_to_another_user(tmp_path: Path, level: str) -> None:
    """F57."""
    folder = tmp_path / "j"
    await prepared(folder, "node-1")
    os.chown(folder / level, 12_345, -1)
    with pytest.raises(BadSetting, match="belongs to another user"):
        await prepared(folder, "node-2")


async def test_a_directory_that_cannot_be_is_a_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "volume").write_text("of a stereo")
    for name in ("file", "file/below", "open", "strange"):
        with pytest.raises(BadSetting, match=r"journal.directory"):
            await prepared(tmp_path / name, "node-1")
    for path in ("", "a\0b"):
        with pytest.raises(BadSetting, match=r"journal.directory"):
            LocalJournal(JournalSettings(directory=path), "test", NodeId("node-1"), Metrics())
    for cluster, node in (("..", "node-1"), ("a/b", "node-1"), ("test", "../x"), ("test", "")):
        with pytest.raises(BadSetting):
            LocalJournal(JournalSettings(directory=str(tmp_path)), cluster, NodeId(node), Metrics())
    here = await prepared(tmp_path / "j", "node-1")
    with pytest.raises(Unavailable, match="not a node"):
        await here.recover(run("../x"), here.place)


async def test_a_full_disk_is_a_bad_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    it = await prepared(tmp_path / "j", "node-1")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(BadSetting, match=r"cannot make 131072 bytes in .*: No space left"):
        await it.open(OWNER)
    assert [path.suffix for path in (tmp_path / "j" / "test").iterdir()] == [".unopened"]
    with pytest.raises(Unavailable, match="closed"):
        Entity("a").change(it, 1)


async def test_two_stores_may_share_a_directory(tmp_path: Path, owner: LocalJournal) -> None:
    """Two demos on one machine: their incarnations are the same."""
    other = await prepared(tmp_path / "j", "node-1")
    await other.open(OWNER)
    Entity("mine").change(owner, 1)
    Entity("others").change(other, 2)
    assert list((await other.recover(OWNER, owner.place)).newest) == ["purse/mine"]
    assert list((await owner.recover(OWNER, other.place)).newest) == ["purse/others"]
    await other.close(keep=False)


async def test_a_run_is_opened_once(owner: LocalJournal) -> None:
    with pytest.raises(Unavailable, match="has run before"):
        await owner.open(OWNER)


async def test_a_shared_volume_is_read_by_its_name(tmp_path: Path) -> None:
    away = await prepared(tmp_path / "there", "node-1", host="one", boot="b1")
    await away.open(OWNER)
    Entity("a").change(away, 1)
    (tmp_path / "here").symlink_to(tmp_path / "there")  # the same disk under another path
    here = await prepared(tmp_path / "here", "node-2", host="two", boot="b2")
    stranger = await prepared(tmp_path / "other", "node-3", host="three", boot="b3")
    assert here.reads(away.place)
    assert len((await here.recover(OWNER, away.place)).newest) == 1
    (tmp_path / "there").rename(tmp_path / "moved")
    (tmp_path / "here").unlink()
    (tmp_path / "here").symlink_to(tmp_path / "moved")
    assert here.reads(away.place)
    assert not stranger.reads(away.place)
    await away.close(keep=True)
    assert not here.is_dead(OWNER, away.place)  # its lock is free, but that is another machine's to say
    with pytest.raises(Unavailable, match="cannot be read here"):
        await stranger.recover(OWNER, away.place)
    await stranger.remove(OWNER, away.place)
    await here.remove(OWNER, away.place)
    assert (await here.recover(OWNER, away.place)).newest == {}


async def test_a_restart_of_the_machine_proves_nothing_and_keeps_a_disk(tmp_path: Path) -> None:
    before = await prepared(tmp_path / "j", "node-1", boot="b1")
    await before.open(OWNER)
    Entity("a").change(before, 1)
    after = await prepared(tmp_path / "j", "node-2", boot="b2")
    await before.close(keep=True)
    assert not after.is_dead(OWNER, before.place)
    assert len((await after.recover(OWNER, before.place)).newest) == 1


async def test_an_emptied_directory_is_known_as_lost_by_the_node_that_returns(tmp_path: Path) -> None:
    before = await prepared(tmp_path / "j", "node-1", host="h", boot="b1")
    (tmp_path / "j" / "volume").unlink()
    returned = await prepared(tmp_path / "j", "node-1", host="h", boot="b2")
    another = await prepared(tmp_path / "j", "node-2", host="h", boot="b2")
    moved = await prepared(tmp_path / "j", "node-1", host="h2", boot="b2")
    assert returned.reads(before.place)
    assert not another.reads(before.place)
    assert not moved.reads(before.place)
    recovered = await returned.recover(OWNER, before.place)
    assert recovered.newest == {}
    assert "is gone" in recovered.damage[0]
    await returned.remove(OWNER, before.place)


def test_a_place_reads_as_it_was_written() -> None:
    text = "local:n:h:b:" + "0" * 32 + ":" + "0123456789abcdef" + ":/a:b/c d"
    place = parse_place(text)
    assert place is not None
    assert (str(place), place.directory) == (text, "/a:b/c d")
    for bad in ("local:n:h:b:v:../../etc:/x", "local:n:h:b:v:0123456789abcdef:", "other:n:h:b:v:0123456789abcdef:/x"):
        assert parse_place(bad) is None


# ---- real processes ----


class Writer:
    """A process of node-1 that appends as fast as its reports are read. The pipe takes fewer of them than it keeps
    changes: it cannot take away all that somebody reads meanwhile."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.journal_writer", str(folder), "test", "node-1", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            pipesize=4_096,
            text=True,
        )
        self.child = int(self._word("child")) if "--child" in options else 0
        self.place = self._word("place")
        self.versions: dict[str, int] = {}

    def _word(self, what: str) -> str:
        assert self.process.stdout is not None
        name, _, rest = self.process.stdout.readline().strip().partition(" ")
        assert name == what
        return rest

    def read(self, reports: int) -> None:
        assert self.process.stdout is not None
        for _ in range(reports):
            self._note(self.process.stdout.readline())

    def kill(self) -> None:
        """kill -9, and read what it had still said."""
        self.process.kill()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._note(line)
        self.process.wait()

    def _note(self, line: str) -> None:
        if line.endswith("\n"):
            identity, version = line.split()
            self.versions[identity] = int(version)


@contextlib.contextmanager
def writer(folder: Path, *options: str) -> Iterator[Writer]:
    it = Writer(folder, *options)
    try:
        yield it
    finally:
        it.process.kill()
        it.process.wait()
        if it.process.stdout is not None:
            it.process.stdout.close()


@pytest.mark.parametrize("reports", [1, 300, 3_000])
async def test_changes_that_a_killed_process_reported_are_there(tmp_path: Path, reports: int) -> None:
    successor = await prepared(tmp_path / "j", "node-2")
    with writer(tmp_path / "j") as it:
        it.read(reports)
        it.kill()
        recovered = await successor.recover(OWNER, it.place)
        assert recovered.damage == []
        for identity, version in it.versions.items():
            record = recovered.newest[identity]  # type: ignore[index]
            assert version <= record.version <= version + 1
            assert purse(record).coins // 7 == record.version - 1


async def test_a_free_lock_proves_a_process_dead_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    successor = await prepared(tmp_path / "j", "node-2")
    with writer(tmp_path / "j", "--child") as it:
        assert not successor.is_dead(OWNER, it.place)
        it.process.send_signal(signal.SIGSTOP)
        assert not successor.is_dead(OWNER, it.place)
        it.process.send_signal(signal.SIGCONT)
        assert not successor.is_dead(OWNER, it.place)
        it.process.kill()
        try:
            await until(lambda: successor.is_dead(OWNER, it.place))  # though a child of it lives on
        finally:
            os.kill(it.child, signal.SIGKILL)
        assert not successor.is_dead(run("node-1", 2), it.place)


async def test_a_journal_that_is_still_written_can_be_read(tmp_path: Path) -> None:
    successor = await prepared(tmp_path / "j", "node-2")
    with writer(tmp_path / "j", "--truncate") as it:
        for _ in range(10):
            it.read(700)
            recovered = await successor.recover(OWNER, it.place)
            assert recovered.damage == []
            assert len(recovered.newest) == 7
            for identity, version in it.versions.items():
                assert recovered.newest[identity].version >= version  # type: ignore[index]
        await successor.remove(OWNER, it.place)
        it.read(5_000)  # it goes on, and harms nobody
        assert (await successor.recover(OWNER, it.place)).newest == {}
