"""The mutants of parties (`parties.py`): rule 11, what two actors must agree on."""

from typing import Final

from tests.sim.mutations import Mutant

RULES = "game.party.rules"
PLACE = "game.party.place"

MUTANTS: Final = (
    Mutant(
        "a delayed leave of a party takes out who has come back",
        11,
        "late words",
        ((f"{RULES}:gone", "member.number > number", "False"),),
    ),
    Mutant(
        "a kick means whatever membership there is",
        11,
        "late words",
        ((f"{RULES}:kick", "_member(state, player).number != number", "_member(state, player) is None"),),
    ),
    Mutant(
        "a word of an earlier membership says who is here",
        11,
        "late words",
        ((f"{RULES}:seen", "member.number != number", "False"),),
    ),
    Mutant(
        "a party whose node is gone waits for nobody",
        11,
        "late words",
        ((f"{RULES}:is_due", "any(not member.here for member in state.members.values())", "False"),),
    ),
    Mutant(
        "a leader who is away stays the leader",
        11,
        "parties",
        ((f"{RULES}:due", "wall_ms >= leader.away_wall_ms + grace.leader_ms", "False"),),
    ),
    Mutant(
        "members who are away are never let go",
        11,
        "parties",
        ((f"{RULES}:due", "wall_ms >= member.away_wall_ms + grace.member_ms", "False"),),
    ),
    Mutant(
        "a party tells nobody of a membership",
        11,
        "parties",
        (("game.party.actor:Party.facts", "for player, word in state.untold.items()", "for player, word in ()"),),
    ),
    Mutant(
        "a caller who is no player stays a member",
        11,
        "parties",
        ((f"{RULES}:heard", "refused and joined", "False"),),
    ),
    Mutant(
        "a player who changes its party tells the former nothing",
        11,
        "parties",
        (("game.player.parties:party_facts", "for left in mine.places.leaving", "for left in ()"),),
    ),
    Mutant(
        "a player does not say whether it is here",
        11,
        "parties",
        (("game.player.parties:party_facts", "mine.word != mine.heard", "False"),),
    ),
    Mutant(
        "a player that is taken in while it is away does not say so",
        11,
        "parties",
        (
            (
                f"{PLACE}:joined",
                "return stand(InParty(after, invitations=others), here)",
                "return InParty(after, invitations=others)",
            ),
        ),
    ),
    Mutant(
        "a block leaves invitations as they are",
        11,
        "uninvited",
        (("game.player.actor:Player.relations_changed", "if hidden:", "if False:"),),
    ),
    Mutant(
        "a block lets an invitation be used",
        11,
        "uninvited",
        (("game.party.actor:Party.join", "if by is not None and await", "if False and await"),),
    ),
)
