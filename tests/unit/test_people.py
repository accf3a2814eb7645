"""A person's data: every table and every event is known, a name is found wherever it stands, and the export has it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from sqlalchemy import Column, MetaData, Table, Text, create_engine

from game.app import App
from game.messages import MatchEvent
from game.people.names import FIELDS
from persistence.game.people import PLACES, TABLES
from persistence.people import People, entries, names
from server.admin.exports import Exporter
from server.cli.app import run
from server.errors import BadInput, DeadlineExceeded, NotFound, Overloaded, Unavailable
from server.settings import from_tree
from server.texts import is_named, renamed
from tests.support.persons import ANN, plant, settings_of

SAID = {name for name, place in PLACES.items() if place.erased != "nothing"}


def missing(found: MetaData) -> set[str]:
    """Tables of a schema that the list does not know."""
    return set(found.tables) - set(PLACES)


def test_every_table_says_what_becomes_of_a_persons_data(planted: Path) -> None:
    migrated = MetaData()
    migrated.reflect(create_engine(f"sqlite:///{planted}"))
    assert missing(migrated) == {"alembic_version"}
    assert set(PLACES) == set(TABLES)
    for name, place in PLACES.items():
        assert place.own is None or place.own in TABLES[name].c


def test_table_that_nobody_thought_of_is_missing() -> None:
    planted = MetaData()
    for table in TABLES.values():
        table.to_metadata(planted)
    Table("gifts", planted, Column("to_player", Text, primary_key=True))
    assert missing(planted) == {"gifts"}


def structs_of(kind: Any) -> set[type]:
    """The structs in a type."""
    info = msgspec.inspect.type_info(kind)
    found: set[type] = set()

    def look(part: Any) -> None:
        if isinstance(part, msgspec.inspect.StructType):
            if part.cls in found:
                return
            found.add(part.cls)
        for name in getattr(part, "__struct_fields__", ()):
            inner = getattr(part, name)
            for each in inner if isinstance(inner, tuple) else (inner,):
                if isinstance(each, msgspec.Struct):
                    look(each)

    look(info)
    return found


def unlisted(kind: Any) -> set[str]:
    """Fields of the structs in a type that may hold a text, and of which the table says nothing."""
    found = set()
    for cls in structs_of(kind):
        for field in msgspec.inspect.type_info(cls).fields:  # type: ignore[attr-defined]
            text = repr(field.type)
            holds = "StrType(" in text or "StructType(" in text or "LiteralType(" in text
            if holds and field.name not in FIELDS.get(cls, {}):
                found.add(f"{cls.__name__}.{field.name}")
    return found


def test_every_text_of_every_event_is_known() -> None:
    assert unlisted(MatchEvent) == set()
    assert len(structs_of(MatchEvent)) > len(get_args(MatchEvent))


def test_event_with_a_name_that_nobody_thought_of_is_found() -> None:
    class Saluted(msgspec.Struct, tag="saluted", array_like=True):
        time_ms: int
        whom: str

    assert unlisted(Saluted) == {"Saluted.whom"}


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("ann", "X"),
        ("ann/abc", "X/abc"),
        ("player/ann", "player/X"),
        ("ann2", "ann2"),
        ("joann", "joann"),
        ("ann.smith", "ann.smith"),
        ("U:ann", "U:ann"),
        ("by ann: rude", "by X: rude"),
        ("it was ann.", "it was X."),
        ("banned joann, ann and ann2", "banned joann, X and ann2"),
    ],
)
def test_name_is_found_where_it_stands_for_itself(text: str, after: str) -> None:
    assert renamed(text, "ann", "X") == after
    assert is_named(text, "ann") is (text != after)


def test_entries_are_the_parts_that_name_it() -> None:
    row = {"links": {"ann": [1, 2], "bob": [3]}, "invited": [["ann", 4], ["bob", 5]], "note": "hello ann", "n": 1}
    assert names(row, "ann")
    assert dict(entries(row, "ann")) == {"links.ann": [1, 2], "invited[0]": ["ann", 4], "note": "hello ann"}
    assert not names({"links": {"bob": 1}, "note": "joann"}, "ann")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("persons") / "garrison.db"
    asyncio.run(plant(settings_of(path)))
    return path


@pytest.mark.parametrize("window", [1, 20_000])
async def test_rows_are_found_in_every_table_that_can_name_a_person(planted: Path, window: int) -> None:
    people = People(settings_of(planted).store)
    found = {name: [row async for row in people.rows(table, ANN, window)] for name, table in TABLES.items()}
    assert {name for name, rows in found.items() if rows} == SAID - {"log_chunks"}
    assert [row["player_id"] for row in found["friends"]] == ["ann", "bob", "cat"]
    assert [row["player_id"] for row in found["players"]] == ["ann", "bob"]
    await people.close()


def test_export_has_all_of_it(planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ann.json"
    store = f"store.url=sqlite:///{planted}"
    assert run(["person", "export", ANN, "--to", str(file), "--set", store]) == 0
    document = json.loads(file.read_text())
    assert set(document["tables"]) == SAID - {"log_chunks"}
    assert document["states"]["player"]["display_name"] == "Annabel"
    assert document["states"]["friends"]["links"]["bob"]["state"] == "friend"
    assert document["states"]["standing"]["acts"][0]["reason"] == "ann was rude"
    friends = {tuple(row.get("key", {}).values()): row for row in document["tables"]["friends"]}
    assert set(friends["bob",]["entries"]) == {"links.ann"}
    assert document["tables"]["careers"][0]["row"]["match_id"] == "cup"
    assert document["recently_met"][0]["player"] in ("ann2", "bob", "joann")
    kinds = {event["kind"] for event in document["events"]}
    assert {"joined", "kill", "medal", "score", "invited", "reserved", "kicked", "named", "described"} <= kinds
    assert document["unreadable_logs"] == []
    assert "Bob" not in file.read_text()
    capsys.readouterr()
    assert run(["person", "export", ANN, "--set", store]) == 0
    assert json.loads(capsys.readouterr().out)["tables"] == document["tables"]


def test_nothing_is_kept_of_a_name_that_there_is_not(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "nobody.json"
    assert run(["person", "export", "nobody", "--to", str(file), "--set", f"store.url=sqlite:///{planted}"]) == 2
    assert "nothing is kept about a player 'nobody'" in capsys.readouterr().err
    assert not file.exists()


async def test_export_by_the_admin_api_is_that_of_the_command(planted: Path) -> None:
    """In a process of its own, with the store's settings of the node and none of its environment."""
    exporter = Exporter(App, from_tree({"store": {"url": f"sqlite:///{planted}"}}))
    under_way = asyncio.ensure_future(exporter.export("person", ANN, 110.0))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await exporter.export("person", "bob", 60.0)
    with await under_way as file:
        document = json.loads(file.read())
        assert not await asyncio.to_thread(os.path.exists, file.name)
    assert set(document["tables"]) == SAID - {"log_chunks"} and document["events"]


async def test_export_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = Exporter(App, from_tree({}))
    with pytest.raises(NotFound, match="no export"):
        await exporter.export("clan", ANN, 60.0)
    with pytest.raises(BadInput):
        await exporter.export("person", "--to=/etc/passwd x", 60.0)
    for said, error in (("nothing is kept about a player", NotFound), ("the store is away", Unavailable)):
        monkeypatch.setattr("server.admin.exports._PROGRAM", f"import sys; sys.exit('garrison: {said}')")
        with pytest.raises(error, match=f"^{said}$"):
            await exporter.export("person", ANN, 60.0)
    monkeypatch.setattr("server.admin.exports._PROGRAM", "import time; time.sleep(60)")
    with pytest.raises(DeadlineExceeded, match="garrison person export"):
        await exporter.export("person", ANN, 0.05)
