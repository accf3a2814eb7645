"""Halves of what two actors must agree on, compared in the store. Part of `garrison audit`.

    friendships    each side's row says what the other's says: friends of each other, an invite and who has it
    ghosts         a player who is shown somewhere and is not there: `online` with nobody connected (the cluster has
                   stopped), or on the roster of a match or a party that is not the player's own

Who is still to be told of the other's half is left out: its row says that facts are open, and it is told when the
cluster runs again. The row of a match that goes on is some seconds behind its log, so that a roster counts only where
row and log agree on it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Select, and_, func, not_, select, union_all

from persistence.engine.queries import StoreQuery
from persistence.game import tables
from server.lab.contents import StoreReads

MOST: Final = 1_000
"""Findings of a sort that are counted."""
ANSWERS: Final[Mapping[str, tuple[str, ...]]] = {
    "friend": ("friend",),
    "invited": ("inviting", "blocked"),  # a block is not seen
    "inviting": ("invited",),
}
"""States of a friendship, and what the other side's row may be then."""


class Nothing(msgspec.Struct, frozen=True):
    """No parameters."""


def _unequal(_: Nothing) -> Select[Any]:
    mine, theirs = tables.friendships.alias("mine"), tables.friendships.alias("theirs")
    me, other = tables.friends.alias("me"), tables.friends.alias("other")
    answer = func.coalesce(theirs.c.state, "none")
    wrong = [and_(mine.c.state == state, answer.not_in(answers)) for state, answers in ANSWERS.items()]
    found = [
        select(mine.c.player_id.label("player"), mine.c.other_id.label("other"), mine.c.state, answer.label("answer"))
        .join_from(mine, me, me.c.player_id == mine.c.player_id)
        .join(other, other.c.player_id == mine.c.other_id)
        .outerjoin(theirs, and_(theirs.c.player_id == mine.c.other_id, theirs.c.other_id == mine.c.player_id))
        .where(each, not_(me.c.open_facts), not_(other.c.open_facts))
        for each in wrong
    ]
    both = union_all(*found).subquery()
    return select(both).order_by(both.c.player, both.c.other)


def _online(_: Nothing) -> Select[Any]:
    c = tables.players.c
    return select(c.player_id.label("player"), c.status).where(c.status != "offline").order_by(c.player_id)


def _on_rosters(_: Nothing) -> Select[Any]:
    """Players on the roster of a match that is not over, and in another one or in none."""
    lines, matches, players = tables.participants, tables.matches, tables.players
    return (
        select(lines.c.player_id.label("player"), lines.c.match_id.label("match"), players.c.current_match.label("own"))
        .join_from(lines, matches, matches.c.match_id == lines.c.match_id)
        .join(players, players.c.player_id == lines.c.player_id)
        .where(lines.c.present, matches.c.phase != "ended", players.c.current_match != lines.c.match_id)
        .where(not_(matches.c.open_facts), not_(players.c.open_facts))
        .order_by(lines.c.player_id)
    )


def _in_matches(_: Nothing) -> Select[Any]:
    """Players in a match that is over, or does not have them."""
    lines, matches, players = tables.participants, tables.matches, tables.players
    here = and_(lines.c.match_id == players.c.current_match, lines.c.player_id == players.c.player_id)
    return (
        select(players.c.player_id.label("player"), players.c.current_match.label("match"))
        .join_from(players, matches, matches.c.match_id == players.c.current_match)
        .outerjoin(lines, here)
        .where(not_(matches.c.open_facts), not_(players.c.open_facts))
        .where((matches.c.phase == "ended") | not_(func.coalesce(lines.c.present, False)))
        .order_by(players.c.player_id)
    )


def _parties(_: Nothing) -> Select[Any]:
    c = tables.parties.c
    return select(c.party_id.label("party"), c.player_ids.label("players")).where(c.size > 0, not_(c.open_facts))


def _in_parties(_: Nothing) -> Select[Any]:
    c = tables.players.c
    found = select(c.player_id.label("player"), c.current_party.label("party"), c.open_facts.label("open"))
    return found.order_by(c.player_id)


QUERIES: Final = {
    "audit_unequal": StoreQuery(Nothing, _unequal, max_rows=MOST),
    "audit_online": StoreQuery(Nothing, _online, max_rows=MOST),
    "audit_on_rosters": StoreQuery(Nothing, _on_rosters, max_rows=10_000_000),
    "audit_in_matches": StoreQuery(Nothing, _in_matches, max_rows=10_000_000),
    "audit_parties": StoreQuery(Nothing, _parties, max_rows=10_000_000),
    "audit_in_parties": StoreQuery(Nothing, _in_parties, max_rows=10_000_000),
}
"""To be run by a `SqlStoreQueries` of the audit's own: they are no application's."""

Finding = tuple[str, str]
"""The name of what is wrong, and why."""


async def unequal_friendships(queries: StoreReads) -> list[Finding]:
    """Pairs of players whose rows do not say the same."""
    rows = await queries.run("audit_unequal", {})
    return [
        (f"friends/{row['player']}", f"{row['other']} is {row['state']!r} to it, which says {row['answer']!r}")
        for row in rows
    ]


async def ghosts(queries: StoreReads, rosters: Mapping[str, Collection[str]]) -> list[Finding]:
    """Players who are shown where they are not. `rosters`: who is in each match that goes on, by its log."""
    found = [
        (f"player/{row['player']}", f"{row['status']!r} with nobody connected")
        for row in await queries.run("audit_online", {})
    ]
    for row in await queries.run("audit_on_rosters", {}):
        if row["player"] not in rosters.get(row["match"], ()):
            continue  # gone since its match's row was written
        where = f"in {row['own']!r}" if row["own"] else "in none"
        found.append((f"match/{row['match']}", f"{row['player']} is on its roster, and {where}"))
    found += [
        (f"player/{row['player']}", f"in match {row['match']}, which does not have it")
        for row in await queries.run("audit_in_matches", {})
        if row["player"] not in rosters.get(row["match"], ())
    ]
    return found + list(_apart(await queries.run("audit_parties", {}), await queries.run("audit_in_parties", {})))


def _apart(parties: Iterable[Mapping[str, Any]], players: Iterable[Mapping[str, Any]]) -> Iterable[Finding]:
    """Members of parties, and players in parties, of whom the other side knows nothing."""
    members = {row["party"]: set(row["players"]) for row in parties}
    open_ones = {row["player"] for row in players if row["open"]}
    own = {row["player"]: row["party"] for row in players}
    for party, names in members.items():
        for name in sorted(names - open_ones):
            if own.get(name, "") != party:
                yield f"party/{party}", f"{name} is on its roster, and in {own.get(name) or 'none'}"
    for name, party in own.items():
        if party in members and name not in members[party] | open_ones:
            yield f"player/{name}", f"in party {party}, which does not have it"
