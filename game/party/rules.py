"""The rules of a party. Pure: a state and an occurrence in, a new state out. A rule that changes nothing gives the same
object back; one that refuses raises `Rejected` with one of the codes of `CODES`.

The leader is a member, and one who is here as far as the party knows, but for a grace: one who is away for longer than
`Grace.leader_ms` is replaced by whoever of those here has been a member for longest. If nobody is here, it stays the
leader until somebody is. A leader who leaves is replaced at once, likewise. A member who is away for `Grace.member_ms`
is let go, and a party without members is over.

A player's own word says in which party it is (`game/places.py`): the party's words about memberships, `untold`, are
told until the player has stored them, and players tell what they have left.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from game import saved_commands
from game.party.codes import shown_code
from game.party.messages import PartyInfo, PartyMember
from game.party.state import Invite, Member, PartyState, Word
from server.actors.actor import Stamp
from server.errors import Rejected, Unavailable

CODES: Final = {
    "party_exists": "a party of this name exists",
    "party_over": "the party is over",
    "party_full": "the party has no free place",
    "not_in_party": "no member of the party, or of an earlier membership",
    "not_leader": "only the leader of the party may do this",
    "not_invited": "no invitation to this party, or one that is over",
    "no_such_code": "no party has this code",
    "in_party": "the player is in the party already",
    "too_many_invited": "the party waits for as many answers as it may",
    "member_away": "the member is not here",
    "muted": "whoever is muted invites nobody",
}
MAX_INVITED: Final = 32
MAX_UNTOLD: Final = 256
"""Players of whom it is not known that they have heard: past that nobody new comes in. Reached where the store is away
and many come and go."""
MAX_LINEAGES: Final = 64


class Grace(msgspec.Struct, frozen=True):
    """Times in milliseconds: how long a leader, and a member, may be away, and how long an invitation is good."""

    leader_ms: int = 15_000
    member_ms: int = 300_000
    invite_ms: int = 300_000


GRACE: Final = Grace()


def reject(code: str) -> Rejected:
    return Rejected(code, CODES[code])


# ---- numbers and commands -------------------------------------------------------------------


def number_of(state: PartyState, stamp: Stamp) -> int:
    """The next number: above all that this party has given, also above those that its node lost before they were
    stored, since these were of an earlier epoch."""
    return max(state.newest + 1, stamp.epoch << 20)


def answer_to(state: PartyState, scoped: str, command: int) -> int | None:
    """See `saved_commands.answer_to`."""
    return saved_commands.answer_to(state.answered, scoped, command)


def answered(state: PartyState, scoped: str, command: int, version: int) -> PartyState:
    """Remember a command of the lineage `scoped` that took effect in `version`."""
    known = saved_commands.remember(state.answered, scoped, command, version, MAX_LINEAGES)
    return replace(state, answered=known)


# ---- commands -------------------------------------------------------------------------------


def create(state: PartyState, leader: str, room: int, code: str, number: int, version: int, wall_ms: int) -> PartyState:
    """A new party with its leader."""
    if state.created_wall_ms:
        raise reject("party_exists")
    made = PartyState(leader, room, code, created_wall_ms=max(1, wall_ms))
    return _with_member(made, leader, number, version, wall_ms)


def invite(state: PartyState, by: str, player: str, number: int, wall_ms: int, grace: Grace = GRACE) -> PartyState:
    """Invite `player`; an invitation that it has is made anew."""
    _member(state, by)
    if player in state.members:
        raise reject("in_party")
    invited = {name: other for name, other in state.invited.items() if other.until_wall_ms > wall_ms}
    if player not in invited and len(invited) >= MAX_INVITED:
        raise reject("too_many_invited")
    invited[player] = Invite(number, by, wall_ms + grace.invite_ms)
    return replace(state, invited=invited, newest=number)


def inviter(state: PartyState, player: str, wall_ms: int) -> str | None:
    """The member whose invitation lets `player` in; None for a member, and without any."""
    invitation = state.invited.get(player)
    if player in state.members or invitation is None or invitation.until_wall_ms <= wall_ms:
        return None
    return invitation.by


def join(state: PartyState, player: str, number: int, version: int, wall_ms: int) -> PartyState:
    """Take in a player that is invited."""
    _open(state)
    invitation = state.invited.get(player)
    if player not in state.members and (invitation is None or invitation.until_wall_ms <= wall_ms):
        raise reject("not_invited")
    return _enter(state, player, number, version, wall_ms)


def join_code(state: PartyState, player: str, code: str, number: int, version: int, wall_ms: int) -> PartyState:
    """Take in a player that knows the code."""
    if state.ended_wall_ms or not code or code != state.code:
        raise reject("no_such_code")
    return _enter(state, player, number, version, wall_ms)


def kick(state: PartyState, by: str, player: str, number: int, code: str, wall_ms: int) -> PartyState:
    """Take membership `number` of `player` out, for the leader; `code` is the party's new one."""
    _leader(state, by)
    if _member(state, player).number != number:
        raise reject("not_in_party")
    return replace(_without(state, player, wall_ms, told=False), code=code)


