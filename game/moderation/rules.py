"""The rules of moderation. Pure: a state and an order in, a new state out; nothing asks a clock here.

An end is a wall time in Unix ms: 0 is "not at all", `FOR_GOOD` is later than any clock says. So an end comes by
itself, with nobody's act, by the clock of the node that asks.
"""

from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from game.moderation.state import Act, Order, StandingState
from server.actors.facts import Stamp
from server.errors import BadInput, Rejected, Unavailable
from server.texts import escaped, renamed

FOR_GOOD: Final = 2**53 - 1
"""The end of a ban or a mute that has none: the greatest number that is one of its own in every client's language."""
MAX_ACTS: Final = 32
"""Acts that a standing remembers itself; whether an older order was carried out the store is asked."""
AHEAD_MS: Final = 60_000
"""Time by which `before_ms` may be ahead of this node's clock: makers of tokens have clocks of their own."""
CLOSED_BANNED: Final = 4101
CLOSED_REVOKED: Final = 4102
CLOSED_KICKED: Final = 4103
"""Close codes of sessions that moderation ends (docs/protocol.md)."""
CODES: Final = {
    "banned": "banned: no login is taken until `retry_after_ms` from now, or for good where that is nil",
    "revoked": "the token was issued before the subject's tokens were revoked: come back with a new one",
    "not_banned": "the subject is not banned now",
    "not_muted": "the subject is not muted now",
}


# ---- what a standing says ---------------------------------------------------------------------


def lasts(until_ms: int, wall_ms: int) -> bool:
    """Tell whether a ban or a mute with that end is in force."""
    return wall_ms < until_ms


def left_s(until_ms: int, wall_ms: int) -> float | None:
    """Seconds until the end; None where it has none."""
    return None if until_ms >= FOR_GOOD else max(0, until_ms - wall_ms) / 1000


def because(word: str, reason: str) -> str:
    """A sentence for the subject: `banned: team killing`, or only the word where nobody gave a reason."""
    return f"{word}: {escaped(reason)}" if reason else word


def refusal(
    banned_until_ms: int, ban_reason: str, tokens_from_ms: int, issued_ms: int, wall_ms: int
) -> Rejected | None:
    """The error for a login of a subject with that standing, whose token was issued at `issued_ms` (0: not told);
    None where it is welcome. `Rejected.retry_after_s` says when a ban is over."""
    if lasts(banned_until_ms, wall_ms):
        return Rejected("banned", because("banned", ban_reason), retry_after_s=left_s(banned_until_ms, wall_ms))
    if 0 < issued_ms < tokens_from_ms:
        return Rejected("revoked", "this token was revoked; log in again for a new one")
    return None


# ---- orders -----------------------------------------------------------------------------------


def known(state: StandingState, order: Order) -> int | None:
    """The number of the act by which this very order was carried out, if that is remembered here."""
    if not order.lineage:
        return None
    this = (order.principal, order.role, order.lineage, order.command)
    same = (act.number for act in state.acts if (act.principal, act.role, act.lineage, act.command) == this)
    return next(same, None)


def is_forgotten(state: StandingState, order: Order) -> bool:
    """Tell whether only the store knows if an order that is not remembered was carried out."""
    return bool(order.lineage) and state.forgotten > 0


def carried_out(
    state: StandingState, order: Order, stamp: Stamp, wall_ms: int, is_stored: Callable[[int], bool]
) -> StandingState:
    """The standing after a new order, with its act; `stamp` is the number of this word. Raises `Rejected`
    (`not_banned`, `not_muted`), `BadInput` for a time that is not here yet, `Unavailable` while too many acts wait for
    the store."""
    after, until_ms = _changed(state, order, wall_ms)
    if after is not state:
        after = replace(after, number=stamp)
    act = Act(
        stamp.version, wall_ms, order.act, order.principal, order.role, order.reason, until_ms,
        order.lineage, order.command,
    )  # fmt: skip
    acts, forgotten = [*state.acts, act], state.forgotten
    while len(acts) > MAX_ACTS:
        if not is_stored(acts[0].number):
            raise Unavailable("too many acts wait for the store", retry_after_s=1.0)
        del acts[0]
        forgotten += 1
    return replace(after, acts=tuple(acts), forgotten=forgotten)


def _changed(state: StandingState, order: Order, wall_ms: int) -> tuple[StandingState, int]:
    """The state that the order wants, without its act, and the time that the act names."""
    until_ms = min(FOR_GOOD, wall_ms + order.for_ms) if order.for_ms else FOR_GOOD
    match order.act:
        case "ban":
            return replace(state, banned_until_ms=until_ms, ban_reason=order.reason), until_ms
        case "unban":
            if not lasts(state.banned_until_ms, wall_ms):
                raise Rejected("not_banned", CODES["not_banned"])
            return replace(state, banned_until_ms=0, ban_reason=""), 0
        case "mute":
            return replace(state, muted_until_ms=until_ms, mute_reason=order.reason), until_ms
        case "unmute":
            if not lasts(state.muted_until_ms, wall_ms):
                raise Rejected("not_muted", CODES["not_muted"])
            return replace(state, muted_until_ms=0, mute_reason=""), 0
        case "revoke":
            if order.before_ms > wall_ms + AHEAD_MS:
                raise BadInput("before_ms is later than now: tokens that are still to come cannot be revoked")
            from_ms = order.before_ms or wall_ms
            return replace(state, tokens_from_ms=max(state.tokens_from_ms, from_ms)), from_ms
        case "kick" | "erase":
            return state, 0


def erased(state: StandingState) -> StandingState:
    """The standing of a subject who is erased: nothing is said of it, and nothing left to tell."""
    return StandingState(number=state.number, told=state.number)


def forget(state: StandingState, person: str, instead: str) -> StandingState:
    """The same with another key where `person`, who is erased, stands in reasons, or as the principal of an act."""
    acts = tuple(
        replace(act, principal=renamed(act.principal, person, instead), reason=renamed(act.reason, person, instead))
        for act in state.acts
    )
    ban, mute = (renamed(text, person, instead) for text in (state.ban_reason, state.mute_reason))
    after = replace(state, acts=acts, ban_reason=ban, mute_reason=mute)
    return state if after == state else after


def told(state: StandingState, number: Stamp) -> StandingState:
    """Note that the player has stored word `number`."""
    return state if number <= state.told else replace(state, told=number)
