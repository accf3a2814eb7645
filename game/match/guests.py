"""The rules of who may come to a match: invitations, a list, a password, reserved places, kicks. Pure, like
`game/match/rules.py`.

Into a private match comes who is invited or on the host's list, for whom a place is reserved, who has been in it
before, or who knows the password. Of the password only a slow hash with a salt is kept (scrypt, RFC 7914), and only
those may watch the match, and so see that hash, whom it would let in without it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import scrypt
from hmac import compare_digest
from typing import Any, Final

from msgspec import UNSET

from game.match.codes import must_go_on, reject, single_line
from game.match.events import Invited, Kicked, PasswordSet, Reserved, Uninvited, Unkicked
from game.match.hosting import must_host
from game.match.state import OPEN, EntryOptions, MatchState, Reservation, Secret
from game.messages import MatchEvent
from game.modes.registry import mode_of

MAX_NAMES: Final = 1_000
"""Players that are invited, and players that are kicked, in one match."""
MAX_RESERVATIONS: Final = 128
MAX_GUESSES: Final = 5
"""Wrong passwords of one player, after which its guesses are refused unread for a while."""
_COST: Final = 2**11
"""Work of scrypt: 2 MiB and some milliseconds a guess."""


def entry_of(state: MatchState) -> EntryOptions:
    return OPEN if state.entry is UNSET else state.entry


def lets_in(state: MatchState, player: str, wall_ms: int) -> bool:
    """Tell whether `player` may come without a password, as far as invitations go."""
    if not entry_of(state).private or player in state.players:
        return True
    invited = state.allowed is not UNSET and player in state.allowed
    return invited or _places(state, f"player/{player}", wall_ms) > 0


def may_see(state: MatchState, player: str | None, host: str, wall_ms: int, watch: bool) -> bool:
    """Tell whether a caller may ask for the match, or watch it: `player` is its name where it is a player, `host` its
    name as a host. A listed match may be asked for by everybody, and is watched by those who may come."""
    entry = entry_of(state)
    if not entry.private or host == state.host or (entry.listed and not watch):
        return True
    return player is not None and not is_kicked(state, player) and lets_in(state, player, wall_ms)


def is_kicked(state: MatchState, player: str) -> bool:
    return state.kicked is not UNSET and player in state.kicked


def must_be_let_in(state: MatchState, player: str, wall_ms: int, password_fits: bool) -> None:
    """Raise `Rejected` where `player` may not come, however much room there is."""
    if is_kicked(state, player):
        raise reject("kicked", player)
    if not password_fits and not lets_in(state, player, wall_ms):
        raise reject("private", player)


def digest(password: str, salt: str) -> str:
    """The hash of a password that is kept."""
    packed = scrypt(password.encode("utf-8", "surrogatepass"), salt=bytes.fromhex(salt), n=_COST, r=8, p=1, dklen=32)
    return packed.hex()


def password_event(options: EntryOptions, password: str, salt: str) -> list[MatchEvent]:
    """The event of a new match that has a password, if it has one."""
    if not password:
        return []
    if not options.private:
        raise reject("bad_options", "a password is for a private match")
    return [PasswordSet(0, salt, digest(password, salt))]


def fits(state: MatchState, password: str) -> bool:
    """Tell whether this is the match's password, in a time that does not depend on how far it is right."""
    secret = state.secret
    return secret is not UNSET and compare_digest(digest(password, secret.salt), secret.digest)


# ---- reserved places ------------------------------------------------------------------------


def _places(state: MatchState, name: str, wall_ms: int) -> int:
    kept = None if state.reserved is UNSET else state.reserved.get(name)
    return kept.places if kept is not None and kept.until_wall_ms > wall_ms else 0


def reserved_until(state: MatchState, wall_ms: int) -> int | None:
    """The Unix time at which the next place that is reserved for a player is that no more; None: there is none."""
    kept = {} if state.reserved is UNSET else state.reserved
    ends = (each.until_wall_ms for name, each in kept.items() if name.startswith("player/"))
    return min((end for end in ends if end > wall_ms), default=None)


def is_reserved_for(state: MatchState, party: str, wall_ms: int) -> bool:
    return _places(state, f"party/{party}", wall_ms) > 0


def kept_from(state: MatchState, players: Iterable[str], party: str | None, wall_ms: int) -> int:
    """Places that are reserved for others than `players` and `party`, and not taken by those for whom they are."""
    if state.reserved is UNSET:
        return 0
    own = {f"player/{player}" for player in players} | {f"party/{party}"}
    kept = 0
    for name, reservation in state.reserved.items():
        kind, _, who = name.partition("/")
        line = state.players.get(who) if kind == "player" else None
        if name not in own and reservation.until_wall_ms > wall_ms and (line is None or not line.present):
            kept += reservation.places
    return kept


