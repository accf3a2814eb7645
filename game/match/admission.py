"""The rules of who is in a match: join, leave, and a party that comes together. Pure, like `game/match/rules.py`."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from msgspec import UNSET

from game.match import guests
from game.match.codes import must_go_on, reject
from game.match.messages import AdmitParty
from game.match.state import MatchState
from game.messages import Joined, Left, MatchEvent, PartyJoined, PartyPlace
from game.modes.registry import mode_of


class Entry(NamedTuple):
    """The circumstances in which somebody comes: Unix time, and whether the password was said."""

    wall_ms: int = 0
    password_fits: bool = False


_NOW: Final = Entry()


def join(state: MatchState, player: str, team: int | None, number: int = 0, entry: Entry = _NOW) -> list[MatchEvent]:
    """Take `player` in, or back, as member `number`. No event if it is there already, on that team."""
    options = state.options
    must_go_on(state)
    if team is not None and team >= options.teams:
        raise reject("bad_team", str(team))
    line = state.players.get(player)
    if line is not None and line.present:
        if team in (None, line.team):
            return []
        if not _may_change_team(state):
            raise reject("already_joined")
        return [Joined(state.time_ms, player, team, number)]
    _may_enter(state, player, entry.wall_ms, entry.password_fits)
    _must_have_room(state, [player], None, 1, entry.wall_ms)
    if line is not None and line.team is not None and not (team is not None and _may_change_team(state)):
        team = line.team
    elif team is None and options.teams:
        team = _smallest_team(state)
    return [Joined(state.time_ms, player, team, number)]


def join_again(state: MatchState, player: str, number: int) -> list[MatchEvent]:
    """Give a player who is there and asks to join again a new membership: what is said late about the one before it
    must not end this one."""
    return [Joined(state.time_ms, player, state.players[player].team, number)]


def party_before(state: MatchState, message: AdmitParty) -> int | None:
    """The number of the event by which the party came under this number, None where it is to come now. Raises
    `Rejected` where it has come under a later one."""
    entry = None if state.parties is UNSET else state.parties.get(message.party)
    if entry is None or entry.number < message.number:
        return None
    if entry.number > message.number:
        raise reject("party_late", message.party)
    return entry.first_seq


def admit_party(state: MatchState, message: AdmitParty, number: int, entry: Entry = _NOW) -> list[MatchEvent]:
    """Take all of a party in, or back, as members `number`, or nobody: a refusal names the player who is in the
    way. Those who are there already get a new membership, on their team. Places that are reserved for the party
    let all of it into a private match."""
    options, players = state.options, list(dict.fromkeys(message.players))
    must_go_on(state)
    if message.team is not None and message.team >= options.teams:
        raise reject("bad_team", str(message.team))
    let_in = entry.password_fits or guests.is_reserved_for(state, message.party, entry.wall_ms)
    smallest = _smallest_team(state) if options.teams else None
    places, newcomers = [], 0
    for player in players:
        line = state.players.get(player)
        if line is None or not line.present:
            newcomers += 1
            _may_enter(state, player, entry.wall_ms, let_in)
        elif message.team not in (None, line.team):
            raise reject("already_joined", player)
        team = line.team if line is not None and line.team is not None else message.team
        places.append(PartyPlace(player, smallest if team is None else team, number))
    _must_have_room(state, players, message.party, newcomers, entry.wall_ms)
    return [PartyJoined(state.time_ms, message.party, message.number, places)]


def newcomers(state: MatchState, players: Iterable[str]) -> list[str]:
    """Players of `players` who are not in the match yet, and must be in no other one to come into it."""
    if not guests.entry_of(state).refuses_elsewhere:
        return []
    lines = ((player, state.players.get(player)) for player in dict.fromkeys(players))
    return [player for player, line in lines if line is None or not line.present]


def must_be_free(key: str, player: str, match: str) -> None:
    """Raise `Rejected` where `player`, who says that it is in `match`, is in another one than `key`."""
    if match not in ("", key):
        raise reject("in_another_match", player)


def _may_enter(state: MatchState, player: str, wall_ms: int, password_fits: bool) -> None:
    """Raise `Rejected` where the match takes `player` in neither anew nor again, however much room it has."""
    guests.must_be_let_in(state, player, wall_ms, password_fits)
    if mode_of(state).recording:
        return
    if player not in state.players and state.phase == "live" and not state.options.join_in_progress:
        raise reject("no_join_in_progress", player)


def _must_have_room(state: MatchState, players: Sequence[str], party: str | None, coming: int, wall_ms: int) -> None:
    """Raise `Rejected` without room for so many more, of `players`, beside places that are reserved for others."""
    if not coming or mode_of(state).recording:
        return
    kept = guests.kept_from(state, players, party, wall_ms)
    if state.players.present + kept + coming > state.options.max_players:
        raise reject("match_full", f"{coming} more, {kept} reserved, of {state.options.max_players}")


def gone(state: MatchState, player: str, birth: int, number: int, reason: str) -> list[MatchEvent]:
    """End membership `number` of `player` in the match of that `birth` (0: whichever it is); nothing where it has left
    it, or has another one."""
    line = state.players.get(player)
    if state.phase == "ended" or line is None or not line.present or birth not in (0, state.created_wall_ms):
        return []
    if number and line.member is not UNSET and line.member > number:
        return []
    return leave(state, player, reason)


def leave(state: MatchState, player: str, reason: str = "left") -> list[MatchEvent]:
    """Let `player` go, for one of the reasons of `Left`."""
    must_go_on(state)
    line = state.players.get(player)
    if line is None or not line.present:
        raise reject("not_in_match")
    return [Left(state.time_ms, player, reason)]


def _may_change_team(state: MatchState) -> bool:
    """Whether a player that has a team may join on another."""
    return state.phase == "lobby" and not mode_of(state).teams_locked


def _smallest_team(state: MatchState) -> int:
    """The team with the fewest players present; the lowest number of several."""
    sizes = [state.players.team_sizes.get(team, 0) for team in range(state.options.teams)]
    return sizes.index(min(sizes))
