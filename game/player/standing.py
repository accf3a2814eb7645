"""The mirror of a player's standing in the player's own state, and what the player refuses by it. Pure.

The truth is the actor `standing/NAME` (`game/moderation/`), which tells each change as a fact; the mirror lets a login
be judged, and a line be hidden, with no other actor asked.
"""

from msgspec.structs import replace

from game.moderation.rules import lasts, refusal
from game.player.state import PlayerState
from server.actors.facts import Stamp
from server.errors import Rejected


def heard(
    state: PlayerState,
    number: Stamp,
    banned_until_ms: int,
    ban_reason: str,
    muted_until_ms: int,
    tokens_from_ms: int,
) -> PlayerState:
    """Mirror word `number` of the standing; nothing for one that is older than the newest (a register)."""
    if number <= state.standing_number:
        return state
    return replace(
        state,
        standing_number=number,
        banned_until_ms=banned_until_ms,
        ban_reason=ban_reason,
        muted_until_ms=muted_until_ms,
        tokens_from_ms=tokens_from_ms,
    )


def is_banned(state: PlayerState, wall_ms: int) -> bool:
    """Tell whether the player may have no session now."""
    return lasts(state.banned_until_ms, wall_ms)


def is_muted(state: PlayerState, wall_ms: int) -> bool:
    """Tell whether the player's own lines and fields are hidden from others now, and its invitations refused."""
    return lasts(state.muted_until_ms, wall_ms)


def login_refusal(state: PlayerState, issued_ms: int, wall_ms: int) -> Rejected | None:
    """The error for a login by a token that was issued at `issued_ms` (0: not told); None where it is welcome."""
    return refusal(state.banned_until_ms, state.ban_reason, state.tokens_from_ms, issued_ms, wall_ms)
