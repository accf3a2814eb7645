"""The rules of how a match ends, and its rounds: by score, by time, in overtime, or because everybody left. Pure, like
`game/match/rules.py`."""

from typing import Any, Final, Literal

from msgspec import UNSET

from game.match.events import RoundEnded
from game.match.state import Line, MatchState, Rounds
from game.messages import Ended, EndReason
from game.modes.mode import ModeRules
from game.modes.registry import mode_of
from server.eventlog.redaction import is_made_up

DECIDED: Final = frozenset({"score", "time", "host_ended"})
"""Reasons for which a live match has a winner."""


def due(state: MatchState, time_ms: int, wall_ms: int) -> Ended | RoundEnded | None:
    """The end of the match, or of its round, if it has come by the match clock `time_ms`. Asked after every command,
    and again after each round that it ends; a recorded match never ends by itself."""
    if state.phase not in ("countdown", "live"):
        return None
    mode = mode_of(state)
    if mode.recording:
        return None
    if not state.players.present:
        return ended(state, time_ms, "abandoned", wall_ms)
    if state.phase != "live":
        return None
    if state.rounds is not UNSET and _decided(mode, state.rounds):
        return ended(state, state.time_ms, state.rounds.reason, wall_ms)
    if mode.reached(state):
        return _over(state, mode, state.time_ms, "score", wall_ms)
    over_ms = _time_over_ms(state, mode, max(time_ms, state.time_ms))
    return None if over_ms is None else _over(state, mode, over_ms, "time", wall_ms)


def ended(state: MatchState, time_ms: int, reason: EndReason, wall_ms: int) -> Ended:
    """The end of the match, with its winner where there is one."""
    winner = _winner(state) if reason in DECIDED and state.phase == "live" else None
    return Ended(max(time_ms, state.time_ms), reason, winner, wall_ms)


def round_ended(state: MatchState, event: RoundEnded) -> dict[str, Any]:
    """How the end of a round changes the state."""
    won = (0,) * len(state.team_scores) if state.rounds is UNSET else state.rounds.won
    won = tuple(count + (event.winner == f"team:{team}") for team, count in enumerate(won))
    return {
        "rounds": Rounds(event.number, won, event.time_ms, event.reason),
        "team_scores": (0,) * len(state.team_scores),
    }


def with_career(state: MatchState) -> list[str]:
    """The players of a match to whose careers it may add: of an imported one those who are known by more than a slot,
    and nobody where it is not to count; of a redacted one whoever was not erased."""
    if state.origin is not UNSET and not state.origin.counts:
        return []
    return [player for player, line in state.players.items() if line.local is UNSET and not is_made_up(player)]


def won(state: MatchState, player: str) -> bool:
    """Whether `player` won, alone or with its team."""
    line = state.players.get(player)
    if state.winner is None or line is None:
        return False
    if not line.present and mode_of(state).early_leave == "forfeits":
        return False
    return state.winner == side_of(player, line)


def result_of(state: MatchState, player: str) -> Literal["won", "lost", "tied", ""]:
    """The result of a match for `player`; empty where it goes on, or ended without a decision."""
    if state.phase != "ended":
        return ""
    if state.winner is not None:
        return "won" if won(state, player) else "lost"
    is_decided = state.end_reason in DECIDED and state.live_from_ms is not None
    return "tied" if is_decided and not mode_of(state).recording else ""


def side_of(player: str, line: Line) -> str:
    """The name of the side of a player, as a winner is called."""
    return player if line.team is None else f"team:{line.team}"


def _time_over_ms(state: MatchState, mode: ModeRules, now_ms: int) -> int | None:
    """When the time of the match, or of its round, was up; None: it is not, or the tie goes on."""
    if not state.options.time_limit_ms:
        return None
    begun_ms = (state.live_from_ms or 0) if state.rounds is UNSET else state.rounds.ended_ms
    over_ms = begun_ms + state.options.time_limit_ms
    if now_ms < over_ms:
        return None
    if not mode.overtime_ms or _legal(state, mode.winner(state)) is not None:
        return over_ms
    return over_ms + mode.overtime_ms if now_ms >= over_ms + mode.overtime_ms else None


def _over(
    state: MatchState, mode: ModeRules, time_ms: int, reason: Literal["score", "time"], wall_ms: int
) -> Ended | RoundEnded:
    """The end of the round, in a mode that has several, else of the match."""
    if mode.rounds == 1:
        return ended(state, time_ms, reason, wall_ms)
    number = 1 if state.rounds is UNSET else state.rounds.played + 1
    winner = _legal(state, mode.winner(state))
    return RoundEnded(max(time_ms, state.time_ms), number, reason, winner, list(state.team_scores), wall_ms)


def _decided(mode: ModeRules, rounds: Rounds) -> bool:
    """Whether nobody can be overtaken any more, or no round is left."""
    return rounds.played >= mode.rounds or max(rounds.won, default=0) > mode.rounds // 2


def _winner(state: MatchState) -> str | None:
    """The team that has won most rounds; where that is none, or there are no rounds, whoever is ahead."""
    rounds = () if state.rounds is UNSET else state.rounds.won
    most = max(rounds, default=0)
    if most and rounds.count(most) == 1:
        return f"team:{rounds.index(most)}"
    return _legal(state, mode_of(state).winner(state))


def _legal(state: MatchState, winner: str | None) -> str | None:
    """`winner`, if it takes part: a mode's function may say anything."""
    if winner is None or winner in state.players:
        return winner
    team = winner.removeprefix("team:")
    is_team = winner != team and team.isdecimal() and int(team) < state.options.teams
    return winner if is_team else None
