"""The rules of a player. Pure: a state and an occurrence in, a new state out.

A rule that changes nothing gives the same object back, so that the actor sees by identity that nothing
has to be stored.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from game import places, saved_commands
from game.match.state import Line
from game.party import place
from game.places import Membership, Places
from game.player.messages import ChosenStatus, Profile, ProfileSet
from game.player.state import PlayerState, SettledMatch
from server.errors import Rejected, Unavailable

MAX_SETTLED: Final = 64
CODES: Final = {"bad_status": "not a status that a player can choose"}
CHOSEN: Final[dict[str, ChosenStatus]] = {
    "online": "online",
    "away": "away",
    "busy": "busy",
    "invisible": "invisible",
}
"""Words that a heartbeat or `presence.set` may bring, and the status that each chooses."""


# ---- presence -------------------------------------------------------------------------------
# `last_seen_ms` stands still while a player is invisible, so that it gives nobody away.


def arrived(state: PlayerState, wall_ms: int) -> PlayerState:
    """Come back, as the first session opens: with the chosen status, `online` where that was `away`."""
    if state.status != "offline":
        return seen(state, wall_ms)
    chosen: ChosenStatus = "online" if state.chosen == "away" else state.chosen
    return seen(_stands(replace(state, status=chosen, chosen=chosen)), wall_ms)


def departed(state: PlayerState, wall_ms: int) -> PlayerState:
    """Go offline, as the last session is gone."""
    if state.status == "offline":
        return state
    return _stands(replace(seen(state, wall_ms), status="offline"))


def vanished(state: PlayerState) -> PlayerState:
    """Go offline where nobody saw the player go: its node died, or its session's. `last_seen_ms` stays what it was, the
    last time at which somebody was there."""
    return state if state.status == "offline" else _stands(replace(state, status="offline"))


def _stands(state: PlayerState) -> PlayerState:
    """Have the player's party hear whether the player is here."""
    after = place.stand(state.in_party, state.status != "offline")
    return state if after is state.in_party else replace(state, in_party=after)


def is_here(state: PlayerState) -> bool:
    """Whether this state says that the player is connected or in a match."""
    return state.status != "offline" or state.match != ""


def is_hidden(state: PlayerState) -> bool:
    """Whether the player is not to be seen by others, be it here or on its way back."""
    return state.status == "invisible" or (state.status == "offline" and state.chosen == "invisible")


def was_there_before(state: PlayerState) -> bool:
    """Whether the player was in its match before, under another number: what that knows of it may be of then."""
    places = (*state.gone, *state.leaving)
    return any((place.name, place.birth) == (state.match, state.birth) for place in places)


def chosen(word: str) -> ChosenStatus:
    """The status that a word chooses. Raises `Rejected("bad_status")`."""
    status = CHOSEN.get(word)
    if status is None:
        raise Rejected("bad_status", f"{CODES['bad_status']}: {word[:32]!r}")
    return status


def choose(state: PlayerState, status: ChosenStatus, wall_ms: int) -> PlayerState:
    """Set the status that a connected player chose."""
    if status == state.status:
        return state
    return replace(state, status=status, chosen=status, last_seen_ms=wall_ms)


def seen(state: PlayerState, wall_ms: int) -> PlayerState:
    """Move `last_seen_ms` on. Every call is stored, so the actor calls once a minute only."""
    if state.status == "invisible" or state.last_seen_ms == wall_ms:
        return state
    return replace(state, last_seen_ms=wall_ms)


# ---- profile --------------------------------------------------------------------------------


def answer_to(state: PlayerState, lineage: str, command: int) -> int | None:
    """The version that `command` of `lineage` made; None if it is new. Raises `OutcomeUnknown`
    where that is no longer known."""
    return saved_commands.answer_to(state.answered, lineage, command)


def set_profile(state: PlayerState, message: ProfileSet, version: int) -> PlayerState:
    """Change the profile by a new command; `version` is the version that will hold the change."""
    return replace(
        state,
        display_name=message.display_name,
        emblem=message.emblem,
        answered=saved_commands.remember(state.answered, message.lineage, message.command, version),
    )


