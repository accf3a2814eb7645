"""Matches that are over, by what they are found by, and one of them whole, on both databases."""

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Select, text
from sqlalchemy.dialects import postgresql, sqlite

import migrations
from game.careers.events import MedalCount
from game.history import answers
from game.history.asking import history_params, page_params, viewer
from game.history.messages import History, MatchHistory, MatchPage, MatchPageGet, OwnLine
from game.match.events import Property
from game.messages import PropertyIs
from persistence.game.history import HistoryAsked, PropertyWanted, match_history, match_page_of
from persistence.game.queries import QUERIES
from persistence.sql_queries import SqlStoreQueries
from server.actors.actor import Caller
from server.errors import BadInput, Forbidden, NotFound
from server.settings import StoreSettings
from tests.support.databases import SQL_DATABASES, TestDatabase, empty_url, fresh

ANN, EVE = Caller("player", "ann", "s"), Caller("player", "eve", "s")
OPS, REF = Caller("service", "ops", "s"), Caller("host", "ref", "s")
MATCHES = [
    # name, mode, map, ended, winner, private, listed, source, players
    ("m1", "slayer", "Recharge", 100, "team:0", False, False, "", {"ann": (0, "won"), "bob": (1, "lost")}),
    ("m2", "slayer", "Bazaar", 200, None, False, False, "", {"ann": (0, "tied"), "bob": (0, "tied")}),
    ("m3", "oddball", "Recharge", 200, "bob", False, False, "", {"ann": (None, "lost"), "bob": (None, "won")}),
    ("m4", "slayer", "Bazaar", 300, "team:1", True, False, "", {"ann": (0, "lost"), "bob": (1, "won")}),
    ("m5", "ctf_old", "Valhalla", 400, None, False, False, "imported:tf2", {"cyd": (None, "")}),
    ("m6", "slayer", "Bazaar", 500, "cyd", True, True, "", {"cyd": (None, "won")}),
    ("m7", "slayer", "Bazaar", 600, "cyd", None, False, "", {"cyd": (None, "won")}),
    ("live", "slayer", "Bazaar", 0, None, False, False, "", {"ann": (0, ""), "cyd": (1, "")}),
]
PROPERTIES: dict[str, list[tuple[str, str, int | None]]] = {
    "m1": [("playlist", "ranked", None), ("skill", "7", 7)],
    "m2": [("playlist", "ranked", None), ("skill", "7", None), ("beta", "true", None)],
    "m3": [("playlist", "social", None)],
}
TAGS = {"m1": ["cup", "final"], "m3": ["cup"]}


def _insert(connection: Connection, match: tuple[Any, ...]) -> None:
    name, mode, map_name, ended, winner, private, listed, source, players = match
    connection.execute(
        text(
            "INSERT INTO matches (match_id, head, next_seq, phase, mode, map_name, created_wall_ms, ended_wall_ms, "
            "winner, end_reason, private, listed, source, host, player_count, team_scores) VALUES (:m, :head, 9, "
            ":phase, :mode, :map, 5, :ended, :winner, 'score', :private, :listed, :source, 'ref', :count, '[3, 2]')"
        ),
        {"m": name, "head": b"\x01" * 32, "phase": "ended" if ended else "live", "mode": mode, "map": map_name,
         "ended": ended, "winner": winner, "private": private, "listed": listed, "source": source,
         "count": len(players)},
    )  # fmt: skip
    for player, (team, result) in players.items():
        connection.execute(
            text(
                "INSERT INTO participants (match_id, player_id, present, team, result, ended_wall_ms, kills, score) "
                "VALUES (:m, :p, :present, :t, :r, :e, 4, 6)"
            ),
            {"m": name, "p": player, "present": player != "bob", "t": team, "r": result, "e": ended},
        )
    for key, value, number in PROPERTIES.get(name, []):
        connection.execute(
            text(
                "INSERT INTO match_properties (match_id, name, value, number, ended_wall_ms) "
                "VALUES (:m, :k, :v, :n, :e)"
            ),
            {"m": name, "k": key, "v": value, "n": number, "e": ended},
        )
    for tag in TAGS.get(name, []):
        connection.execute(
            text("INSERT INTO match_tags (match_id, tag, ended_wall_ms) VALUES (:m, :t, :e)"),
            {"m": name, "t": tag, "e": ended},
        )


