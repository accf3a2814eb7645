"""Mutants of the rules of who may come to a match, and of who hosts it (`game/match/`): what is taken out, and the
scenario that is to find it (`admissions.py`, `handovers.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

GUESTS = "game.match.guests"
ADMISSION = "game.match.admission"
HOSTING = "game.match.hosting"
GHOST: Final = "a match keeps a place for whoever is no player"
RECORDED: Final = {GHOST: 122}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    Mutant(GHOST, 11, "parties", (("game.match.actor:Match.facts_done", "if told.refused and", "if False and"),)),
    Mutant(
        "a match that refuses takes players out of others",
        11,
        "crossings of matches",
        (("game.places:entered", "elif not moves and places.current.name:", "elif False:"),),
    ),
    Mutant(
        "a match that refuses asks nobody",
        11,
        "crossings of matches",
        ((f"{ADMISSION}:newcomers", "if not guests.entry_of(state).refuses_elsewhere:", "if True:"),),
    ),
    Mutant(
        "a kicked player comes back",
        11,
        "admissions",
        ((f"{GUESTS}:must_be_let_in", "if is_kicked(state, player):", "if False:"),),
    ),
    Mutant(
        "a kicked player is told nothing",
        11,
        "crossings of matches",
        (("game.match.actor:Match._append", "if event.player in self.state.players:", "if False:"),),
    ),
    Mutant(
        "a party comes again under its number",
        11,
        "admissions",
        ((f"{ADMISSION}:party_before", "if entry is None or entry.number < message.number:", "if True:"),),
    ),
    Mutant(
        "a party comes though there is no room for all of it",
        11,
        "admissions",
        ((f"{ADMISSION}:_must_have_room", "kept + coming > state", "kept + 1 > state"),),
    ),
    Mutant(
        "a host of an earlier term reports",
        11,
        "handovers",
        (("game.match.rules:report", "caller, term)", "caller, hosting.term_of(state))"),),
    ),
    Mutant(
        "a change of the host begins no term",
        11,
        "handovers",
        ((f"{HOSTING}:pass_host", '"passed", number,', '"passed", term_of(state),'),),
    ),
    Mutant(
        "a silent host's match ends though a successor is named",
        11,
        "handovers",
        (("game.match.rules:host_vanished", "if taken_over:", "if False:"),),
    ),
)
