"""Careers counted anew from logs: what is wrong in the store is found, and mended, on both databases."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Connection, text

import migrations
from game.careers import ratings
from game.careers.recount import recounted
from game.careers.tally import Tally
from game.commands.recounting import Recounting, Report
from game.match.results import rated
from game.match.state import Origin
from game.messages import Assist, Kill, Medal
from game.player.state import PlayerState, SettledMatch
from server.cli.app import run as command
from server.errors import BadSetting
from server.eventlog.ports import WholeLog
from server.ids import Epoch, NodeAddress, actor_id
from server.settings import Settings, from_tree
from server.storage.ports import Change, Claim
from tests.support.databases import SQL_DATABASES, TestDatabase, fresh
from tests.support.matches import Played
from tests.support.stores import LEASE_S, A

PLAYERS = ("ann", "bob", "cyd")
NOBODY = "zed"
TABLES = {
    "careers": "player_id, match_id, birth, ended_wall_ms, mode, season, won, kills, deaths, assists, medals, "
    "best_streak, played_ms, rating_group, mu, log_sigma, medal_names",
    "career_totals": "player_id, mode, season, matches, wins, kills, deaths, assists, medals, best_streak, played_ms, "
    "best_kills, best_match",
    "career_medals": "player_id, mode, season, medal, earned",
    "ratings": "player_id, rating_group, mu, log_sigma, matches",
    "players": "player_id, matches, wins, kills, deaths, assists, medals",
}
NO_NODE = "UPDATE nodes SET state = 'left', lease_until = NULL"


def played(number: int) -> Played:
    """A match that is over and rated."""
    match = Played()
    match.wall_ms += number * 1_000_000
    match.create(mode="slayer" if number % 2 else "free_for_all", teams=0, countdown_ms=0).join(*PLAYERS).start()
    for at in range(2 + number):
        killer, victim = PLAYERS[at % 3], PLAYERS[(at + 1) % 3]
        match.report(
            Kill(at * 10, killer, victim), Medal(at * 10, killer, f"Ace'{at % 2}"), Assist(at * 10, PLAYERS[at % 2])
        )
    if number == 4:  # more sums than a query gives where it is not told how many
        match.report(*(Medal(200, player, f"Medal {place}") for player in PLAYERS for place in range(50)))
    match.wall_ms += 90_000
    match.end(90_000)
    tally = Tally()
    tally.take_all(record.event for record in match.records)
    changes = {player: (1_000 * number + place, -place) for place, player in enumerate(PLAYERS)}
    results = ratings.results(match.state, tally, changes)
    match.emit(list(rated(match.state, f"s{number // 2}", "slayer", results)))
    return match


MATCHES = {f"m{number}": played(number) for number in range(1, 5)}


async def fill(database: TestDatabase) -> None:
    """The matches of `MATCHES`, told to all of their players, by the store's own statements."""
    async with database.connect() as (store, logs):
        for name, match in MATCHES.items():
            log = match.stored(8)
            await logs.insert_log("match", actor_id("match", name), WholeLog(log.head, log.chunks, match.state))
        me = NodeAddress(A, await store.register_node(A, LEASE_S))
        await store.claim("player", [Claim(actor_id("player", player), 1) for player in PLAYERS], me)
        for player in PLAYERS:
            state = PlayerState(display_name=player)
            for version, (name, match) in enumerate(MATCHES.items(), 1):
                found = recounted(name, match.stored(8))
                assert found is not None
                state = told(state, found.rows[player], version)
                await store.write("player", [Change(actor_id("player", player), Epoch(1), version, state)])
    await run(database, NO_NODE)


def told(state: PlayerState, row: Any, version: int) -> PlayerState:
    gain = row.gain
    done = SettledMatch(row.match, row.ended_wall_ms, row.birth, version, gain)
    return replace(
        state,
        matches=state.matches + 1, wins=state.wins + gain.won, kills=state.kills + gain.kills,
        deaths=state.deaths + gain.deaths, assists=state.assists + gain.assists, medals=state.medals + gain.medals,
        settled=(*state.settled, done),
    )  # fmt: skip


