"""A studio's own application, end to end on both databases: its columns and their migrations, its store queries
(from clients, from operators, from its command), its console page and its admin action. `tests.support.tiny` is
that application; nothing of the engine is touched for it."""

import asyncio
import contextlib
import io
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import structlog
from sqlalchemy import Connection, text

import migrations
from migrations import ENGINE, history_of
from server.actors.app import App
from server.cli.app import run
from server.drivers import build_store, build_store_queries, load_app, upgrade_store
from server.errors import BadSetting
from server.ids import actor_id
from server.node import Node
from server.settings import Settings
from tests.integration.test_tiny_app_node import player, running, tiny_settings
from tests.support.chromium import browser, chromium_or_skip
from tests.support.databases import SQL_DATABASES, fresh
from tests.support.tiny import STUDIO, TinyApp

TINY = history_of("tiny", str(STUDIO / "migrations"))
AUTH = {"authorization": "Bearer operator"}


@pytest.fixture(params=SQL_DATABASES)
def engines_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database that has the engine's tables only."""
    return fresh(request.param, tmp_path).url


@pytest.fixture
def settings(engines_url: str, tmp_path: Path) -> Settings:
    return tiny_settings(tmp_path, store={"url": engines_url})


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Node, httpx.AsyncClient]]:
    await upgrade_store(settings)
    async with running(settings) as node, httpx.AsyncClient(base_url=f"{node.admin_url}/api/v1/", headers=AUTH) as http:
        yield node, http


async def rows_of(url: str, statement: str) -> list[tuple[Any, ...]]:
    def work(connection: Connection) -> list[tuple[Any, ...]]:
        done = connection.execute(text(statement))
        return [tuple(row) for row in done] if done.returns_rows else []

    return await migrations.run(url, work)


# ---- migrations ----


def garrison(*words: str) -> tuple[int, list[str]]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = run(words)
    return code, said.getvalue().splitlines()


def test_migrate_brings_the_engines_history_and_then_the_applications(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/own.db"
    words = ("migrate", "--app", "tests.support.tiny:TinyApp", "--set", f"store.url={url}")
    code, said = garrison(*words)
    assert (code, said) == (
        0,
        [f"{url} has its tables now, revision {migrations.newest()}", f"{url} tiny has its tables now, revision 0002"],
    )
    assert [line.split(url)[1] for line in garrison(*words)[1]] == [
        f" is up to date, revision {migrations.newest()}",
        " tiny is up to date, revision 0002",
    ]
    code, (refused,) = garrison(*words, "--down", "tiny:0001")
    assert code == 2 and "say --yes" in refused
    assert garrison(*words, "--down", "tiny:0001", "--yes") == (0, [f"{url} tiny is at revision 0001"])
    assert migrations.current(url) == migrations.newest()
    assert garrison(*words)[1][1] == f"{url} tiny went from revision 0001 to 0002"
    code, (refused,) = garrison(*words, "--down", "clans:0001", "--yes")
    assert code == 2 and "no application 'clans' with migrations" in refused
    code, (refused,) = garrison(*words, "--down", "tiny:0009", "--yes")
    assert code == 2 and refused.endswith("there are 0002, 0001, base")
    assert garrison(*words, "--down", "base", "--yes")[0] == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "own.db")) as database:
        left = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert left == {"alembic_version", "alembic_version_tiny"}


async def test_each_history_goes_down_and_up_without_the_other(engines_url: str) -> None:
    assert await migrations.current_async(engines_url, history=TINY) is None
    await migrations.upgrade_async(engines_url, history=TINY)
    await migrations.downgrade_async(engines_url, "0001", history=TINY)
    await rows_of(engines_url, "SELECT note FROM tiny_counters")
    await migrations.downgrade_async(engines_url, "0003", history=ENGINE)
    assert await migrations.current_async(engines_url, history=TINY) == "0001"
    await migrations.upgrade_async(engines_url, history=ENGINE)
    await migrations.upgrade_async(engines_url, history=TINY)
    assert await rows_of(engines_url, "SELECT count(total) FROM tiny_counters") == [(0,)]
    assert await migrations.current_async(engines_url) == migrations.newest()


async def test_node_does_not_open_a_store_without_its_applications_tables(settings: Settings) -> None:
    store = build_store(settings)
    with pytest.raises(BadSetting, match="has no tables of tiny and this program needs 0002: run `garrison migrate`"):
        await store.open()
    await migrations.upgrade_async(settings.store.url, "0001", history=TINY)
    with pytest.raises(BadSetting, match="has schema tiny: 0001 and this program needs 0002"):
        await build_store(settings).open()


