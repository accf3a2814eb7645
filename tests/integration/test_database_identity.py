"""A database's identity (F1 to F3): its name, the place where nodes found it last, and the command that an operator
says what became of it with."""

import json
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url

import migrations
from persistence.engine.identity import is_new, is_same
from persistence.engine.urls import parse
from persistence.identity_changes import EPOCHS, INCARNATIONS
from server.cli.app import run
from server.errors import BadSetting, Corrupt
from server.ids import Epoch, NodeAddress, NodeId
from server.storage.ports import Claim, Owned
from tests.support.databases import SQL_DATABASES, fresh, off_loop, postgres_server, sql_store
from tests.support.stores import owned

pytestmark = pytest.mark.parametrize("kind", SQL_DATABASES)


@pytest.fixture
def url(kind: str, tmp_path: Path) -> str:
    return fresh(kind, tmp_path).url


def copy(url: str) -> str:
    """The URL of a copy, as a dump that is restored beside the original makes one."""
    address = parse(url)
    if address.dialect == "sqlite":
        there = address.path.with_name(f"copy-of-{address.path.name}")
        shutil.copy(address.path, there)
        return f"sqlite:///{there}"
    name = str(make_url(url).database)
    postgres_server().create(f"{name}_copy", name)
    return postgres_server().url(f"{name}_copy")