async def run(database: TestDatabase, *statements: str) -> None:
    def work(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    await migrations.run(database.url, work)


def do(database: TestDatabase, *statements: str) -> None:
    asyncio.run(run(database, *statements))


def dump(database: TestDatabase) -> dict[str, list[tuple[Any, ...]]]:
    """All that is stored of careers."""

    def work(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
        found = {}
        for table, columns in TABLES.items():
            rows = connection.execute(text(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3"))
            found[table] = sorted(tuple(_plain(value) for value in row) for row in rows)
        return found

    found: dict[str, list[tuple[Any, ...]]] = asyncio.run(migrations.run(database.url, work))
    return found


def _plain(value: Any) -> Any:
    """A JSON column as text, whatever the driver makes of it."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str) and value.startswith("{"):
        return json.dumps(json.loads(value), sort_keys=True)
    return int(value) if isinstance(value, bool) else value


@pytest.fixture(params=SQL_DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TestDatabase]:
    made = fresh(request.param, tmp_path)
    asyncio.run(fill(made))
    return made


def settings_of(database: TestDatabase) -> Settings:
    return from_tree({"store": {"url": database.url}})


def check(database: TestDatabase) -> Report:
    report = Report()
    Recounting(settings_of(database), 1).run(report)
    return report


def rebuild(database: TestDatabase) -> Report:
    report = Report()
    Recounting(settings_of(database), 1, mends=True).run(report)
    return report


COPIED = TABLES["careers"]
WRONG: dict[str, tuple[list[str], set[tuple[str, str, str, str]]]] = {
    "a changed sum": (
        ["UPDATE career_totals SET kills = kills + 1 WHERE player_id = 'ann' AND mode = 'slayer' AND season = 's0'"],
        {("career_totals", "differs", "ann", "kills")},
    ),
    "a sum that is gone": (
        ["DELETE FROM career_totals WHERE player_id = 'ann' AND season = 's0'"],
        {("career_totals", "missing", "ann", "row")},
    ),
    "a missing row": (
        ["DELETE FROM careers WHERE player_id = 'bob' AND match_id = 'm2'"],
        {("careers", "missing", "bob", "row")},
    ),
    "a doubled row, summed up": (
        [
            f"INSERT INTO careers ({COPIED}) SELECT {COPIED.replace('birth', 'birth + 1', 1)} FROM careers "
            "WHERE player_id = 'cyd' AND match_id = 'm3'",
            "UPDATE career_totals SET matches = matches + 1 WHERE player_id = 'cyd' AND mode = 'slayer' "
            "AND season = 's1'",
            "UPDATE players SET matches = matches + 1 WHERE player_id = 'cyd'",
        ],
        {
            ("careers", "doubled", "cyd", "row"),
            ("career_totals", "differs", "cyd", "matches"),
            ("players", "differs", "cyd", "matches"),
        },
    ),
    "rows of nobody": (
        [
            "INSERT INTO careers (player_id, match_id, birth, mode, kills) "
            f"SELECT '{NOBODY}', match_id, created_wall_ms, 'slayer', 3 FROM matches WHERE match_id = 'm1'",
            "INSERT INTO career_totals (player_id, mode, season, matches) VALUES ('bob', 'oddball', '', 1)",
        ],
        {("careers", "groundless", NOBODY, "row"), ("career_totals", "groundless", "bob", "row")},
    ),
    "a wrong difference of a rating": (
        ["UPDATE careers SET mu = mu + 7 WHERE player_id = 'ann' AND match_id = 'm1'"],
        {("careers", "differs", "ann", "mu")},
    ),
    "a wrong rating": (
        ["UPDATE ratings SET log_sigma = log_sigma - 1, matches = 9 WHERE player_id = 'bob'"],
        {("ratings", "differs", "bob", "log_sigma"), ("ratings", "differs", "bob", "matches")},
    ),
    "a wrong medal": (
        [
            "UPDATE careers SET medal_names = '{\"Ace''0\": 50}' WHERE player_id = 'ann' AND match_id = 'm4'",
            "UPDATE career_medals SET earned = earned + 1 WHERE player_id = 'bob' AND season = 's0' "
            "AND medal = 'Ace''1'",
        ],
        {("careers", "differs", "ann", "names"), ("career_medals", "differs", "bob", "Ace'1: earned")},
    ),
    "a match that was won by somebody else, in another season, and a best game": (
        [
            "UPDATE careers SET won = NOT won, season = 's9' WHERE player_id = 'cyd' AND match_id = 'm2'",
            "UPDATE career_totals SET best_match = 'm0' WHERE player_id = 'ann' AND mode = 'slayer' AND season = 's1'",
        ],
        {
            ("careers", "differs", "cyd", "won"),
            ("careers", "differs", "cyd", "season"),
            ("career_totals", "differs", "ann", "best_match"),
        },
    ),
}


def test_each_wrong_number_is_found_and_mended(database: TestDatabase) -> None:
    sound = dump(database)
    clean = check(database)
    assert (clean.differences, clean.matches, clean.players, clean.waiting) == (0, 4, 3, 0), clean.listed
    assert clean.events == sum(len(match.records) for match in MATCHES.values()) and not clean.kinds
    apart = "a sum that is gone"  # of another that is changed
    for names in ([name for name in WRONG if name != apart], [apart]):
        do(database, *(statement for name in names for statement in WRONG[name][0]))
        expected = set().union(*(WRONG[name][1] for name in names))
        planted = dump(database)
        found = check(database)
        assert {(each.table, each.what, each.player, each.field) for each in found.listed} == expected
        assert dump(database) == planted, "a check writes nothing"
        mended = rebuild(database)
        assert mended.mended and mended.differences >= len(expected)
        assert dump(database) == sound
    assert check(database).differences == 0


def test_numbers_that_differ_are_told(database: TestDatabase) -> None:
    do(database, WRONG["a changed sum"][0][0])
    (found,) = check(database).listed
    due = sum(record.event == Kill(record.event.time_ms, "ann", "bob") for record in MATCHES["m1"].records)
    assert (found.mode, found.season, found.stored, found.recounted) == ("slayer", "s0", due + 1, due)


def test_results_that_are_not_told_yet_are_waited_for(database: TestDatabase) -> None:
    """Its row says that facts are open: the node that tells them will add the row and the sums."""
    do(database, *WRONG["a missing row"][0], "UPDATE matches SET open_facts = true WHERE match_id = 'm2'")
    do(
        database,
        "UPDATE career_totals SET matches = matches - 1 WHERE player_id = 'bob' AND mode = 'free_for_all'",
        "UPDATE matches SET open_facts = true WHERE match_id = 'm3'",
    )
    found = check(database)
    assert found.waiting == 1
    assert not [each for each in found.listed if each.table == "careers"]
    rows = len(dump(database)["careers"])
    assert rebuild(database).waiting == 1
    assert len(dump(database)["careers"]) == rows, "the row is its match's to give"


def test_nothing_is_written_while_a_node_is_up_or_a_journal_is_open(database: TestDatabase) -> None:
    do(database, *WRONG["a changed sum"][0])
    before = dump(database)
    up = "UPDATE nodes SET state = 'up', lease_until = 99999999999"
    do(database, up)
    with pytest.raises(BadSetting, match="stop every node"):
        rebuild(database)
    assert check(database).differences == 1, "it may be compared"
    for state in ("dead", "up"):  # nobody has noticed the death of the last node
        do(database, f"UPDATE nodes SET state = '{state}', lease_until = 1, journal = '/j'")
        with pytest.raises(BadSetting, match="has left a journal"):
            rebuild(database)
    assert dump(database) == before


def test_matches_that_cannot_be_counted_are_named_and_their_rows_stay(database: TestDatabase) -> None:
    sound = dump(database)
    do(
        database,
        "DELETE FROM log_chunks WHERE key = 'm1'",
        "UPDATE matches SET next_seq = next_seq + 1 WHERE match_id = 'm2'",
        "DELETE FROM log_chunks WHERE key = 'm3'",
        "DELETE FROM participants WHERE match_id = 'm3'",
        "DELETE FROM matches WHERE match_id = 'm3'",
        "INSERT INTO redactions (kind, key, number, wall_ms, head, events) "
        "SELECT 'match', match_id, 1, 5, head, 1 FROM matches WHERE match_id = 'm4'",
    )
    found = rebuild(database)
    assert found.differences == 0, found.listed
    named = {kind: named.named for kind, named in found.kinds.items()}
    assert named == {"gone": ["m1"], "damaged": ["m2"], "redacted": ["m4"]}
    assert found.rows_without_logs == 3 and dump(database) == sound


def test_a_match_that_is_not_to_count_gives_nobody_anything(tmp_path: Path) -> None:
    """One from a `.garrison` file has a log that would count; its row says that it does not."""
    database = fresh("sqlite", tmp_path)

    async def fill_two() -> None:
        async with database.connect() as (_, logs):
            for name, counts in (("m1", True), ("m2", False)):
                log, state = MATCHES[name].stored(8), MATCHES[name].state
                state = state if counts else replace(state, origin=Origin("imported:garrison", False))
                await logs.insert_log("match", actor_id("match", name), WholeLog(log.head, log.chunks, state))

    asyncio.run(fill_two())
    do(database, "UPDATE matches SET open_facts = false")
    found = check(database)
    assert {(each.match, each.what) for each in found.listed} == {("m1", "missing")}


def test_the_command_tells_differences_and_ends_with_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = fresh("sqlite", tmp_path)
    asyncio.run(fill(database))
    words = ("stats", "rebuild", "--processes", "1", "--set", f"store.url={database.url}")
    assert command((*words, "--check")) == 0
    assert "0 differences; 4 matches" in capsys.readouterr().out
    do(database, *WRONG["a changed sum"][0], *WRONG["a missing row"][0])
    assert command((*words, "--check")) == 1
    said = capsys.readouterr().out
    assert "career_totals: ann, slayer s0: kills is " in said
    assert "careers: bob, free_for_all s1: row of match m2 is missing" in said
    assert command((*words, "--json")) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["differences"], figures["check"], figures["kinds"]) == (figures["mended"], False, {})
    assert command((*words, "--check", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["differences"] == 0
    do(database, "UPDATE nodes SET state = 'up', lease_until = 99999999999")
    assert command(words) == 2
    assert "stop every node before this" in capsys.readouterr().err