def _fill(connection: Connection) -> None:
    for match in MATCHES:
        _insert(connection, match)


class Asked:
    """The history, as clients ask for it."""

    def __init__(self, database: TestDatabase) -> None:
        self.url = database.url
        self.queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)

    async def change(self, work: Callable[[Connection], None]) -> None:
        await migrations.run(self.url, work)

    async def page(self, caller: Caller = OPS, **filters: Any) -> History:
        message = MatchHistory(1, **filters)
        return answers.history(
            message, await self.queries.run("match_history", history_params(viewer(caller), message))
        )

    async def names(self, caller: Caller = OPS, **filters: Any) -> list[str]:
        return [row.match for row in (await self.page(caller, **filters)).matches]

    async def whole(self, match: str, caller: Caller = OPS, **fields: Any) -> MatchPage:
        message = MatchPageGet(1, match, **fields)
        return answers.page(message, await self.queries.run("match_page", page_params(viewer(caller), message)))


@pytest.fixture(params=SQL_DATABASES)
async def asked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Asked]:
    asked = Asked(fresh(request.param, tmp_path))
    await asked.change(_fill)
    yield asked
    await asked.queries.close()


async def test_matches_are_found_by_each_filter_and_by_several(asked: Asked) -> None:
    assert await asked.names() == ["m7", "m6", "m5", "m4", "m3", "m2", "m1"]
    assert await asked.names(player="ann") == ["m4", "m3", "m2", "m1"]
    assert await asked.names(player="ann", opponent="bob") == ["m4", "m3", "m1"], "in m2 they were on one side"
    assert await asked.names(player="ann", opponent="cyd") == [], "their match goes on"
    assert await asked.names(mode="slayer", map_name="Bazaar") == ["m7", "m6", "m4", "m2"]
    assert await asked.names(map_name="Recharge") == ["m3", "m1"]
    assert [await asked.names(player="ann", result=result) for result in ("won", "lost", "tied")] == [
        ["m1"], ["m4", "m3"], ["m2"],
    ]  # fmt: skip
    assert await asked.names(from_ms=200, to_ms=400) == ["m4", "m3", "m2"]
    assert (await asked.names(imported=True), await asked.names(imported=False, from_ms=400)) == (["m5"], ["m7", "m6"])
    assert await asked.names(tags=["cup"]) == ["m3", "m1"]
    assert await asked.names(tags=["cup", "final"]) == ["m1"]
    assert await asked.names(properties=[PropertyIs("playlist", "ranked")]) == ["m2", "m1"]
    both = [PropertyIs("playlist", "ranked"), PropertyIs("beta", True)]
    assert await asked.names(properties=both) == ["m2"]
    assert [await asked.names(properties=[PropertyIs("skill", value)]) for value in (7, "7", 8)] == [["m1"], ["m2"], []]
    ranked = [PropertyIs("playlist", "ranked")]
    assert await asked.names(player="bob", mode="slayer", properties=ranked, tags=["cup"], result="lost") == ["m1"]


async def test_a_row_tells_of_the_match_and_of_the_player(asked: Asked) -> None:
    (row,) = (await asked.page(player="ann", result="won")).matches
    assert row.own == OwnLine(0, "won", 4, 0, 0, 0, 0, 6)
    assert (row.properties, row.tags) == ([Property("playlist", "ranked"), Property("skill", 7)], ["cup", "final"])
    assert (row.team_scores, row.player_count, row.winner, row.ended_wall_ms) == ([3, 2], 2, "team:0", 100)
    assert [row.own for row in (await asked.page(mode="oddball")).matches] == [None]