def fetch(url: str, statement: str) -> list[tuple[Any, ...]]:
    address = parse(url)
    if address.dialect == "sqlite":
        with closing(sqlite3.connect(address.path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    async def asked() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    return off_loop(asked())


def garrison(url: str, *words: str) -> int:
    """The exit code of `garrison database`, run beside the test's loop."""
    arguments = ["database", *words, "--set", f"store.url={url}", "--set", "app=tests.support.tiny:TinyApp"]
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(run, arguments).result()


async def opened(url: str) -> str:
    """The name of the database on which a node's store opens."""
    store = sql_store(url)
    await store.open()
    await store.close()
    return store.identity.name


async def lived(url: str, *keys: str, lease_s: float = 0.001) -> tuple[NodeAddress, Owned]:
    """A run of node `n` that owned these wallets and died with a journal."""
    store = sql_store(url)
    await store.open()
    try:
        me = NodeAddress(NodeId("n"), await store.register_node(NodeId("n"), lease_s, "local:n:some:place"))
        last = [await owned(store, "wallet", Claim(f"wallet/{key}", 1), me) for key in sorted(keys)]  # type: ignore[arg-type]
    finally:
        await store.close()
    return me, last[-1]


async def test_the_migration_gives_each_database_a_name_and_the_first_node_writes_its_place(
    kind: str, tmp_path: Path
) -> None:
    url, other = fresh(kind, tmp_path).url, fresh(kind, tmp_path).url
    migrations.downgrade(other, "0006")
    migrations.upgrade(other)
    before = fetch(url, "SELECT uuid, timeline, place FROM database_identity")
    assert before[0][1:] == (1, "") and before != fetch(other, "SELECT uuid, timeline, place FROM database_identity")
    name = await opened(url)
    assert name == f"{before[0][0]}.1" == await opened(url)
    (place,) = fetch(url, "SELECT place FROM database_identity")[0]
    assert place.startswith("postgresql:" if kind == "postgres" else "sqlite:") and "?" not in place
    assert not is_same(place, place + "1") and is_new("", place) and not is_new(place, place)
    register = sql_store(url)
    await register.open()
    await register.register_node(NodeId("n"), 1.0)
    await register.close()
    assert fetch(url, "SELECT database FROM nodes") == [(before[0][0],)]


async def test_nodes_refuse_a_copy_with_one_line_that_names_the_commands(url: str) -> None:
    await opened(url)
    there = copy(url)
    with pytest.raises(BadSetting) as refused:
        await opened(there)
    line = refused.value.message
    assert "\n" not in line and "garrison database moved" in line and "garrison database copy" in line
    assert "garrison database restored" in line
    assert await opened(url)
    reading = sql_store(there)
    await reading.open(reads_only=True)  # what only reads may look at a copy
    await reading.close()


async def test_a_database_that_moved_keeps_its_name_and_its_runs(url: str) -> None:
    name, (me, _) = await opened(url), await lived(url, "one")
    there = copy(url)
    assert garrison(there, "moved", "--yes") == 0
    assert await opened(there) == name
    assert fetch(there, "SELECT journal FROM nodes") == [("local:n:some:place",)]
    assert [row[0] for row in fetch(there, "SELECT incarnation FROM nodes")] == [me.incarnation]


async def test_a_copy_gets_a_name_of_its_own_and_its_original_s_runs_are_closed(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, (me, _) = await opened(url), await lived(url, "one", "two")
    there = copy(url)
    assert garrison(there, "copy", "--yes") == 0
    told = capsys.readouterr().err
    assert f"run {me} of the original is closed; it owned 2 entities; its journal is left alone" in told
    assert await opened(there) != name and await opened(url) == name
    assert fetch(there, "SELECT state, journal FROM nodes") == [("dead", "")]
    assert fetch(url, "SELECT journal FROM nodes") == [("local:n:some:place",)]
    store = sql_store(there)
    await store.open()
    assert await store.estates() == []
    new = NodeAddress(NodeId("m"), await store.register_node(NodeId("m"), 30.0))
    found = await store.claim("wallet", [Claim("wallet/one", 1)], new, journals=())  # type: ignore[arg-type]
    await store.close()
    assert isinstance(found["wallet/one"], Owned), "nobody waits for a journal of the original"  # type: ignore[index]


async def test_numbers_issued_after_a_backup_are_not_issued_again_once_it_is_restored(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await opened(url)
    before, _ = await lived(url, "one")
    there = copy(url)
    late, since = await lived(url, "one")
    assert garrison(there, "restored", "--yes") == 0
    assert f"run {before} of the time before is closed; it owned 1 entity" in capsys.readouterr().err
    uuid = (await opened(url)).partition(".")[0]
    assert await opened(there) == f"{uuid}.2"
    again, now = await lived(there, "one")
    assert again.incarnation > late.incarnation and again.incarnation > INCARNATIONS
    assert now.epoch > since.epoch and now.epoch == Epoch(EPOCHS + 2)
    assert fetch(there, f"SELECT journal FROM nodes WHERE incarnation = {before.incarnation}") == [("",)]


async def test_a_restore_can_keep_journals_that_are_newer_than_the_backup(url: str) -> None:
    await opened(url)
    before, _ = await lived(url, "one")
    assert garrison(url, "restored", "--keep-journals", "--yes") == 0
    store = sql_store(url)
    await store.open()
    assert [(estate.owner, estate.journal) for estate in await store.estates()] == [(before, "local:n:some:place")]
    await store.close()


@pytest.mark.parametrize("what", ["moved", "copy", "restored"])
async def test_nothing_is_said_of_a_database_while_a_node_holds_a_lease_on_it(
    url: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    me, _ = await lived(url, "one", lease_s=60.0)
    before = fetch(url, "SELECT * FROM database_identity")
    assert garrison(url, what, "--yes") == 2
    assert f"{me} runs on" in capsys.readouterr().err
    assert garrison(url, what) == 2
    assert "--yes" in capsys.readouterr().err
    assert fetch(url, "SELECT * FROM database_identity") == before


async def test_a_backup_of_an_earlier_version_is_migrated_before_anything_is_said_of_it(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrations.downgrade(url, "0006")
    assert garrison(url, "restored", "--yes") == 2
    assert "garrison migrate" in capsys.readouterr().err
    migrations.upgrade(url)
    assert garrison(url, "restored", "--yes") == 0


async def test_show_tells_the_name_and_whether_nodes_would_start(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert garrison(url, "show", "--json") == 0
    fresh_one = json.loads(capsys.readouterr().out)
    assert fresh_one["fits"] and fresh_one["place"] == ""
    name = await opened(url)
    there = copy(url)
    assert garrison(there, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert f"{shown['uuid']}.{shown['timeline']}" == name and not shown["fits"] and shown["here"] != shown["place"]
    assert garrison(there) == 0
    assert "no node starts" in capsys.readouterr().out


async def test_another_database_in_this_one_s_place_is_noticed_under_a_running_node(url: str) -> None:
    store = sql_store(url)
    await store.open()
    await store.check()
    fetch(url, "UPDATE database_identity SET timeline = 2")
    with pytest.raises(BadSetting, match="no longer"):
        await store.check()
    await store.close()


async def test_a_database_without_its_identity_is_damaged(url: str) -> None:
    fetch(url, "DELETE FROM database_identity")
    with pytest.raises(Corrupt, match="identity"):
        await opened(url)


async def test_a_role_that_may_not_ask_for_the_system_goes_by_the_database_alone(kind: str, url: str) -> None:
    if kind == "sqlite":
        assert is_same("sqlite:1f:7", "sqlite:1f:7") and not is_same("sqlite:1f:7", "sqlite:1f:8")
        return
    role, (database,) = f"{make_url(url).database}_role", fetch(url, "SELECT current_database()")[0]
    fetch(url, f"CREATE ROLE {role} LOGIN")
    for grant in ("USAGE ON SCHEMA public", "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"):
        fetch(url, f"GRANT {grant} TO {role}")
    fetch(url, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    theirs = make_url(url).set(username=role).render_as_string(hide_password=False)
    name = await opened(theirs)
    place = fetch(url, "SELECT place FROM database_identity")[0][0]
    assert place.startswith("postgresql:?:")
    there = copy(url)
    with pytest.raises(BadSetting, match="elsewhere"):
        await opened(make_url(theirs).set(database=f"{database}_copy").render_as_string(hide_password=False))
    assert parse(there).dialect == "postgresql"
    assert await opened(url) == name, "who may ask completes what is written"
    assert "?" not in fetch(url, "SELECT place FROM database_identity")[0][0]
    assert await opened(theirs) == name
