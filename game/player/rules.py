"""The rules of a player. Pure: a state and an occurrence in, a new state out.

A rule that changes nothing gives the same object back, so that the actor sees by identity that nothing
has to be stored.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from game.match.state import Line
from game.messages import ChosenStatus, Presence, Profile, ProfileSet
from game.player.state import Membership, PlayerState, SavedCommand, SavedCommands, SettledMatch
from server.errors import OutcomeUnknown, Rejected, Unavailable

MAX_COMMANDS: Final = 16
"""Profile commands that are remembered of one lineage."""
MAX_LINEAGES: Final = 8
"""Lineages whose answers are remembered; past that, those of the one whose last change is oldest are forgotten."""
MAX_FORGOTTEN: Final = 56
"""Lineages of which is only remembered how far they had come, so that an old command is told from a new one."""
MAX_SETTLED: Final = 64
MAX_GONE: Final = 16
"""Matches of which is remembered up to which place the player has left them. What is said late is about a newer one."""
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
    return seen(replace(state, status=chosen, chosen=chosen), wall_ms)


def departed(state: PlayerState, wall_ms: int) -> PlayerState:
    """Go offline, as the last session is gone."""
    if state.status == "offline":
        return state
    return replace(seen(state, wall_ms), status="offline")


def vanished(state: PlayerState) -> PlayerState:
    """Go offline where nobody saw the player go: its node died, or its session's. `last_seen_ms` stays what it was, the
    last time at which somebody was there."""
    return state if state.status == "offline" else replace(state, status="offline")


def is_here(state: PlayerState) -> bool:
    """Whether this state says that the player is connected or in a match."""
    return state.status != "offline" or state.match != ""


def choose(state: PlayerState, word: str, wall_ms: int) -> PlayerState:
    """Set the status that a connected player chose. Raises `Rejected("bad_status")`."""
    status = CHOSEN.get(word)
    if status is None:
        raise Rejected("bad_status", f"{CODES['bad_status']}: {word[:32]!r}")
    if status == state.status:
        return state
    return replace(state, status=status, chosen=status, last_seen_ms=wall_ms)


def seen(state: PlayerState, wall_ms: int) -> PlayerState:
    """Move `last_seen_ms` on. Every call is stored, so the actor calls once a minute only."""
    if state.status == "invisible" or state.last_seen_ms == wall_ms:
        return state
    return replace(state, last_seen_ms=wall_ms)


def view(state: PlayerState, player: str, request_id: int, activity: str, own: bool) -> Presence:
    """Presence as the player itself (`own`) or anybody else may see it. To others an invisible player is
    offline, in no match and doing nothing."""
    if not own and state.status in ("invisible", "offline"):
        return Presence(request_id, player, "offline", "", None, state.last_seen_ms)
    return Presence(request_id, player, state.status, activity, state.match or None, state.last_seen_ms)


# ---- profile --------------------------------------------------------------------------------


def answer_to(state: PlayerState, lineage: str, command: int) -> int | None:
    """The version that `command` of `lineage` made; None if it is new. Raises `OutcomeUnknown`
    where that is no longer known."""
    saved = state.answered.get(lineage)
    if saved is None:
        return None
    for answer in saved.recent:
        if answer.command == command:
            return answer.version
    if command <= saved.floor:
        raise OutcomeUnknown(f"command {command} is older than the last {MAX_COMMANDS} of this client")
    return None


def set_profile(state: PlayerState, message: ProfileSet, version: int) -> PlayerState:
    """Change the profile by a new command; `version` is the version that will hold the change."""
    return replace(
        state,
        display_name=message.display_name,
        emblem=message.emblem,
        answered=_remember(state.answered, message.lineage, message.command, version),
    )


def _remember(answered: dict[str, SavedCommands], lineage: str, command: int, version: int) -> dict[str, SavedCommands]:
    before = answered.get(lineage, SavedCommands())
    recent = tuple(sorted((*before.recent, SavedCommand(command, version)), key=lambda saved: saved.command))
    floor = before.floor
    if len(recent) > MAX_COMMANDS:
        floor, recent = max(floor, recent[0].command), recent[1:]
    after = {**answered, lineage: SavedCommands(floor, recent)}
    known = {name: saved.recent for name, saved in after.items() if saved.recent}
    if len(known) > MAX_LINEAGES:
        oldest = min(known, key=lambda name: max(saved.version for saved in known[name]))
        del after[oldest]
        after[oldest] = SavedCommands(known[oldest][-1].command)  # at the end: the first one is the longest forgotten
        forgotten = [name for name, saved in after.items() if not saved.recent]
        for name in forgotten[:-MAX_FORGOTTEN]:
            del after[name]
    return after


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


def entered(state: PlayerState, place: Membership) -> PlayerState:
    """Make `place` the current one, and leave that in any other match: a player is in one at a time. Nothing for a
    place that the player has left, whenever the match says so."""
    if place.number and place.number <= _left_up_to(state, place):
        return state
    if _is_current(state, place.match, place.birth):
        if place.number <= state.member:
            return state
    else:
        state = depart(state, "left")
    unnumbered = (place.match, 0)  # a place of an earlier version, which this one takes over
    leaving = tuple(other for other in state.leaving if (other.match, other.number) != unnumbered)
    return replace(state, match=place.match, birth=place.birth, member=place.number, leaving=leaving)


def depart(state: PlayerState, reason: str) -> PlayerState:
    """Leave the current match, if there is one: it is told until it knows."""
    if not state.match:
        return state
    place = Membership(state.match, state.birth, state.member, reason)
    return replace(_remember_left(state, place), match="", birth=0, member=0, leaving=(*state.leaving, place))


def left(state: PlayerState, match: str, birth: int = 0, number: int = 0) -> PlayerState:
    """Note that the match itself says that places up to `number` (0: all) in it are over. `birth` is 0 where it does
    not say which match of that name it is."""
    ended = {
        place
        for place in state.leaving
        if (place.match, place.birth) == (match, birth) and (not number or place.number <= number)
    }
    if ended:
        state = replace(state, leaving=tuple(place for place in state.leaving if place not in ended))
    if _is_current(state, match, birth) and (not number or state.member <= number):
        place = Membership(match, state.birth, max(number, state.member))
        return replace(_remember_left(state, place), match="", birth=0, member=0)
    place = Membership(match, birth, number)
    return state if number <= _left_up_to(state, place) else _remember_left(state, place)


def heard(state: PlayerState, match: str, birth: int, number: int) -> PlayerState:
    """Note that the match has stored that place `number` is free, or is over, or never was."""
    leaving = tuple(
        place for place in state.leaving if (place.match, place.birth, place.number) != (match, birth, number)
    )
    return state if len(leaving) == len(state.leaving) else replace(state, leaving=leaving)


def _is_current(state: PlayerState, match: str, birth: int) -> bool:
    """Whether that is the match the player is in. Earlier versions did not tell a birth."""
    return state.match == match != "" and (birth == state.birth or 0 in (birth, state.birth))


def _left_up_to(state: PlayerState, place: Membership) -> int:
    """The highest number of a place in that match that the player has left."""
    same = (left.number for left in state.gone if (left.match, left.birth) == (place.match, place.birth))
    return max(same, default=0)


def _remember_left(state: PlayerState, place: Membership) -> PlayerState:
    """Remember that places up to `place` in that match are left (a tombstone); one without a number cannot be."""
    if not place.number:
        return state
    kept = [other for other in state.gone if (other.match, other.birth) != (place.match, place.birth)]
    highest = Membership(place.match, place.birth, max(place.number, _left_up_to(state, place)))
    return replace(state, gone=(*kept, highest)[-MAX_GONE:])


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
    with it its row in `careers`. Raises `Unavailable` while too many results wait for the store."""
    state = left(state, result.match, result.birth)
    kept, floor = [*state.settled, result], state.settled_floor_ms
    while len(kept) > MAX_SETTLED:
        if not is_stored(kept[0].version):
            raise Unavailable("too many results wait for the store", retry_after_s=1.0)
        floor = max(floor, kept.pop(0).ended_wall_ms)
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
