"""The queries of docs/analysts.md, on both databases."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

import migrations
from tests.support.databases import SQL_DATABASES, fresh

PAGE = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text("utf-8")
NOW_MS = 10_000_000_000
ROWS = (
    "INSERT INTO players (player_id, status, last_seen_ms) VALUES ('ann', 'online', 1), "
    "('bob', 'offline', 9999900000), ('cyd', 'offline', 1), ('eve', 'invisible', 1)",
    "INSERT INTO matches (match_id, head, next_seq, phase, mode, map_name, created_wall_ms) VALUES "
    "('m', '', 9, 'ended', 'slayer', 'Recharge', 5), ('n', '', 9, 'ended', 'slayer', 'Recharge', 7)",
    "INSERT INTO participants (match_id, player_id, present, team) VALUES ('m', 'ann', true, 0), "
    "('m', 'bob', true, 0), ('m', 'cyd', true, 1), ('n', 'ann', true, NULL), ('n', 'bob', true, NULL)",
    "INSERT INTO careers (player_id, match_id, birth, ended_wall_ms, mode, won, kills, deaths) VALUES "
    "('ann', 'm', 5, 9999999999, 'slayer', true, 6, 2), ('cyd', 'm', 5, 9999999999, 'slayer', false, 3, 4), "
    "('ann', 'n', 7, 11, 'slayer', false, 1, 0)",
    "INSERT INTO career_medals (player_id, mode, season, medal, earned) VALUES ('ann', 'slayer', '', 'Ace', 2), "
    "('ann', 'ctf', '', 'Ace', 1), ('bob', 'ctf', '', 'Ace', 1), ('bob', 'ctf', '', 'Run', 1)",
)
ANSWERS: list[list[tuple[Any, ...]]] = [
    [("bob", "offline", 9_999_900_000), ("ann", "online", 1)],
    [("ann", 6, 1), ("cyd", 3, 1)],
    [
        ("m", "slayer", "Recharge", True, 6, 2, 9_999_999_999, "cyd"),
        ("n", "slayer", "Recharge", False, 1, 0, 11, "bob"),
    ],
    [("Recharge", "slayer", 10, 6, pytest.approx(10 / 6))],
    [("Ace", 4, 2), ("Run", 1, 1)],
]


@pytest.mark.parametrize("kind", SQL_DATABASES)
async def test_queries_of_the_page_give_what_they_say(kind: Any, tmp_path: Path) -> None:
    database = fresh(kind, tmp_path)
    queries = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    assert len(queries) == len(ANSWERS)

    def work(connection: Connection) -> list[list[tuple[Any, ...]]]:
        for statement in ROWS:
            connection.execute(text(statement))
        filled = [query.replace(":now_ms", str(NOW_MS)).replace(":player", "'ann'") for query in queries]
        return [[tuple(row) for row in connection.execute(text(query))] for query in filled]

    found = await migrations.run(database.url, work)
    plain = [[tuple(float(v) if type(v).__name__ == "Decimal" else v for v in row) for row in rows] for rows in found]
    assert plain == ANSWERS
