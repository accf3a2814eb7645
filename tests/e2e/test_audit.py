"""`garrison audit` finds contents that are not those that clients were told, though version numbers are right (F61)."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.program import Running, here

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a demo that ended well."""
    place = tmp_path_factory.mktemp("played")
    plain = ("--status-every", "1", "--upgrade-after", "0", "--set", "columns.enabled=false")
    with Running("demo", "--players", "32", "--speed", "60", "--port", "0", "--json", *plain, cwd=place) as running:
        for _ in range(2):  # however long the machine takes for them: some matches are over, and others go on
            running.line(" over: ")
        running.interrupt()
        figures = running.figures()
    assert figures["matches_ended"] > 0
    assert figures["acknowledged_changes_lost"] == figures["differences"] == 0
    return place / ".garrison/demo"


def audit(home: Path) -> tuple[int, str, dict[str, int]]:
    arguments = ("--config", str(home / "garrison.toml"), "--set", f"store.url=sqlite:///{home / 'garrison.db'}")
    ran = here("audit", "--ledger", str(home / "ledger.json"), "--json", *arguments, cwd=home)
    return ran.returncode, ran.stderr, json.loads(ran.stdout)


def totals(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE players SET kills = 4711, wins = 4711")


def one_more_win(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE players SET wins = wins + 1 WHERE player_id = (SELECT min(player_id) FROM players)")


def names(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE players SET display_name = 'Mallory'")


def emblem(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE players SET emblem = 'skull' WHERE player_id = 'bot-0-0'")


def chunk_byte(database: sqlite3.Connection, _: Path) -> None:
    where = "rowid = (SELECT min(rowid) FROM log_chunks)"
    (data,) = database.execute(f"SELECT data FROM log_chunks WHERE {where}").fetchone()
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    database.execute(f"UPDATE log_chunks SET data = ? WHERE {where}", (bytes(flipped),))


def scoreboard(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE participants SET deaths = deaths + 1")


def winner(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE matches SET winner = 'nobody' WHERE phase = 'ended'")


def last_change(database: sqlite3.Connection, home: Path) -> None:
    version = json.loads((home / "ledger.json").read_text())["entities"]["player/bot-0-0"]
    database.execute("UPDATE players SET state_version = ? WHERE player_id = 'bot-0-0'", (version - 1,))


def whole_match(database: sqlite3.Connection, home: Path) -> None:
    match = json.loads((home / "ledger.json").read_text())["ended"][0]
    for table, column in (("matches", "match_id"), ("participants", "match_id"), ("log_chunks", "key")):
        database.execute(f"DELETE FROM {table} WHERE {column} = ?", (match,))


def other_history(_: sqlite3.Connection, home: Path) -> None:
    """A client was told of other events than the log has, though the log is good in itself."""
    ledger = json.loads((home / "ledger.json").read_text())
    ledger["events"][ledger["ended"][0]][2] = "00" * 32
    (home / "ledger.json").write_text(json.dumps(ledger))


def somebody_online(database: sqlite3.Connection, _: Path) -> None:
    database.execute("UPDATE players SET status = 'away' WHERE player_id = 'bot-0-0'")


def on_two_rosters(database: sqlite3.Connection, _: Path) -> None:
    """A match that goes on has somebody who says to be nowhere."""
    database.execute("UPDATE matches SET open_facts = 0 WHERE phase <> 'ended'")
    database.execute("UPDATE players SET current_match = '', open_facts = 0")


def in_a_match_that_is_over(database: sqlite3.Connection, _: Path) -> None:
    ended = "(SELECT min(match_id) FROM matches WHERE phase = 'ended' AND NOT open_facts)"
    database.execute(f"UPDATE players SET open_facts = 0, current_match = {ended} WHERE player_id = 'bot-0-0'")


def half_a_friendship(database: sqlite3.Connection, _: Path) -> None:
    befriend(database, "bot-0-0", "bot-0-1", "friend")
    database.execute("DELETE FROM friendships WHERE player_id = 'bot-0-1' AND other_id = 'bot-0-0'")


def an_invite_that_nobody_has(database: sqlite3.Connection, _: Path) -> None:
    befriend(database, "bot-0-0", "bot-0-1", "inviting")
    befriend(database, "bot-0-1", "bot-0-0", "friend")


def befriend(database: sqlite3.Connection, player: str, other: str, state: str) -> None:
    for name in (player, other):
        database.execute("INSERT OR IGNORE INTO friends (player_id) VALUES (?)", (name,))
    row = (player, other, state)
    database.execute("INSERT OR REPLACE INTO friendships (player_id, other_id, state) VALUES (?, ?, ?)", row)


def in_no_party(database: sqlite3.Connection, _: Path) -> None:
    row = ("a-party", 1, '["bot-0-0"]')
    database.execute("INSERT INTO parties (party_id, size, player_ids) VALUES (?, ?, ?)", row)


PLANTS = [
    (somebody_online, "different: player/bot-0-0: ", "nobody connected"),
    (on_two_rosters, "different: match/", "is on its roster"),
    (in_a_match_that_is_over, "different: player/bot-0-0: ", "does not have it"),
    (half_a_friendship, "different: friends/bot-0-0: ", "'none'"),
    (an_invite_that_nobody_has, "different: friends/bot-0-0: ", "'friend'"),
    (in_no_party, "different: party/a-party: ", "bot-0-0 is on its roster"),
    (totals, "different: player/bot-0-0: ", "the logs say "),
    (one_more_win, "different: player/", "the logs say "),
    (names, "lost from player/bot-0-0: ", "'Mallory'"),
    (emblem, "lost from player/bot-0-0: ", "'skull'"),
    (chunk_byte, "different: match/bot-", "does not verify"),
    (scoreboard, "different: match/bot-", "deaths "),
    (winner, "different: match/bot-", "winner 'nobody'"),
    (last_change, "lost from player/bot-0-0: ", "acknowledged"),
    (whole_match, "lost from match/bot-", "0 stored"),
    (other_history, "different: match/bot-", "others than those that were published"),
]


@pytest.mark.parametrize(("plant", "named", "why"), PLANTS, ids=[plant.__name__ for plant, _, _ in PLANTS])
def test_planted_difference_is_found_and_named(
    played: Path, tmp_path: Path, plant: Callable[[sqlite3.Connection, Path], None], named: str, why: str
) -> None:
    home = tmp_path / "demo"
    shutil.copytree(played, home)
    with sqlite3.connect(home / "garrison.db") as database:
        plant(database, home)
    database.close()
    code, said, found = audit(home)
    assert code == 1
    lines = "".join(said.split("\n")).replace("lost from", "\nlost from").replace("different:", "\ndifferent:")
    assert any(line.startswith(named) and why in line for line in lines.splitlines()), said
    counted = ("acknowledged_changes_lost", "differences", "ghosts", "unequal_friendships")
    assert sum(found[name] for name in counted) > 0


def test_store_that_agrees_with_everything_is_good(played: Path) -> None:
    code, said, found = audit(played)
    assert (code, said, found["differences"], found["acknowledged_changes_lost"]) == (0, "", 0, 0)
    assert found["replays_verified"] > 0
    ledger = json.loads((played / "ledger.json").read_text())
    assert set(ledger["ended"]) <= set(ledger["events"])
    assert all(ledger["events"][match][:2] == [1, ledger["matches"][match] - 1] for match in ledger["ended"])
    assert ledger["profiles"]["bot-0-0"]["shown"] is not None
