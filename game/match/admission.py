"""The rules of who is in a match: join, leave, and a party that comes together. Pure, like `game/match/rules.py`."""

from msgspec import UNSET

from game.match.codes import must_go_on, reject
from game.match.messages import AdmitParty
from game.match.state import MatchState
from game.messages import Joined, Left, MatchEvent, PartyJoined, PartyPlace


def join(state: MatchState, player: str, team: int | None, number: int = 0) -> list[MatchEvent]:
    """Take `player` in, or back, as member `number`. No event if it is there already, on that team."""
    options = state.options
    must_go_on(state)
    if team is not None and team >= options.teams:
        raise reject("bad_team", str(team))
    line = state.players.get(player)
    if line is not None and line.present:
        if team not in (None, line.team):
            raise reject("already_joined")
        return []
    _may_enter(state, player)
    if options.mode != "recorded" and state.players.present >= options.max_players:
        raise reject("match_full")
    if line is not None and line.team is not None:
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


def admit_party(state: MatchState, message: AdmitParty, number: int) -> list[MatchEvent]:
    """Take all of a party in, or back, as members `number`, or nobody: a refusal names the player who is in the
    way. Those who are there already get a new membership, on their team."""
    options, players = state.options, list(dict.fromkeys(message.players))
    must_go_on(state)
    if message.team is not None and message.team >= options.teams:
        raise reject("bad_team", str(message.team))
    smallest = _smallest_team(state) if options.teams else None
    places, newcomers = [], 0
    for player in players:
        line = state.players.get(player)
        if line is None or not line.present:
            newcomers += 1
            _may_enter(state, player)
        elif message.team not in (None, line.team):
            raise reject("already_joined", player)
        team = line.team if line is not None and line.team is not None else message.team
        places.append(PartyPlace(player, smallest if team is None else team, number))
    if options.mode != "recorded" and state.players.present + newcomers > options.max_players:
        raise reject("match_full", f"{newcomers} more of {options.max_players}")
    return [PartyJoined(state.time_ms, message.party, message.number, places)]


def _may_enter(state: MatchState, player: str) -> None:
    """Raise `Rejected` where the match takes `player` in neither anew nor again, however much room it has."""
    if state.options.mode == "recorded":
        return
    if player not in state.players and state.phase == "live" and not state.options.join_in_progress:
        raise reject("no_join_in_progress", player)


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
    """Let `player` go: `reason` is `left` or `disconnected`."""
    must_go_on(state)
    line = state.players.get(player)
    if line is None or not line.present:
        raise reject("not_in_match")
    return [Left(state.time_ms, player, reason)]


def _smallest_team(state: MatchState) -> int:
    """The team with the fewest players present; the lowest number of several."""
    sizes = [state.players.team_sizes.get(team, 0) for team in range(state.options.teams)]
    return sizes.index(min(sizes))
