"""The rule of the spectators' delay: what of a match its onlookers may know by now. Pure.

An *onlooker* neither plays in the match now nor hosts it. Of a match whose option `spectator_delay_ms` is not 0 an
onlooker knows what happened at least so long ago: up to the match's *public moment*. At the match itself that is exact
(`server/activations/public_end.py`): an event counts from the time at which it was stored. Who has no more than a
stored log goes by the match clock (`public_until_ms`), and by `is_public` for whether that bound is gone.

The end of the match is public when it logs its results (`Rated`), with which it waits until the end is as old as the
delay. So no career, rating or leaderboard knows of it before, and the state itself says whether all of it is public.
"""

from typing import Final

from msgspec import UNSET

from game.match.state import MatchState

UNBOUNDED: Final = 2**62
"""Later than any match clock."""


def delay_ms(state: MatchState) -> int:
    """The delay that the match sets; 0: none."""
    return 0 if state.spectator_delay_ms is UNSET else state.spectator_delay_ms


def is_public(state: MatchState) -> bool:
    """Tell whether everybody who may see the match may know all of it, as far as the delay goes."""
    if state.spectator_delay_ms is UNSET:
        return True
    return state.phase == "ended" and (state.outcome is UNSET or state.outcome.whole)


def is_onlooker(state: MatchState, player: str | None, host: str) -> bool:
    """Tell whether somebody neither plays in the match now nor hosts it: `player` is its name where it is a player,
    `host` its name as a host."""
    if host == state.host:
        return False
    line = None if player is None else state.players.get(player)
    return line is None or not line.present


def public_until_ms(delay_ms: int, started_wall_ms: int, now_wall_ms: int, live_from_ms: int = 0) -> int:
    """The match clock up to which an onlooker may see a match that went live at Unix time `started_wall_ms` (0: not
    yet) and at `live_from_ms` of its clock; -1: nothing yet, `UNBOUNDED` where there is no delay. It goes by the host's
    clock: where that stands still or runs ahead, the match itself knows better."""
    if not delay_ms:
        return UNBOUNDED
    if not started_wall_ms:
        return -1
    return max(-1, live_from_ms + now_wall_ms - started_wall_ms - delay_ms)


def as_announced(state: MatchState) -> MatchState:
    """The match as it is announced, without anything that may have happened in it: what onlookers see where no public
    state is known. `host` is empty where it has changed."""
    return MatchState(
        host=state.host if state.term is UNSET else "",
        options=state.options,
        created_wall_ms=state.created_wall_ms,
        team_scores=(0,) * state.options.teams,
        entry=state.entry,
        rules=state.rules,
        properties=state.properties,
        tags=state.tags,
        spectator_delay_ms=state.spectator_delay_ms,
    )