def profile_version(state: PlayerState) -> int:
    """The version that the newest of profile and totals came with: all that others may know of the player's version,
    which also counts the comings and goings of an invisible one."""
    saved = (command.version for commands in state.answered.values() for command in commands.recent)
    return max(*saved, *(result.version for result in state.settled), 0, 0)


def profile(state: PlayerState, player: str, request_id: int, version: int) -> Profile:
    """The answer to `profile.get`."""
    return Profile(
        request_id,
        player,
        state.display_name or player,
        state.emblem,
        state.matches,
        state.kills,
        state.deaths,
        state.assists,
        state.medals,
        state.wins,
        version,
    )


# ---- matches --------------------------------------------------------------------------------


def entered(state: PlayerState, place: Membership, moves: bool = True) -> PlayerState:
    """Make `place` the current one: see `places.entered`."""
    return _placed(state, places.entered(_places(state), place, moves))


def depart(state: PlayerState, reason: str) -> PlayerState:
    """Leave the current match, if there is one: it is told until it knows."""
    return _placed(state, places.depart(_places(state), reason))


def left(state: PlayerState, match: str, birth: int = 0, number: int = 0) -> PlayerState:
    """Note that the match itself says that places up to `number` (0: all) in it are over: see `places.ended`."""
    return _placed(state, places.ended(_places(state), match, birth, number))


def heard(state: PlayerState, match: str, birth: int, number: int) -> PlayerState:
    """Note that the match has stored that place `number` is free, or is over, or never was."""
    return _placed(state, places.heard(_places(state), match, birth, number))


def _places(state: PlayerState) -> Places:
    """The places in matches, whose parts are fields of their own in the state."""
    return Places(Membership(state.match, state.birth, state.member), state.leaving, state.gone)


def _placed(state: PlayerState, after: Places) -> PlayerState:
    """The state with other places in matches; itself where they are as before."""
    if after == _places(state):
        return state
    now = after.current
    return replace(state, match=now.name, birth=now.birth, member=now.number, leaving=after.leaving, gone=after.gone)


def related(state: PlayerState, number: int) -> PlayerState:
    """Note that the lists of friends and of who is hidden have that number now, if they do not have a later one."""
    return state if number <= state.relations else replace(state, relations=number)


def settled(state: PlayerState, match: str, ended_wall_ms: int, birth: int) -> SettledMatch | None:
    """The result of the match of that name, end and birth (0: not told), if it is among those remembered."""
    for done in reversed(state.settled):
        if (done.match, done.ended_wall_ms) == (match, ended_wall_ms) and (
            done.birth == birth or not done.birth * birth
        ):
            return done
    return None


def is_forgotten(state: PlayerState, ended_wall_ms: int) -> bool:
    """Tell whether a result that is not remembered may have been settled: only the store knows then. Each that was
    ever forgotten ended at `settled_floor_ms` or before, whatever its node's clock said."""
    return ended_wall_ms <= state.settled_floor_ms


def settle(
    state: PlayerState, result: SettledMatch, line: Line, won: bool, is_stored: Callable[[int], bool]
) -> PlayerState:
    """Add a result that is new to the totals. What is remembered longest is forgotten once its version is stored, and
    with it its row in `careers`; what careers get of a result is kept until then. Raises `Unavailable` while too many
    results wait for the store."""
    state = left(state, result.match, result.birth)
    kept, floor = [*state.settled, result], state.settled_floor_ms
    while len(kept) > MAX_SETTLED:
        if not is_stored(kept[0].version):
            raise Unavailable("too many results wait for the store", retry_after_s=1.0)
        floor = max(floor, kept.pop(0).ended_wall_ms)
    kept = [replace(done, gain=None) if done.gain is not None and is_stored(done.version) else done for done in kept]
    return replace(
        state,
        matches=state.matches + 1,
        wins=state.wins + won,
        kills=state.kills + line.kills,
        deaths=state.deaths + line.deaths,
        assists=state.assists + line.assists,
        medals=state.medals + line.medals,
        settled=tuple(kept),
        settled_floor_ms=floor,
    )