async def test_pages_go_on_where_they_were_though_matches_come_and_go(asked: Asked) -> None:
    first = await asked.page(limit=3)
    assert [row.match for row in first.matches] == ["m7", "m6", "m5"] and first.next is not None

    def change(connection: Connection) -> None:
        connection.execute(text("DELETE FROM matches WHERE match_id IN ('m5', 'm2')"))
        _insert(connection, ("new", "slayer", "Bazaar", 700, None, False, False, "", {}))

    await asked.change(change)
    second = await asked.page(limit=3, cursor=first.next)
    assert [row.match for row in second.matches] == ["m4", "m3", "m1"] and second.next is None
    ends = await asked.page(player="ann", limit=1)
    for name in ("m3", "m1"):  # of two that ended in the same ms one is gone
        assert ends.next is not None
        ends = await asked.page(player="ann", limit=1, cursor=ends.next)
        assert [row.match for row in ends.matches] == [name]
    assert ends.next is None


async def test_a_cursor_of_other_filters_or_of_nothing_is_refused(asked: Asked) -> None:
    page = await asked.page(mode="slayer", limit=1)
    assert page.next is not None
    assert await asked.names(mode="slayer", limit=2, cursor=page.next) == ["m6", "m4"], "a limit is no filter"
    with pytest.raises(BadInput, match="other filters"):
        await asked.page(mode="oddball", limit=1, cursor=page.next)
    for cursor in ("x", "_" * 160, "9/m1", page.next[:-2], "é"):
        with pytest.raises(BadInput, match="cursor"):
            await asked.page(mode="slayer", cursor=cursor)


async def test_private_matches_are_seen_by_who_took_part_and_the_host(asked: Asked) -> None:
    assert await asked.names(EVE) == ["m6", "m5", "m3", "m2", "m1"], "m6 is listed; of m7 its row does not say"
    assert await asked.names(ANN) == ["m6", "m5", "m4", "m3", "m2", "m1"]
    assert await asked.names(EVE, player="ann") == ["m3", "m2", "m1"]
    assert await asked.names(ANN, player="ann") == ["m4", "m3", "m2", "m1"]
    assert await asked.names(REF) == await asked.names(OPS)
    assert await asked.names(Caller("player", "ref", "s")) == await asked.names(EVE), "a player of the host's name"


async def test_a_match_with_a_delay_is_over_for_onlookers_after_it(asked: Asked) -> None:
    delayed = text("UPDATE matches SET delayed = :held WHERE match_id = 'm1'")
    await asked.change(lambda connection: connection.execute(delayed, {"held": True}).close())
    bob = Caller("player", "bob", "s")
    for caller, sees in ((ANN, True), (REF, True), (OPS, True), (EVE, False), (bob, False)):
        assert ("m1" in await asked.names(caller, map_name="Recharge")) == sees, caller
    for onlooker in (EVE, bob):  # bob left before the end
        with pytest.raises(NotFound, match="not over"):
            await asked.whole("m1", onlooker)
    assert (await asked.whole("m1", ANN)).match == "m1"
    await asked.change(lambda connection: connection.execute(delayed, {"held": False}).close())
    assert "m1" in await asked.names(EVE) and "m1" in await asked.names(bob, player="bob")


async def test_a_mode_or_a_property_that_never_was_is_named(asked: Asked) -> None:
    with pytest.raises(BadInput, match="property 'colour'"):
        await asked.page(properties=[PropertyIs("playlist", "ranked"), PropertyIs("colour", "red")])
    with pytest.raises(BadInput, match="property 'Bad Name'"):
        await asked.page(properties=[PropertyIs("Bad Name", 1)])
    with pytest.raises(BadInput, match="mode 'tennis'"):
        await asked.page(mode="tennis")
    with pytest.raises(BadInput, match="player"):
        await asked.page(opponent="ann")
    assert await asked.names(mode="king_of_the_hill") == [], "a mode that the server has"
    assert await asked.names(mode="ctf_old") == ["m5"], "a mode that matches have"
    assert await asked.names(mode="slayer", properties=[PropertyIs("playlist", "none")]) == []


