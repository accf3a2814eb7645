"""A node whose journal is deleted while it runs ends its run in order and comes back as a new one."""

import asyncio
import shutil
from pathlib import Path

import pytest

from server.drivers import build_node, upgrade_store
from server.errors import Unavailable
from server.ids import actor_id
from server.settings import from_tree

COUNTER = actor_id("counter", "jar")


async def test_a_deleted_journal_ends_the_run_and_loses_nothing(tmp_path: Path) -> None:
    settings = from_tree(
        {
            "app": "tests.support.tiny:TinyApp",
            "store": {"url": f"sqlite:///{tmp_path}/tiny.db", "flush_interval_s": 60, "max_dirty_age_s": 600},
            "journal": {"mode": "local", "directory": str(tmp_path / "journal"), "segment_bytes": 65_536},
            "gateway": {"port": 0},
            "admin": {"enabled": False},
            "security": {"signing_key": "a key of the tiny application's own, long enough"},
            "log": {"level": "error"},
        }
    )
    await upgrade_store(settings)
    first = build_node(settings)
    await first.start()
    assert await first.system.ask(COUNTER, "add", (3,)) == 3
    shutil.rmtree(tmp_path / "journal")
    async with asyncio.timeout(60):
        await first.ended.wait()
    with pytest.raises(Unavailable, match="adopted by another node, or removed"):
        await first.system.ask(COUNTER, "add", (1,))
    await first.stop()
    second = build_node(settings)
    await second.start()
    assert second.system.me.incarnation > first.system.me.incarnation
    assert await second.system.ask(COUNTER, "add", (1,)) == 4
    await second.stop()
    assert second.metrics.journal_damaged_total == 0
