"""Mutants of the rules of friends and blocks (`game/friends/`): what is taken out, and the scenario that is to find it
(`friendships.py`)."""

from typing import Final

from tests.sim.mutations import TOLD_IS_STORED, Mutant

RULES = "game.friends.rules"
FRIENDS = "game.friends.actor:Friends"
SAYS_YES = "word.yes and word.answered == other.invite != NEVER"
RECORDED: Final = {
    "a word counts as told with the one before it": 2,
}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    Mutant(
        "an accept crosses a block",
        11,
        "crossings",
        (
            (f"{RULES}:are_friends", "if word.blocks or other.blocks:", "if False:"),
            (f"{RULES}:state_of", "if mine.blocks:", "if mine.blocks and not are_friends(mine, theirs):"),
            (f"{RULES}:decided", "return Word(answered=answered, blocks=True)", "return replace(mine, blocks=True)"),
        ),
    ),
    Mutant(
        "a block leaves the consent of before",
        11,
        "crossings",
        ((f"{RULES}:decided", "return Word(answered=answered, blocks=True)", "return replace(mine, blocks=True)"),),
    ),
    Mutant(
        "a yes counts for an invite that is made anew",
        11,
        "crossings",
        (
            (f"{RULES}:accepts", SAYS_YES, "word.yes and other.invite != NEVER"),
            (f"{RULES}:tidied", "if mine.yes and mine.answered != theirs.invite:", "if False:"),
        ),
    ),
    Mutant(
        "a late word about a forgotten pair is believed",
        11,
        "crossings",
        ((f"{FRIENDS}.hear", "word = await self.ref(FriendsFace, player).ask(FriendsFace.word, self.key)", "pass"),),
    ),
    Mutant(
        "a pair is forgotten before the other side has heard",
        11,
        "friendships",
        ((f"{RULES}:_dropped", "player in state.untold or not (", "not ("),),
    ),
    Mutant(
        "a word is ordered by its version alone",
        11,
        "crossings",
        (
            (
                f"{RULES}:hear",
                "word.stamp <= link.theirs.stamp",
                "word.stamp.version <= link.theirs.stamp.version",
            ),
        ),
        TOLD_IS_STORED,
    ),
    Mutant(
        "a late word is believed where the own one is there already",
        11,
        "crossings",
        ((f"{RULES}:has_heard", " and link.theirs.stamp != NEVER", ""),),
    ),
    Mutant(
        "a word replaces a newer one",
        11,
        "friendships",
        ((f"{RULES}:hear", "word.stamp <= link.theirs.stamp", "word.stamp == link.theirs.stamp"),),
    ),
    Mutant(
        "a word counts as told with the one before it",
        11,
        "friendships",
        ((f"{RULES}:heard", " or link.mine.stamp != number", ""),),
    ),
    Mutant(
        "a friendship that is over stays with one side",
        11,
        "friendships",
        ((f"{RULES}:tidied", "if mine.invite != NEVER and theirs.answered >= mine.invite", "if False"),),
    ),
    Mutant(
        "nobody tells the player of its list",
        11,
        "friendships",
        ((f"{FRIENDS}.facts", "if state.relations != state.told:", "if False:"),),
    ),
)