async def test_a_match_is_told_whole(asked: Asked) -> None:
    def insert(connection: Connection) -> None:
        for statement in (
            "INSERT INTO players (player_id, display_name) VALUES ('bob', 'Bob B.'), ('ann', 'Ann')",
            "UPDATE participants SET name = '[x] Ann' WHERE player_id = 'ann'",
            "UPDATE participants SET score = 9 WHERE player_id = 'bob'",
            "INSERT INTO careers (player_id, match_id, birth, season, rating_group, best_streak, played_ms, mu, "
            "log_sigma) VALUES ('ann', 'm1', 5, 's1', 'slayer', 3, 60000, 1500, -20), "
            "('bob', 'm1', 4, '', '', 9, 9, 9, 9)",
        ):
            connection.execute(text(statement))
        connection.execute(text("UPDATE careers SET medal_names = :n WHERE birth = 5"), {"n": json.dumps({"Ace": 2})})

    await asked.change(insert)
    page = await asked.whole("m1", EVE)
    bob, ann = page.lines
    assert (bob.player, bob.name, bob.present, bob.result, bob.best_streak) == ("bob", "Bob B.", False, "lost", 0)
    assert (ann.name, ann.best_streak, ann.played_ms, ann.mu, ann.log_sigma) == ("[x] Ann", 3, 60_000, 1_500, -20)
    assert ann.named_medals == [MedalCount("Ace", 2)]
    assert (page.season, page.rating_group, page.tags, page.next_seq) == ("s1", "slayer", ["cup", "final"], 9)
    assert page.mark == "01" * 8 and page.next_skip is None and not page.private and not page.pinned
    pin = text("UPDATE matches SET pinned = true WHERE match_id = 'm1'")
    await asked.change(lambda connection: connection.execute(pin).close())
    assert (await asked.whole("m1")).pinned
    marks = [("match", "m1", 1), ("match", "m1", 2), ("match", "m2", 1), ("other", "m1", 1)]

    def redact(connection: Connection) -> None:
        for kind, key, number in marks:
            values = {"k": kind, "m": key, "n": number, "h": b"\x02" * 32}
            statement = (
                "INSERT INTO redactions (kind, key, number, wall_ms, head, events) VALUES (:k, :m, :n, 5, :h, 1)"
            )
            connection.execute(text(statement), values)

    await asked.change(redact)
    assert [(await asked.whole(name)).redacted for name in ("m1", "m2", "m3")] == [2, 1, 0]
    first = await asked.whole("m1", limit=1)
    assert ([line.player for line in first.lines], first.next_skip) == (["bob"], 1)
    assert [line.player for line in (await asked.whole("m1", skip=1)).lines] == ["ann"]


async def test_a_match_is_told_to_whom_it_may_be(asked: Asked) -> None:
    for caller in (ANN, REF, OPS):
        assert (await asked.whole("m4", caller)).private
    with pytest.raises(Forbidden):
        await asked.whole("m4", EVE)
    assert (await asked.whole("m6", EVE)).listed
    with pytest.raises(NotFound, match="not over"):
        await asked.whole("live", EVE)
    assert (await asked.whole("live", ANN)).phase == "live"
    with pytest.raises(NotFound):
        await asked.whole("m99")


FILTERS: list[dict[str, Any]] = [
    {},
    {"end_ms": 300, "end_match": "m4"},
    {"from_ms": 100, "to_ms": 500},
    {"player": "ann"},
    {"player": "ann", "end_ms": 300, "end_match": "m4"},
    {"player": "ann", "opponent": "bob", "result": "won"},
    {"player": "ann", "mode": "slayer", "map_name": "Bazaar", "tags": ["cup"]},
    {"mode": "slayer"},
    {"mode": "slayer", "end_ms": 300, "end_match": "m4"},
    {"map_name": "Bazaar"},
    {"properties": [PropertyWanted("playlist", "ranked")]},
    {"properties": [PropertyWanted("skill", "7", 7), PropertyWanted("playlist", "ranked")], "mode": "slayer"},
    {"tags": ["cup", "final"], "viewer": "eve"},
]


