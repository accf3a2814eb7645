"""`garrison prune`, `pin` and `unpin` on a store of a few matches, in this process: no node, no cluster."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from game import replay
from game.imports.encode import whole_log
from game.messages import Created, Ended, Joined, Kill, MatchOptions, Started
from server.cli.app import run
from server.drivers import build_store, upgrade_store
from server.eventlog.ports import WholeLog
from server.ids import actor_id
from server.settings import from_tree
from tests.support.databases import sqlite_url

DAY_MS = 86_400_000
NAMES = ("old", "older", "new")


def imported(wall_ms: int, players: int = 4) -> WholeLog:
    """A match that does not count: nobody is to be told of it."""
    options = MatchOptions("recorded", score_limit=0, time_limit_ms=0, countdown_ms=0, source="imported:tests")
    joins = [Joined(0, f"p{number}", None) for number in range(players)]
    return whole_log([
        Created(0, "import", options, wall_ms, 1), *joins, Started(0, wall_ms),
        Kill(10, "p0", "p1"), Ended(500, "host_ended", "p0", wall_ms + 500),
    ])  # fmt: skip


async def fill(url: str) -> None:
    settings = from_tree({"store": {"url": url}})
    await upgrade_store(settings)
    store = build_store(settings)
    await store.open()
    now_ms = await store.now_ms()
    for name, days in zip(NAMES, (100, 200, 1), strict=True):
        await store.insert_log("match", actor_id("match", name), imported(now_ms - days * DAY_MS))
    await store.close()


class Garrison:
    """The program, on that store."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.url, self._capsys = url, capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        code = run((*words, "--set", f"store.url={self.url}"))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "--json")[1])

    def names(self) -> list[str]:
        return sorted(row["match"] for row in self.json("matches")["matches"])


@pytest.fixture
def garrison(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Garrison:
    monkeypatch.chdir(tmp_path)
    url = sqlite_url(tmp_path)
    asyncio.run(fill(url))
    return Garrison(url, capsys)


def test_old_matches_go_and_a_dry_run_says_which(garrison: Garrison) -> None:
    told = garrison.json("prune", "--older-than", "90d", "--dry-run")
    assert [gone["match"] for gone in told["named"]] == ["older", "old"]
    assert (told["dry_run"], told["matches"], told["kept"]) == (True, 2, 0) and told["bytes"] > 0
    assert "2 matches would be deleted" in garrison("prune", "--older-than", "90d", "--dry-run")[1]
    assert garrison.names() == sorted(NAMES)
    code, said, _ = garrison("prune", "--keep", "2")
    assert code == 0 and said.startswith("1 matches deleted, ")
    assert garrison.names() == ["new", "old"]
    code, _, why = garrison("replay", "older")
    assert code == 2 and "no match 'older'" in why
    assert garrison.json("prune", "--set", "retention.max_age_days=90")["matches"] == 1
    assert garrison.names() == ["new"]
    assert garrison.json("prune", "--max-bytes", "1")["matches"] == 1


def test_a_pinned_match_is_kept_until_it_is_unpinned(garrison: Garrison) -> None:
    assert garrison.json("pin", "older") == {"match": "older", "pinned": True}
    assert "pinned" in garrison("matches")[1]
    assert garrison.json("prune", "--keep", "1")["matches"] == 1
    assert garrison.names() == ["new", "older"]
    assert garrison("unpin", "older")[:2] == (0, "older is not pinned any more\n")
    assert garrison.json("prune", "--older-than", "1h")["matches"] == 2
    code, _, why = garrison("pin", "older")
    assert code == 2 and "no match 'older'" in why


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing says how much to keep"),
        (("--older-than", "soon"), "'soon' is no length of time"),
        (("--max-bytes", "10 potatoes"), "'10 potatoes' is no size"),
        (("--keep", "0"), "keep"),
    ],
)
def test_bad_limits_delete_nothing(garrison: Garrison, words: tuple[str, ...], says: str) -> None:
    code, _, why = garrison("prune", *words)
    assert code == 2 and says in why
    assert len(garrison.names()) == 3


def test_a_match_that_ended_is_played_again_under_its_name(garrison: Garrison) -> None:
    """The new one has a birth of its own, and nothing of the old one."""
    assert garrison.json("prune", "--keep", "2")["matches"] == 1
    asyncio.run(fill_one(garrison.url, "older"))
    assert garrison.names() == sorted(NAMES)


async def fill_one(url: str, name: str) -> None:
    store = build_store(from_tree({"store": {"url": url}}))
    await store.open()
    whole = imported(await store.now_ms(), players=2)
    assert await store.insert_log("match", actor_id("match", name), whole) == "written"
    stored = await store.read_log("match", actor_id("match", name))
    assert stored is not None and len(replay.final_state(stored).players) == 2
    await store.close()