def promote(state: PartyState, by: str, player: str) -> PartyState:
    """Make `player` the leader."""
    _leader(state, by)
    if not _member(state, player).here:
        raise reject("member_away")
    return state if player == state.leader else replace(state, leader=player)


def ready(state: PartyState, player: str, is_ready: bool) -> PartyState:
    """Note whether `player` is ready."""
    return _with(state, player, replace(_member(state, player), ready=is_ready))


def leave(state: PartyState, player: str, wall_ms: int) -> PartyState:
    """Let `player` go at its own word."""
    _member(state, player)
    return _without(state, player, wall_ms, told=False)


def disband(state: PartyState, by: str, wall_ms: int) -> PartyState:
    """End the party."""
    _leader(state, by)
    for player in list(state.members):
        state = _without(state, player, wall_ms, told=False)
    return state


def recode(state: PartyState, by: str, code: str) -> PartyState:
    """Give the party another code."""
    _leader(state, by)
    return replace(state, code=code)


def players(state: PartyState, by: str) -> list[str]:
    """The members who are here and go into a match together, the leader, who asks, first."""
    _leader(state, by)
    return [by, *(name for name, member in in_order(state) if member.here and name != by)]


def played(state: PartyState, match: str, number: int) -> PartyState:
    """Note that the party has joined `match`, under this number."""
    members = {name: replace(member, ready=False) for name, member in state.members.items()}
    return replace(state, match_id=match, members=members, newest=number)


# ---- words of players, and time ---------------------------------------------------------------


def gone(state: PartyState, player: str, birth: int, number: int, wall_ms: int) -> PartyState:
    """End membership `number` of `player`, which knows; nothing where it has a newer one."""
    member = state.members.get(player)
    if birth != state.created_wall_ms or member is None or member.number > number:
        return state
    return _without(state, player, wall_ms, told=True)


def seen(state: PartyState, player: str, birth: int, number: int, word: int, wall_ms: int) -> PartyState:
    """Note whether `player` is here, at its own word."""
    member = state.members.get(player)
    if birth != state.created_wall_ms or member is None or member.number != number or word <= member.word:
        return state
    return _with(state, player, replace(member, word=word, away_wall_ms=wall_ms if word % 2 else 0))


def heard(state: PartyState, player: str, number: int, joined: bool, refused: bool, wall_ms: int) -> PartyState:
    """Note that `player` has stored a word about its membership. `refused`: there is no such player, so it is none."""
    word = state.untold.get(player)
    if word == Word(number, joined):
        untold = {name: other for name, other in state.untold.items() if name != player}
        state = replace(state, untold=untold)
    member = state.members.get(player)
    if refused and joined and member is not None and member.number == number:
        return _without(state, player, wall_ms, told=True)
    return state


def forget(state: PartyState, person: str, wall_ms: int) -> PartyState:
    """Keep nothing of somebody who is erased, and tell it nothing; the same where nothing is kept."""
    if person in state.members:
        state = _without(state, person, wall_ms, told=True)
    invited = {name: it for name, it in state.invited.items() if person not in (name, it.by)}
    answered = {scoped: saved for scoped, saved in state.answered.items() if scoped.partition("/")[0] != person}
    after = replace(
        state,
        leader="" if state.leader == person else state.leader,
        invited=invited,
        untold=_but(state.untold, person),
        answered=answered,
    )
    return state if after == state else after


def arrived(state: PartyState, player: str, number: int) -> PartyState:
    """Note that `player` has stored invitation `number`, or that there is no such player."""
    invitation = state.invited.get(player)
    if invitation is None or invitation.number != number or not invitation.untold:
        return state
    return replace(state, invited={**state.invited, player: replace(invitation, untold=False)})


def due(state: PartyState, wall_ms: int, grace: Grace = GRACE) -> PartyState:
    """The state once time has done its work: members away for too long are let go, a leader is replaced."""
    for player, member in in_order(state):
        if not member.here and wall_ms >= member.away_wall_ms + grace.member_ms:
            state = _without(state, player, wall_ms, told=False)
    leader = state.members.get(state.leader)
    if leader is not None and not leader.here and wall_ms >= leader.away_wall_ms + grace.leader_ms:
        successor = _successor(state)
        state = replace(state, leader=successor) if successor else state
    return state