@pytest.mark.parametrize("kind", SQL_DATABASES)
async def test_a_page_walks_an_index_and_sorts_nothing(kind: str, tmp_path: Path) -> None:
    database = fresh(kind, tmp_path)
    dialect: Any = sqlite.dialect() if kind == "sqlite" else postgresql.dialect()  # type: ignore[no-untyped-call]

    def plan(connection: Connection, statement: Select[Any]) -> str:
        sql = str(statement.limit(20).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN" if kind == "sqlite" else "EXPLAIN"
        return "\n".join(str(tuple(row)) for row in connection.exec_driver_sql(f"{explain} {sql.replace('%%', '%')}"))

    def work(connection: Connection) -> None:
        _fill(connection)
        if kind == "postgres":
            for way in ("seqscan", "bitmapscan", "sort"):  # of tables as small as these
                connection.execute(text(f"SET enable_{way} = off"))
        scan, sort = ("SCAN", "TEMP B-TREE") if kind == "sqlite" else ("Seq Scan", "Sort")
        by_source = HistoryAsked(imported=True)
        assert scan in plan(connection, Select(migrations.metadata().tables["nodes"])), "what it must find"
        for given in [HistoryAsked(**filters) for filters in FILTERS] + [by_source]:
            found = plan(connection, match_page_of(given))
            assert scan not in found.replace("SCAN matches USING INDEX ix_matches_ended", ""), (given, found)
            assert sort not in found, (given, found)
            assert scan not in plan(connection, match_history(given)).replace("SCAN page", "").replace(
                "SCAN known", ""
            ).replace("SCAN CONSTANT ROW", ""), given

    await migrations.run(database.url, work)


@pytest.mark.parametrize("kind", SQL_DATABASES)
async def test_matches_of_earlier_versions_are_found_after_the_migration(kind: str, tmp_path: Path) -> None:
    url = empty_url(kind, tmp_path)
    await migrations.upgrade_async(url, "0015")

    def insert(connection: Connection) -> None:
        for statement in (
            "INSERT INTO matches (match_id, head, next_seq, phase, mode, created_wall_ms, started_wall_ms, "
            "ended_wall_ms, winner, end_reason) VALUES "
            "('m1', :head, 9, 'ended', 'slayer', 5, 6, 100, 'team:0', 'score'), "
            "('m2', :head, 9, 'ended', 'slayer', 5, 6, 200, NULL, 'time'), "
            "('m3', :head, 9, 'ended', 'slayer', 5, 6, 300, NULL, 'abandoned'), "
            "('m4', :head, 9, 'live', 'slayer', 5, 0, 0, NULL, NULL)",
            "INSERT INTO participants (match_id, player_id, present, team) VALUES ('m1', 'ann', true, 0), "
            "('m1', 'bob', false, 0), ('m1', 'cyd', true, 1), ('m2', 'ann', true, NULL), ('m3', 'ann', true, 0), "
            "('m4', 'ann', true, 0)",
            "INSERT INTO careers (player_id, match_id, birth, won) VALUES ('bob', 'm1', 5, false)",
            "INSERT INTO match_tags (match_id, tag) VALUES ('m1', 'cup'), ('m4', 'cup')",
            "INSERT INTO match_properties (match_id, name, value) VALUES ('m3', 'source', 'imported:tf2')",
        ):
            connection.execute(text(statement), {"head": b""} if ":head" in statement else {})

    await migrations.run(url, insert)
    await migrations.upgrade_async(url)
    asked = Asked(TestDatabase(kind, url))
    try:
        assert await asked.names(player="ann") == ["m3", "m2", "m1"]
        results = [
            await asked.names(player=player, result=result)
            for player, result in (("ann", "won"), ("bob", "lost"), ("cyd", "lost"), ("ann", "tied"))
        ]
        assert results == [["m1"], ["m1"], ["m1"], ["m2"]], "bob left early, and its career says that it lost"
        assert (await asked.names(tags=["cup"]), await asked.names(EVE), await asked.names(ANN)) == (
            ["m1"], [], ["m3", "m2", "m1"],
        )  # fmt: skip
        assert (await asked.whole("m1")).player_count == 3
        assert (await asked.names(imported=True), await asked.names(imported=False)) == (["m3"], ["m2", "m1"])
    finally:
        await asked.queries.close()
