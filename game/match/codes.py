"""Codes of the refusals of a match's rules, and what they mean; conditions that several of the rules have. Pure."""

from typing import Final

from game.match.state import MatchState
from server.errors import Rejected
from server.texts import escaped, is_line

CODES: Final = {
    "match_exists": "a match of this name exists",
    "bad_name": "a name that a new match cannot have",
    "bad_options": "options that cannot be played",
    "unknown_mode": "the server has no such mode",
    "unknown_objective": "the mode has no such objective",
    "bad_text": "a text with control or format characters",
    "not_host": "only the host of the match may do this",
    "match_ended": "the match is over",
    "already_started": "the match has left the lobby",
    "no_players": "nobody has joined",
    "not_live": "the match is not live",
    "no_join_in_progress": "the match has started and takes nobody in",
    "match_full": "the match has no free place",
    "already_joined": "the player is in the match, on another team",
    "bad_team": "the match has no such team",
    "not_in_match": "the player is not in the match",
    "clock_backwards": "a time below one that was reported before",
    "unknown_player": "a player that is not on the roster",
    "not_present": "a player that has left the match",
    "victim_required": "in this mode a kill needs its victim",
    "same_player": "killer and victim are the same player",
    "no_target": "a score is a team's or a player's",
    "bad_host": "a host that the match cannot have",
    "hosts_too_many": "the player hosts as many matches as it may",
    "bad_reservation": "places are for players, or so many for a party",
    "too_many_names": "the match keeps no more names of this kind",
    "too_many_properties": "the match has no more properties",
    "kicked": "the host has removed the player",
    "private": "the match is private, and nothing lets the player in",
    "wrong_password": "another password lets into the match",
    "too_many_guesses": "too many wrong passwords; the next is read later",
    "in_another_match": "the player is in another match, and this one takes nobody out of others",
    "muted": "whoever is muted invites nobody",
    "party_late": "the party has asked for its places again since",
}


def reject(code: str, detail: str = "") -> Rejected:
    """The error of a rule; `detail` is appended to the sentence of `code`."""
    return Rejected(code, f"{CODES[code]}{': ' if detail else ''}{detail}")


def must_go_on(state: MatchState) -> None:
    """Raise `Rejected` unless the match goes on."""
    if state.phase == "ended":
        raise reject("match_ended", state.end_reason or "")


def single_line(text: str) -> None:
    """Raise `Rejected` for a text that a terminal or a page would obey."""
    if not is_line(text):
        raise reject("bad_text", escaped(text))
