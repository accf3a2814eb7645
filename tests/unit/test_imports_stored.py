"""Imports into a store: each match once and whole, also where the import dies; the command on SQLite."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from game import replay
from game.commands.import_ import ImportedFile, import_file
from game.imports.encode import Origins, whole_log
from game.imports.storing import ImportStore, store_match
from server.cli.app import run
from server.errors import Corrupt, LogExists, Unavailable
from server.eventlog import portable
from server.eventlog.ports import InsertResult, WholeLog
from server.ids import ActorId
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from server.storage.ports import Stored
from tests.support import game
from tests.support.databases import FACTS, HERE, LIVE, STATE_TYPES, fresh
from tests.support.foreign_logs import LOGS, imported, stored
from tests.support.virtual_time import LoopClock
from tests.support.waiting import until


class Shelf(ImportStore):
    """The memory twin, as an import sees it; it dies where `left` inserts are over."""

    def __init__(self, database: MemoryDatabase, left: int = 1_000) -> None:
        self.states = MemoryStore(database, STATE_TYPES, LIVE, FACTS, HERE)
        self.logs, self.left, self.busy = MemoryLogStore(database), left, 0

    async def read(self, kind: str, ids: Sequence[ActorId]) -> dict[ActorId, Stored]:
        return await self.states.read(kind, ids)

    async def insert_log(self, kind: str, id: ActorId, log: WholeLog) -> InsertResult:
        if self.busy:
            self.busy -= 1
            raise Unavailable("busy", retry_after_s=0.001)
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return await self.logs.insert_log(kind, id, log)


async def take(file: Path, shelf: Shelf) -> list[tuple[str, str]]:
    told = ImportedFile(str(file))
    await import_file(file, Origins(""), None, shelf, told)
    return [(match.match, match.outcome) for match in told.matches]


async def test_import_that_dies_has_whole_matches_and_goes_on(tmp_path: Path) -> None:
    file, database = tmp_path / "games.log", MemoryDatabase(LoopClock())
    file.write_bytes(LOGS["quake3"])
    with pytest.raises(KeyboardInterrupt):
        await take(file, Shelf(database, left=1))
    (identity,) = database.entities
    assert database.entities[identity].chunks[-1].sealed
    names = [f"match/{match.name}" for match in imported(LOGS["quake3"])[0]]
    assert [f"match/{name} {outcome}" for name, outcome in await take(file, Shelf(database))] == [
        f"{names[0]} there",
        f"{names[1]} stored",
    ]
    assert sorted(database.entities) == sorted(names)
    file.touch()
    assert {outcome for _, outcome in await take(file, Shelf(database))} == {"there"}


async def test_store_that_is_busy_is_asked_again() -> None:
    (match,), _ = imported(LOGS["tf2"])
    shelf = Shelf(MemoryDatabase(LoopClock()))
    shelf.busy = 2
    assert await store_match(shelf, match.name, whole_log(match.events)) == "stored"
    shelf = Shelf(MemoryDatabase(LoopClock()))
    shelf.busy = 100
    with pytest.raises(Unavailable):
        await store_match(shelf, match.name, whole_log(match.events))


async def test_nodes_serve_what_was_imported_beside_them() -> None:
    """No player gets a row by it, and nothing that a node has is touched."""
    (match,), _ = imported(LOGS["tf2"])
    async with game.running() as system:
        logs = MemoryLogStore(system.node_store.database)
        await logs.insert_log("match", ActorId(f"match/{match.name}"), whole_log(match.events))
        board = await game.Client(system, game.player("x")).send(game_get(match.name))
        assert (board.phase, board.winner, board.team_scores) == ("ended", "team:1", [1, 2])
        assert {line.player: line.kills for line in board.players}["U:1:74"] == 1
        assert not [name for name in logs.database.entities if name.startswith("player/U:1")]


async def test_match_that_counts_adds_to_careers_by_a_node() -> None:
    """Of players whom more than this match knows; the node logs what each gets, as behind any end."""
    (match,), _ = imported(LOGS["tf2"], counts=True)
    identity = ActorId(f"match/{match.name}")
    async with game.running() as system:
        database = system.node_store.database
        await MemoryLogStore(database).insert_log("match", identity, whole_log(match.events))
        assert database.entities[identity].open_facts
        await game.Client(system, game.player("x")).send(game_get(match.name))
        await until(lambda: not database.entities[identity].open_facts)
        players = [name for name in database.entities if name.startswith("player/")]
        assert sorted(players) == ["player/U:1:71", "player/U:1:73", "player/U:1:74"]


def game_get(name: str) -> Any:
    from game.messages import MatchGet

    return MatchGet(1, name)


def test_command_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = fresh("sqlite", tmp_path)
    log, odd = tmp_path / "a.log", tmp_path / "b.txt"
    log.write_bytes(LOGS["tf2"])
    odd.write_text("# no log\n")

    def garrison(*words: str) -> tuple[int, str, str]:
        code = run([*words, "--set", f"store.url={database.url}"])
        said = capsys.readouterr()
        return code, said.out, said.err

    (match,) = [match.name for match in imported(LOGS["tf2"])[0]]
    code, out, _ = garrison("import", str(log), "--dry-run")
    assert code == 0 and f"{match}  koth_lake  4 players" in out and "not stored" in out
    assert json.loads(garrison("matches", "--json")[1]) == {"matches": []}
    code, out, err = garrison("import", str(log), str(odd))
    assert code == 2 and f"garrison: {odd}: no known format" in err
    assert "not understood: 3 lines: something new that (1, first line 28)" in out and f"replay {match}" in out
    code, out, _ = garrison("import", str(log), "--json")
    (told,) = json.loads(out)["files"]
    assert code == 0 and [row["outcome"] for row in told["matches"]] == ["there"]
    assert told["lines"]["unknown"]["kil"] == {"count": 1, "first_line": 31}
    (row,) = json.loads(garrison("matches", "--json")[1])["matches"]
    assert (row["match"], row["players"], row["winner"], row["mode"]) == (match, 4, "team:1", "recorded")
    code, out, _ = garrison("replay", match, "--verify")
    assert code == 0 and "the end hash is that of the live match" in out
    totals = json.loads(garrison("replay", match, "--json")[1])
    assert totals["players"]["U:1:71"] == {"kills": 1, "deaths": 1, "medals": 0}
    assert totals["names"]["U:1:74"] == "Cal[31m"
    assert garrison("import", str(tmp_path / "none.log"))[0] == 2


def garrison_file(name: str) -> bytes:
    """A match as `garrison export` writes it."""
    out = io.BytesIO()
    log = stored(whole_log(imported(LOGS["jsonl"])[0][0].events))
    portable.write(out, portable.PortableHeader("match", name), replay.MATCH, log)
    return out.getvalue()


async def test_exported_match_is_stored_under_its_name_and_tells_nobody(tmp_path: Path) -> None:
    file, database = tmp_path / "m.garrison", MemoryDatabase(LoopClock())
    file.write_bytes(garrison_file("ranked-42"))
    assert await take(file, Shelf(database)) == [("ranked-42", "stored")]
    assert await take(file, Shelf(database)) == [("ranked-42", "there")]
    assert not database.entities[ActorId("match/ranked-42")].open_facts
    database.entities[ActorId("match/ranked-42")].head = b"x" * 16
    with pytest.raises(LogExists):
        await take(file, Shelf(database))


async def test_broken_exported_match_names_its_event_and_stores_nothing(tmp_path: Path) -> None:
    file, database = tmp_path / "m.garrison", MemoryDatabase(LoopClock())
    data = bytearray(garrison_file("ranked-42"))
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(Corrupt, match="event 1"):
        await take(file, Shelf(database))
    assert not database.entities
