"""A database of the game in which one player is named wherever it can be: in every table that says anything of people,
in columns of texts, of JSON and of bytes, and in events of every kind."""

from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import create_engine, text

from game.careers.events import Gain
from game.friends.state import FriendsState, Link, Word
from game.match.events import Described, Invited, Kicked, Named, Property, Reserved, Unkicked
from game.messages import Kill, Medal, Score
from game.moderation.state import Act, StandingState
from game.party.place import InParty, Invitation
from game.party.state import Invite, Member, PartyState
from game.places import Membership
from game.player.state import PlayerState, SettledMatch
from game.saved_commands import SavedCommands
from persistence.sql_store import SqlStore
from server.actors.facts import Register, Stamp
from server.drivers import build_store, upgrade_store
from server.eventlog.ports import WholeLog
from server.ids import NodeAddress, NodeId, actor_id, kind_of
from server.settings import Settings, from_tree
from server.storage.ports import Change, Claim, Owned
from tests.support.matches import Played

ANN: Final = "ann"
"""The person. `ann2` and `joann` are others, with its name in theirs."""
NODE: Final = NodeId("node-a")


def settings_of(path: Path, **more: Any) -> Settings:
    return from_tree({"store": {"url": f"sqlite:///{path}"}, **more})


def played() -> Played:
    """A match that is over, in which every kind of event names ann that can."""
    match = Played().create(host="server-1", teams=0, mode="free_for_all", countdown_ms=0, score_limit=0)
    match.join(ANN, "bob", "ann2", "joann")
    match.emit([
        Invited(0, ANN, ["bob", ANN]),
        Reserved(0, [ANN], None, 1, 0, 1),
        Kicked(0, "dan", f"by {ANN}: rude", 3),
        Unkicked(0, "dan", 3),
        Named(0, ANN, "Annabel"),
        Described(0, [Property("captain", ANN), Property("title", f"the cup of {ANN}")], [ANN]),
    ])  # fmt: skip
    match.start()
    match.emit([Kill(10, ANN, "bob")], f"{ANN}/abcdef", 1)
    match.report(Kill(20, "bob", ANN), Medal(30, ANN, "Snipe"), Score(40, 5, None, ANN))
    return match.end(5_000)


def states() -> dict[str, Any]:
    """States by id."""
    yes, number = Word(invite=Stamp(1, 1)), Stamp(1, 1)
    link = Link(Register(number, yes), Register(number, Word(answered=number, yes=True)), "friend", 7, 1)
    blocks = Link(Register(number, Word(blocks=True)), Register(Stamp(0, 0), None), "blocked", 7, 1)
    gain = Gain("free_for_all", "s1", True, 1, 1, 0, 1, 1, 9, {"Snipe": 1}, "free_for_all", 100, 10)
    settled = SettledMatch("cup", 5_000, 1_700_000_000_000, 1, gain)
    act = Act(1, 5, "ban", "server-9", "service", f"{ANN} was rude", 2**53 - 1, "abc", 1)
    ban = StandingState(2**53 - 1, f"{ANN} was rude", 0, "", 0, number, number, (act,))
    by_ann = Act(1, 6, "mute", ANN, "service", "", 2**53 - 1, "abc", 1)
    invitation = Invitation("party-2", 4, ANN, 2**50)
    party = PartyState(
        leader="bob",
        created_wall_ms=1,
        newest=4,
        members={"bob": Member(1, 1, 1)},
        invited={ANN: Invite(4, "bob", 2**50, untold=False)},
        answered={f"{ANN}/party.join/abc": SavedCommands()},
    )
    return {
        f"friends/{ANN}": FriendsState(links={"bob": link}, relations=1, told=1),
        "friends/bob": FriendsState(links={ANN: replace(link, version=1)}, relations=1, told=1),
        "friends/cat": FriendsState(links={ANN: blocks}, relations=1, told=1),
        "party/party-1": party,
        "party/party-2": PartyState("bob", members={"bob": Member(1, 1, 1), ANN: Member(2, 1, 1)}, ended_wall_ms=3),
        f"player/{ANN}": PlayerState("Annabel", matches=1, settled=(settled,), gone=(Membership("cup", 1, 1),)),
        "player/bob": PlayerState("Bob", in_party=InParty(invitations=(invitation,))),
        "player/ann2": PlayerState("Ann the second"),
        f"standing/{ANN}": ban,
        "standing/dan": replace(ban, acts=(by_ann,), ban_reason=""),
    }


async def plant(settings: Settings) -> None:
    """Make the database of `settings`, and name ann everywhere in it."""
    await upgrade_store(settings)
    store = build_store(settings)
    await store.open()
    await write(store)
    await store.close()
    engine = create_engine(settings.store.url)
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO reminders (kind, key, name, due_ms) VALUES ('player', '{ANN}', 'x', 9)"))
        nobody = "INSERT INTO actors (kind, key, head, state) VALUES ('guild', 'g', x'', x'a3616e6e')"
        connection.execute(text(nobody))
    engine.dispose()


async def write(store: SqlStore) -> None:
    """Write the states and the match, by a node that gives them all up."""
    me = NodeAddress(NODE, await store.register_node(NODE, None))
    for token, (name, state) in enumerate(sorted(states().items()), 1):
        identity = actor_id(*name.split("/"))
        kind = kind_of(identity)
        owned = (await store.claim(kind, [Claim(identity, token)], me))[identity]
        assert isinstance(owned, Owned)
        assert await store.write(kind, [Change(identity, owned.epoch, 1, state)]) == {identity: "written"}
        await store.release(kind, [(identity, owned.epoch)])
    match = played()
    log = match.stored(8)
    whole = WholeLog(log.head, log.chunks, match.state)
    assert await store.insert_log("match", actor_id("match", "cup"), whole) == "written"
    await store.retire_node(me)