async def test_database_of_a_newer_application_is_told_apart(settings: Settings) -> None:
    await upgrade_store(settings)
    await rows_of(settings.store.url, "UPDATE alembic_version_tiny SET version_num = '0009'")
    with pytest.raises(
        BadSetting, match=r"has schema tiny: 0009 and this program knows up to 0002: .*--down tiny:0002"
    ):
        await upgrade_store(settings)


@pytest.mark.parametrize(("name", "why"), [("Tiny", "small letters"), ("a" * 40, "small letters"), ("1st", "small")])
def test_name_that_cannot_be_part_of_a_table_is_refused(name: str, why: str) -> None:
    with pytest.raises(BadSetting, match=why):
        history_of(name, str(STUDIO / "migrations"))


def test_folder_without_migrations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="no folder"):
        history_of("tiny", str(tmp_path / "none"))
    with pytest.raises(BadSetting, match="no migration in"):
        migrations.newest(history_of("tiny", str(tmp_path)))


# ---- columns, queries, the admin API ----


async def test_states_stand_in_columns_and_come_back(settings: Settings) -> None:
    async with serving(settings) as (node, _), player(node, "ann") as ann:
        assert await ann.ask("add", "jar", 3) == ["sum", 3, 3]
        await node.write_behind.flush()
        assert await rows_of(settings.store.url, "SELECT counter_id, total FROM tiny_counters") == [("jar", 3)]
    assert await rows_of(settings.store.url, "SELECT count(*) FROM actors WHERE kind = 'counter'") == [(0,)]
    async with serving(settings) as (node, _), player(node, "ann") as ann:
        assert await ann.ask("add", "jar", 1) == ["sum", 3, 4]


async def test_client_message_becomes_a_store_query(settings: Settings) -> None:
    async with serving(settings) as (node, _), player(node, "ann") as ann:
        for key, n in (("a", 5), ("b", 9), ("c", 1)):
            await ann.ask("add", key, n)
        await node.write_behind.flush()
        assert await ann.ask("largest", 2) == ["rows", 6, [["b", 9], ["a", 5]]]
        await rows_of(settings.store.url, "ALTER TABLE tiny_counters RENAME TO away")
        assert (await ann.ask("largest", 2))[0] == "error"
        await rows_of(settings.store.url, "ALTER TABLE away RENAME TO tiny_counters")


