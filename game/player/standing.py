"""The mirror of a player's standing in the player's own state, and what the player refuses by it. Pure.

The truth is the actor `standing/NAME` (`game/moderation/`), which tells each change as a fact; the mirror lets a login
be judged, and a line be hidden, with no other actor asked.
"""

from typing import Final

from msgspec.structs import replace

from game.moderation.rules import because, lasts, left_s
from game.player.state import PlayerState
from server.actors.facts import Stamp
from server.errors import Rejected

CODES: Final = {
    "banned": "banned: no login is taken until `retry_after_ms` from now, or for good where that is nil",
    "revoked": "the token was issued before the subject's tokens were revoked: come back with a new one",
}
CLOSED_BANNED: Final = 4101
CLOSED_REVOKED: Final = 4102
CLOSED_KICKED: Final = 4103
"""Close codes of sessions that moderation ends (docs/protocol.md)."""


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


def refusal(
    banned_until_ms: int, ban_reason: str, tokens_from_ms: int, issued_ms: int | None, wall_ms: int
) -> Rejected | None:
    """The error for a login of a subject with that standing, whose token was issued at `issued_ms` (None: not told);
    None where it is welcome. `Rejected.retry_after_s` says when a ban is over."""
    if lasts(banned_until_ms, wall_ms):
        return Rejected("banned", because("banned", ban_reason), retry_after_s=left_s(banned_until_ms, wall_ms))
    if issued_ms is not None and issued_ms < tokens_from_ms:
        return Rejected("revoked", "this token was revoked; log in again for a new one")
    return None


def login_refusal(state: PlayerState, issued_ms: int | None, wall_ms: int) -> Rejected | None:
    """The same, by the mirror."""
    return refusal(state.banned_until_ms, state.ban_reason, state.tokens_from_ms, issued_ms, wall_ms)
