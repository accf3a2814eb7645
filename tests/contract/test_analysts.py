"""The queries of docs/analysts.md, on both databases."""

import re
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

import migrations
from tests.support.databases import SQL_DATABASES, fresh

PAGE = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text("utf-8")


def asked_now() -> tuple[tuple[str, ...], list[list[tuple[Any, ...]]]]:
    """The rows, and what the page's queries give of them now. The views go by the database's clock; these times are
    minutes from their bounds."""
    now_ms = int(time.time() * 1000)
    lately, before, last_week = now_ms - 100_000, now_ms - 900_000, now_ms - 700_000_000
    rows = (
        "INSERT INTO players (player_id, display_name, status, last_seen_ms) VALUES ('ann', 'Ann', 'online', 1), "
        f"('bob', 'Bob', 'offline', {lately}), ('cyd', '', 'offline', {before}), ('eve', '', 'invisible', 1)",
        "INSERT INTO matches (match_id, head, next_seq, phase, mode, map_name, created_wall_ms, ended_wall_ms, winner, "
        f"player_count) VALUES ('m', :head, 9, 'ended', 'slayer', 'Recharge', 5, {before}, 'team:0', 3), "
        f"('n', :head, 9, 'ended', 'slayer', 'Recharge', 7, {last_week}, NULL, 2), "
        "('live', :head, 9, 'live', 'slayer', 'Recharge', 7, 0, NULL, 2)",
        "INSERT INTO participants (match_id, player_id, present, team, result, kills, deaths) VALUES "
        "('m', 'ann', true, 0, 'won', 6, 2), ('m', 'bob', true, 0, 'won', 0, 0), ('m', 'cyd', true, 1, 'lost', 3, 4), "
        "('n', 'ann', true, NULL, 'tied', 1, 0), ('n', 'bob', true, NULL, 'tied', 1, 0), "
        "('live', 'ann', true, 0, '', 0, 0), ('live', 'cyd', true, 1, '', 0, 0)",
        "INSERT INTO careers (player_id, match_id, birth, ended_wall_ms, mode, won, kills, deaths) VALUES "
        f"('ann', 'm', 5, {before}, 'slayer', true, 6, 2), ('cyd', 'm', 5, {before}, 'slayer', false, 3, 4), "
        f"('ann', 'n', 7, {last_week}, 'slayer', false, 1, 0), ('ann', 'm', 4, {last_week}, 'ctf', false, 9, 3)",
        "INSERT INTO career_medals (player_id, mode, season, medal, earned) VALUES ('ann', 'slayer', '', 'Ace', 2), "
        "('ann', 'ctf', '', 'Ace', 1), ('bob', 'ctf', '', 'Ace', 1), ('bob', 'ctf', '', 'Run', 1)",
        "INSERT INTO match_properties (match_id, name, value) VALUES ('m', 'playlist', 'ranked'), "
        "('n', 'playlist', 'social'), ('live', 'playlist', 'ranked')",
    )
    answers: list[list[tuple[Any, ...]]] = [
        [("bob", "Bob", "offline"), ("ann", "Ann", "online")],
        [("ann", "Ann", 6, 1), ("cyd", "", 3, 1)],
        [
            ("m", "slayer", "Recharge", "won", 6, 2, before, "cyd"),
            ("n", "slayer", "Recharge", "tied", 1, 0, last_week, "bob"),
        ],
        [("bob", 1, 0), ("cyd", 1, 1)],
        [("", "ctf", 1, 9, 3, pytest.approx(3.0)), ("Recharge", "slayer", 2, 7, 2, pytest.approx(3.5))],
        [("", "ctf", 9, 3), ("Recharge", "slayer", 10, 6)],
        [("Ace", 4, 2), ("Run", 1, 1)],
        [("m", "team:0", 3)],
    ]
    return rows, answers


@pytest.mark.parametrize("kind", SQL_DATABASES)
async def test_queries_of_the_page_give_what_they_say(kind: Any, tmp_path: Path) -> None:
    database = fresh(kind, tmp_path)
    rows, answers = asked_now()
    queries = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert len(queries) == len(answers)

    def work(connection: Connection) -> list[list[tuple[Any, ...]]]:
        for statement in rows:
            connection.execute(text(statement), {"head": b""} if ":head" in statement else {})
        filled = [query.replace(":player", "'ann'") for query in queries]
        return [[tuple(row) for row in connection.execute(text(query))] for query in filled]

    found = await migrations.run(database.url, work)
    plain = [[tuple(float(v) if type(v).__name__ == "Decimal" else v for v in row) for row in part] for part in found]
    assert plain == answers


@pytest.mark.parametrize("kind", SQL_DATABASES)
async def test_the_page_names_every_view_and_each_can_be_read(kind: Any, tmp_path: Path) -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)

    def work(connection: Connection) -> list[str]:
        for name in named:
            connection.execute(text(f"SELECT * FROM {name}")).all()
        tables = "SELECT name FROM sqlite_master WHERE type = 'view'"
        if kind == "postgres":
            tables = "SELECT viewname FROM pg_views WHERE schemaname = 'public'"
        return [row[0] for row in connection.execute(text(tables))]

    views = await migrations.run(fresh(kind, tmp_path).url, work)
    assert set(views) - {"friend_pairs", "blocks"} == set(named)