def reserve(
    state: MatchState,
    caller: str,
    term: int,
    players: Sequence[str],
    party: str | None,
    places: int,
    for_ms: int,
    wall_ms: int,
) -> list[MatchEvent]:
    """Keep places for `players` and `party` until `for_ms` from now; none where that is 0."""
    must_host(state, caller, term)
    names = list(dict.fromkeys(players))
    if (party is None) != (places == 0) or not (names or party):
        raise reject("bad_reservation")
    if for_ms == 0:
        return [Reserved(state.time_ms, names, party, places, 0, wall_ms)]
    options = state.options
    absent = sum(1 for name in names if (line := state.players.get(name)) is None or not line.present)
    wanted = state.players.present + kept_from(state, names, party, wall_ms) + absent + places
    if not mode_of(state).recording and wanted > options.max_players:
        raise reject("match_full", f"{wanted} places of {options.max_players}")
    event = Reserved(state.time_ms, names, party, places, wall_ms + for_ms, wall_ms)
    if len(_with_reserved(state, event)) > MAX_RESERVATIONS:
        raise reject("too_many_names", f"{MAX_RESERVATIONS} reservations")
    return [event]


# ---- invitations and the list ---------------------------------------------------------------


def invite(state: MatchState, caller: str, player: str | None, term: int, names: Sequence[str]) -> list[MatchEvent]:
    """Let `names` in and tell them: at the host's wish, or that of `player` where participants may invite."""
    line = None if player is None else state.players.get(player)
    if entry_of(state).open_invites and caller != state.host and line is not None and line.present:
        must_go_on(state)
    else:
        must_host(state, caller, term)
    for name in names:
        if is_kicked(state, name):
            raise reject("kicked", name)
    known = {} if state.allowed is UNSET else state.allowed
    new = [name for name in dict.fromkeys(names) if name not in known]
    _bounded(len(known) + len(new))
    return [Invited(state.time_ms, caller, new)] if new else []


def allow(state: MatchState, caller: str, term: int, names: Sequence[str], allowed: bool) -> list[MatchEvent]:
    """Let `names` in, or no longer, without a word to them."""
    must_host(state, caller, term)
    known = {} if state.allowed is UNSET else state.allowed
    changed = [name for name in dict.fromkeys(names) if (name in known) != allowed]
    if not changed:
        return []
    if not allowed:
        return [Uninvited(state.time_ms, changed)]
    _bounded(len(known) + len(changed))
    return [Invited(state.time_ms, "", changed)]


# ---- kicks ----------------------------------------------------------------------------------


def kick(state: MatchState, caller: str, term: int, player: str, reason: str, number: int) -> list[MatchEvent]:
    """Remove `player` by event `number`, and keep it out. Nothing where it is kicked already."""
    must_host(state, caller, term)
    single_line(reason)
    if is_kicked(state, player):
        return []
    _bounded(1 + (0 if state.kicked is UNSET else len(state.kicked)))
    return [Kicked(state.time_ms, player, reason, number)]


def unkick(state: MatchState, caller: str, term: int, player: str, number: int) -> list[MatchEvent]:
    """Let `player` come again, if it is kick `number` that keeps it out (0: whichever)."""
    must_host(state, caller, term)
    kicked = None if state.kicked is UNSET else state.kicked.get(player)
    if kicked is None or number not in (0, kicked):
        return []
    return [Unkicked(state.time_ms, player, kicked)]


def _bounded(names: int) -> None:
    if names > MAX_NAMES:
        raise reject("too_many_names", f"{names} of {MAX_NAMES}")


# ---- evolve ---------------------------------------------------------------------------------

Changes = dict[str, Any]


def _password(_state: MatchState, event: PasswordSet) -> Changes:
    return {"secret": Secret(event.salt, event.digest)}


def _invited(state: MatchState, event: Invited) -> Changes:
    known = {} if state.allowed is UNSET else state.allowed
    return {"allowed": {**known, **dict.fromkeys(event.players, True)}}


def _uninvited(state: MatchState, event: Uninvited) -> Changes:
    known = {} if state.allowed is UNSET else state.allowed
    return {"allowed": {name: True for name in known if name not in event.players}}


def _with_reserved(state: MatchState, event: Reserved) -> dict[str, Reservation]:
    """The reservations after `event`, without those that are over by then."""
    known = {} if state.reserved is UNSET else state.reserved
    kept = {name: kept for name, kept in known.items() if kept.until_wall_ms > event.wall_ms}
    named = {f"player/{player}": 1 for player in event.players}
    if event.party is not None:
        named[f"party/{event.party}"] = event.places
    for name, places in named.items():
        kept.pop(name, None)
        if event.until_wall_ms:
            kept[name] = Reservation(places, event.until_wall_ms)
    return kept


def _reserved(state: MatchState, event: Reserved) -> Changes:
    return {"reserved": _with_reserved(state, event)}


def _kicked(state: MatchState, event: Kicked) -> Changes:
    known = {} if state.kicked is UNSET else state.kicked
    return {"kicked": {**known, event.player: event.number}}


def _unkicked(state: MatchState, event: Unkicked) -> Changes:
    known = {} if state.kicked is UNSET else state.kicked
    return {"kicked": {name: number for name, number in known.items() if name != event.player}}


EVOLVE: Final[Mapping[type, Callable[[MatchState, Any], Changes]]] = {
    PasswordSet: _password,
    Invited: _invited,
    Uninvited: _uninvited,
    Reserved: _reserved,
    Kicked: _kicked,
    Unkicked: _unkicked,
}