def due_at(state: PartyState, grace: Grace = GRACE) -> int | None:
    """The wall time at which `due` has something to do next; None: never, as things are."""
    times = [member.away_wall_ms + grace.member_ms for member in state.members.values() if not member.here]
    leader = state.members.get(state.leader)
    if leader is not None and not leader.here and _successor(state):
        times.append(leader.away_wall_ms + grace.leader_ms)
    return min(times, default=None)


def is_due(state: PartyState) -> bool:
    """Whether time will bring something: such a party must not be forgotten with its node."""
    return any(not member.here for member in state.members.values())


# ---- views ------------------------------------------------------------------------------------


def in_order(state: PartyState) -> list[tuple[str, Member]]:
    """The members, the longest-standing first."""
    return sorted(state.members.items(), key=lambda item: item[1].number)


def picture(state: PartyState) -> dict[str, Mapping[str, Any]]:
    """The latest topic: key `party`, and one for each member, `member/` and its name. Empty once the party is over."""
    if not state.members:
        return {}
    head = {"leader": state.leader, "room": state.room, "code": shown_code(state.code), "match": state.match_id or None}
    lines = {
        f"member/{name}": {"number": member.number, "here": member.here, "ready": member.ready}
        for name, member in state.members.items()
    }
    return {"party": head, **lines}


def info(state: PartyState, party: str, request: int, version: int, wall_ms: int) -> PartyInfo:
    """The answer to `party.get`."""
    members = [PartyMember(name, member.number, member.here, member.ready) for name, member in in_order(state)]
    invited = [name for name, other in state.invited.items() if other.until_wall_ms > wall_ms]
    code = shown_code(state.code)
    return PartyInfo(request, party, state.leader, state.room, code, state.match_id or None, members, invited, version)


def check_member(state: PartyState, player: str) -> None:
    """Raises `Rejected` unless `player` is a member."""
    _member(state, player)


# ---- conditions and parts -----------------------------------------------------------------------


def _open(state: PartyState) -> None:
    if state.ended_wall_ms:
        raise reject("party_over")


def _member(state: PartyState, player: str) -> Member:
    _open(state)
    member = state.members.get(player)
    if member is None:
        raise reject("not_in_party")
    return member


def _leader(state: PartyState, player: str) -> None:
    _member(state, player)
    if player != state.leader:
        raise reject("not_leader")


def _enter(state: PartyState, player: str, number: int, version: int, wall_ms: int) -> PartyState:
    """Give `player` a place, or a new one, so that what is said late about the one before does not end it."""
    if player not in state.members and len(state.members) >= state.room:
        raise reject("party_full")
    if player not in state.untold and len(state.untold) >= MAX_UNTOLD:
        raise Unavailable("too many players have not heard of their places yet")
    return _with_member(state, player, number, version, wall_ms)


def _with_member(state: PartyState, player: str, number: int, version: int, wall_ms: int) -> PartyState:
    return replace(
        state,
        newest=number,
        members={**state.members, player: Member(number, wall_ms, version)},
        invited=_but(state.invited, player),
        untold={**state.untold, player: Word(number, True)},
    )


def _with(state: PartyState, player: str, member: Member) -> PartyState:
    return state if member == state.members[player] else replace(state, members={**state.members, player: member})


def _without(state: PartyState, player: str, wall_ms: int, told: bool) -> PartyState:
    """Without that member, who knows already if it is `told`. The last one's leaving is the end."""
    member, members = state.members[player], _but(state.members, player)
    untold = _but(state.untold, player)
    if not told:
        untold = {**untold, player: Word(member.number, False)}
    if not members:
        return replace(state, leader="", code="", ended_wall_ms=max(1, wall_ms), members={}, invited={}, untold=untold)
    state = replace(state, members=members, untold=untold)
    if player == state.leader:
        state = replace(state, leader=_successor(state) or in_order(state)[0][0])
    return state


def _successor(state: PartyState) -> str | None:
    """The member who has been in the party for longest, of those who are here."""
    return next((name for name, member in in_order(state) if member.here), None)


def _but(items: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in items.items() if name != key}


def told_size(before: PartyState, after: PartyState) -> Iterable[str]:
    """The members to be told how many the party has, and room for, as that has changed."""
    changed = (len(before.members), before.room) != (len(after.members), after.room)
    return after.members if changed else ()
