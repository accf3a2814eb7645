"""The live mark of a journal: a node of a copy does not take over from a run that renews its lease elsewhere (F3)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.errors import Unavailable
from tests.support.journals import KINDS, Entity, JournalRig, run
from tests.support.waiting import until

pytestmark = pytest.mark.loops("asyncio")
DATABASE = "c" * 32


@pytest.fixture(params=KINDS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JournalRig]:
    made = JournalRig(request.param, tmp_path)
    yield made
    await made.close()


async def test_a_journal_whose_owner_renews_its_lease_is_not_taken_over(rig: JournalRig) -> None:
    owner, heir = await rig.process("n1"), await rig.process("n2")
    owner.journal.alive_for(1.0)
    Entity("a").change(owner.journal, 7)
    await rig.durable(owner, 1)  # the mark was sent before it

    async def is_refused() -> bool:
        try:
            await heir.journal.recover(run("n1"), owner.journal.place)
        except Unavailable as error:
            assert "garrison database copy" in error.message
            return True
        return False

    assert await is_refused()
    assert not owner.journal.broken, "it was not sealed"
    Entity("b").change(owner.journal, 8)
    await rig.durable(owner, 2)

    async def is_read() -> bool:
        return not await is_refused()

    await until(is_read, timeout_s=10.0)  # the mark stands still for longer than it was good for
    assert len((await heir.journal.recover(run("n1"), owner.journal.place)).newest) == 2


async def test_a_run_that_ended_leaves_no_mark(rig: JournalRig) -> None:
    owner, heir = await rig.process("n1"), await rig.process("n2")
    Entity("a").change(owner.journal, 7)
    await rig.durable(owner, 1)
    owner.journal.alive_for(60.0)
    place = owner.journal.place
    await owner.journal.close(keep=True)
    assert len((await heir.journal.recover(run("n1"), place)).newest) == 1


async def test_a_journal_of_another_database_is_neither_read_nor_removed(rig: JournalRig) -> None:
    owner = await rig.process("n1", None)
    owner.journal.database = DATABASE
    await owner.journal.prepare()
    await owner.journal.open(run("n1"))
    Entity("a").change(owner.journal, 7)
    await rig.durable(owner, 1)
    place = owner.journal.place
    await owner.journal.close(keep=True)
    stranger, heir = await rig.process("n2", None), await rig.process("n3", None)
    stranger.journal.database, heir.journal.database = "e" * 32, DATABASE
    for process in (stranger, heir):
        await process.journal.prepare()
    assert DATABASE in place and not stranger.journal.reads(place) and heir.journal.reads(place)
    for call in (stranger.journal.recover, stranger.journal.remove):
        with pytest.raises(Unavailable):
            await call(run("n1"), place)
    assert len((await heir.journal.recover(run("n1"), place)).newest) == 1