async def test_console_routes_answer_operators_only(settings: Settings) -> None:
    async with serving(settings) as (node, http):
        for key, n in (("a", 5), ("b", 9)):
            await node.system.ask(actor_id("counter", key), "add", (n,))
        await node.write_behind.flush()
        assert (await http.get("counters")).json() == {"rows": [{"key": "b", "total": 9}, {"key": "a", "total": 5}]}
        assert (await http.get("counters?limit=1")).json() == {"rows": [{"key": "b", "total": 9}]}
        assert (await http.get("counters/a")).json() == {"key": "a", "total": 5}
        live = (await http.get("live-counters")).json()
        assert (sorted(live["rows"]), live["missing"]) == ([["a", 5], ["b", 9]], [])
        for path, status, code in (
            ("counters?limit=many", 400, "bad_input"),
            ("counters?colour=red", 400, "bad_input"),
            ("counters/no%20key", 400, "bad_input"),
            ("counters?" + "&".join(f"a{n}=1" for n in range(17)), 400, "bad_input"),
            ("nothing", 404, "not_found"),
        ):
            answer = await http.get(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
        refused = await http.get("counters", headers={"authorization": "Bearer another"})
        assert (refused.status_code, refused.json()["code"]) == (401, "bad_token")
        described = (await http.get(f"{node.admin_url}/api/openapi.json")).json()["paths"]
        assert described["/api/v1/counters/{key}"]["get"]["description"] == "The total of one counter as it is now."


async def test_action_changes_something_and_is_logged_with_its_principal(settings: Settings) -> None:
    async with serving(settings) as (node, http):
        with structlog.testing.capture_logs() as lines:
            done = await http.post("actions/grant", json={"key": "jar", "n": 7})
            assert (done.status_code, done.json()) == (
                200,
                {"total": 7, "granted_by": {"name": "admin", "role": "admin"}},
            )
            for body in ({"key": "jar"}, {"key": "jar", "n": 1, "m": 2}, {"key": "", "n": 1}):
                assert (await http.post("actions/grant", json=body)).status_code == 400
            assert (await http.post("actions/grant", content=b"{")).status_code == 400
            assert (await http.post("actions/steal", json={})).status_code == 404
            wrong = {"authorization": "Bearer x"}
            refused = await http.post("actions/grant", json={"key": "jar", "n": 7}, headers=wrong)
            assert refused.status_code == 401
            assert (await http.get("actions/grant")).status_code == 405
        told = [line for line in lines if line["event"] == "admin action"]
        assert [(line["action"], line["principal"], line["role"], line["ended"]) for line in told] == [
            ("grant", "admin", "admin", "done"),
            ("grant", "admin", "admin", "bad_input"),
        ]
        assert await node.system.ask(actor_id("counter", "jar"), "total", ()) == 7


async def test_command_of_the_application_runs(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serving(settings) as (node, _):
        await node.system.ask(actor_id("counter", "jar"), "add", (5,))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "garrison.toml").write_text('app = "tests.support.tiny:TinyApp"\n')
    monkeypatch.setenv("GARRISON_STORE__URL", settings.store.url)

    def garrison_here(*words: str) -> tuple[int, str, str]:
        code = run(words)
        return code, *capsys.readouterr()

    capsys.readouterr()  # the node's log
    code, said, _ = await asyncio.to_thread(garrison_here, "counters", "--json")
    assert (code, json.loads(said)) == (0, [{"key": "jar", "total": 5}])
    assert await asyncio.to_thread(garrison_here, "counters", "--at-least", "6") == (0, "", "")
    assert "counters" in (await asyncio.to_thread(garrison_here, "--help"))[1]
    code, _, why = await asyncio.to_thread(garrison_here, "matches")  # the game's: this application has none
    assert code == 2 and '"matches"' in why


# ---- what cannot be loaded ----


def replaced(**fields: Any) -> App:
    return msgspec.structs.replace(TinyApp, **fields)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"mappings": "tests.support.tiny_studio.tables:NONE"}, "cannot load"),
        ({"mappings": "persistence.game.mappings:MAPPINGS"}, "no stored actor 'player'"),
        ({"actors": (type("Lively", (TinyApp.actors[1],), {"lives_on": True}),)}, "lives on, so it needs a mapping"),
    ],
)
def test_tables_that_do_not_fit_the_actors_are_refused(tmp_path: Path, fields: dict[str, Any], why: str) -> None:
    if "actors" in fields:
        fields = {**fields, "mappings": None}
    with pytest.raises(BadSetting, match=why):
        build_store(tiny_settings(tmp_path), replaced(**fields))


def test_route_to_a_query_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="the route of Largest names 'largest'"):
        build_store_queries(tiny_settings(tmp_path), replaced(store_queries=None))


def test_command_with_a_name_of_garrisons_own_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "clashing.py").write_text(
        "import msgspec\nfrom tests.support.tiny import TinyApp\n"
        "App = msgspec.structs.replace(TinyApp, commands={'drain': 'clashing:register'})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GARRISON_APP", "clashing:App")
    code, (why,) = garrison("something")
    assert code == 2 and "cannot be called drain" in why


def test_help_goes_on_without_an_application_that_cannot_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GARRISON_APP", "nowhere.to.be:found")
    assert run(["--help"]) == 0
    said, why = capsys.readouterr()
    assert "drain" in said and "without the application's commands: setting app: cannot load nowhere" in why
    assert run(["matches"]) == 2
    assert "cannot load nowhere.to.be:found" in capsys.readouterr()[1]


def test_app_must_be_an_app(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="is not an App"):
        load_app(tiny_settings(tmp_path, app="tests.support.tiny:Counter"))


# ---- the page ----


@pytest.mark.browser
async def test_page_of_the_application_reads_and_acts(tmp_path: Path) -> None:
    chromium_or_skip()
    async with serving(tiny_settings(tmp_path)) as (node, _), browser() as page:
        await page.open(f"{node.admin_url}/#token=operator")
        await page.until("[...document.querySelectorAll('nav a')].some((a) => a.textContent === 'Counters')")
        await page.evaluate("location.hash = '#/counters'")
        await page.until("document.querySelector('main button') !== null")
        await page.evaluate("document.querySelector('main button').click()")
        await page.until("document.querySelector('.said').innerText === 'admin made it 5'")
        await page.until("document.querySelector('.counters').innerText.includes('jar: 5')")
        assert page.errors == []
