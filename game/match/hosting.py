"""The rules of a match's host: who may drive the match, and how that role passes on. Pure, like `game/match/rules.py`.

The role has a *term*: the number of the event that gave it. Each command of a host names its term, so that whatever
an earlier host says late is refused, also where the role came back to it meanwhile (a fencing token).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import UNSET

from game.match.codes import must_go_on, reject
from game.match.events import HostChanged, SuccessorNamed
from game.match.state import MatchState
from game.messages import MatchEvent

FIRST_TERM: Final = 1
"""The term of the host that created the match."""


def host_name(role: str, subject: str) -> str:
    """The name of a caller as a match's host: a player is told from a game server of the same name by a character that
    no subject has."""
    return f"player/{subject}" if role == "player" else subject


def player_of(host: str) -> str | None:
    """The player that has this name as a host; None for a game server."""
    return host.removeprefix("player/") if host.startswith("player/") else None


def term_of(state: MatchState) -> int:
    return FIRST_TERM if state.term is UNSET else state.term


def must_host(state: MatchState, caller: str, term: int = FIRST_TERM) -> None:
    """Raise `Rejected` unless `caller` is the host of the match in its `term`, and the match goes on."""
    if caller != state.host:
        raise reject("not_host")
    if term != term_of(state):
        raise reject("not_host", f"term {term} is over, or was never; it is {term_of(state)}")
    must_go_on(state)


def name_successor(state: MatchState, caller: str, term: int, successor: str | None) -> list[MatchEvent]:
    """Let `successor` take over when the host is silent for too long; None: nobody."""
    must_host(state, caller, term)
    if successor == state.host:
        raise reject("bad_host", "it is the host")
    known = None if state.successor is UNSET else state.successor
    return [] if successor == known else [SuccessorNamed(state.time_ms, successor)]


def pass_host(
    state: MatchState, caller: str, term: int, host: str | None, number: int, wall_ms: int
) -> list[MatchEvent]:
    """Make `host`, or the successor, the host by event `number`."""
    must_host(state, caller, term)
    to = host if host is not None else (None if state.successor is UNSET else state.successor)
    if to is None:
        raise reject("bad_host", "nobody is named")
    if to == state.host:
        raise reject("bad_host", "it is the host")
    return [HostChanged(state.time_ms, to, "passed", number, wall_ms)]


def taken_over(state: MatchState, number: int, wall_ms: int) -> list[MatchEvent]:
    """Let the successor take over from a host that is silent, by event `number`; nothing where nobody is named."""
    if not state.host or state.phase == "ended" or state.successor is UNSET:
        return []
    return [HostChanged(state.time_ms, state.successor, "silent", number, wall_ms)]


# ---- evolve ---------------------------------------------------------------------------------


def _named(_state: MatchState, event: SuccessorNamed) -> dict[str, Any]:
    return {"successor": UNSET if event.host is None else event.host}


def _changed(_state: MatchState, event: HostChanged) -> dict[str, Any]:
    return {"host": event.host, "term": event.term, "successor": UNSET}


EVOLVE: Final[Mapping[type, Callable[[MatchState, Any], dict[str, Any]]]] = {
    SuccessorNamed: _named,
    HostChanged: _changed,
}
