"""Relations of players as their rows have them, for logins that watch their friends."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from game.friends.rules import relations
from game.friends.state import FriendsState, Link, Word
from game.friends.stored import relations_of
from persistence.game.queries import QUERIES, Keys, stored_relations
from persistence.sql_queries import SqlStoreQueries
from server.actors.facts import NEVER, Register, Stamp
from server.actors.pictures import Relations
from server.ids import NodeAddress, NodeId, actor_id
from server.settings import StoreSettings
from server.storage.ports import Change, Claim, Owned
from tests.support.databases import SQL_DATABASES, fresh

SILENT = Register[Word](NEVER, None)
YES = Register[Word](Stamp(1, 2), Word(answered=Stamp(1, 1), yes=True))
INVITES = Register[Word](Stamp(1, 1), Word(invite=Stamp(1, 1)))
BLOCKS = Register[Word](Stamp(2, 9), Word(blocks=True))
LINKS = {
    "friend-b": Link(YES, INVITES, "friend", 5, 3),
    "friend-a": Link(INVITES, YES, "friend", 5, 3),
    "asked": Link(INVITES, SILENT, "invited", 6, 3),
    "asks": Link(SILENT, INVITES, "inviting", 6, 3),
    "blocked": Link(BLOCKS, SILENT, "blocked", 6, 3),
    "blocks-me": Link(SILENT, BLOCKS, "none", 6, 3),
    "both": Link(BLOCKS, BLOCKS, "blocked", 6, 3),
    "nothing": Link(SILENT, SILENT, "none", 6, 3),
}

TOLD = Relations(77, ["friend-a", "friend-b"], ["blocked", "blocks-me", "both"])


@pytest.mark.parametrize("name", SQL_DATABASES)
async def test_a_row_tells_the_same_relations_as_its_actor(name: str, tmp_path: Path) -> None:
    database = fresh(name, tmp_path)
    assert database.url
    state = FriendsState(links=LINKS, relations=77, told=77)
    async with database.connect() as (store, _):
        node = NodeId("node-a")
        me = NodeAddress(node, await store.register_node(node, 30.0))
        for token, key in enumerate(("ann", "never"), 1):
            identity = actor_id("friends", key)
            (claimed,) = (await store.claim("friends", [Claim(identity, token)], me)).values()
            assert isinstance(claimed, Owned)
            if key == "ann":
                await store.write("friends", [Change(identity, claimed.epoch, 1, state)])
    queries = SqlStoreQueries(StoreSettings(url=database.url, statement_timeout_s=30.0), QUERIES)
    try:
        (row,) = await queries.run("stored_relations", {"keys": ["ann", "never", "nobody"]})
    finally:
        await queries.close()
    assert row["key"] == "ann"
    assert relations_of(row) == relations(state) == TOLD
    assert relations_of(None) == relations(FriendsState())


def test_stored_relations_are_read_by_the_tables_key(tmp_path: Path) -> None:
    database = fresh("sqlite", tmp_path)
    engine = create_engine(f"sqlite:///{database.url.removeprefix('sqlite:///')}")
    statement = stored_relations(Keys(["ann", "bob"])).compile(engine, compile_kwargs={"literal_binds": True})
    with engine.connect() as connection:
        plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
    engine.dispose()
    assert len(plan) == 1 and plan[0].startswith("SEARCH friends USING INDEX"), plan
