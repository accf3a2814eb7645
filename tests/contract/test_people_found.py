"""A search for a person's name, on every SQL database."""

from pathlib import Path

import pytest

from persistence.game.people import PLACES, TABLES
from persistence.people import People
from server.settings import StoreSettings
from tests.support.databases import SQL_DATABASES, fresh
from tests.support.persons import ANN, write

ELSEWHERE = {"log_chunks", "reminders", "actors"}


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_a_name_is_found_in_texts_json_and_bytes(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    async with database.connect() as (store, _):
        await write(store)  # type: ignore[arg-type]
    people = People(StoreSettings(url=database.url, statement_timeout_s=30.0))
    found = {name: [row async for row in people.rows(table, ANN, 2)] for name, table in TABLES.items()}
    await people.close()
    told = {name for name, place in PLACES.items() if place.erased != "nothing"}
    assert {name for name, rows in found.items() if rows} == told - ELSEWHERE
    assert [row["player_id"] for row in found["friends"]] == ["ann", "bob", "cat"]
    assert [(row["match_id"], row["player_id"]) for row in found["participants"]] == [("cup", "ann")]
