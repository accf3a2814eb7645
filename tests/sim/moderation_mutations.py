"""Mutants of moderation (`game/moderation/`, `game/player/standing.py`): what is taken out, and the scenario that is to
find it (`sanctions.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

RULES = "game.moderation.rules"
STANDING = "game.moderation.actor:Standing"
MUTANTS: Final = (
    Mutant(
        "a banned player is let in",
        8,
        "sanctions",
        (("game.player.actor:Player._must_be_welcome", "if error is not None:", "if False:"),),
    ),
    Mutant(
        "a banned host is let in",
        8,
        "sanctions",
        ((f"{STANDING}.judge", "if error is not None:", "if False:"),),
    ),
    Mutant(
        "a ban ends no session",
        8,
        "sanctions",
        (
            (f"{STANDING}._end_sessions", 'if order.act == "ban" and', "if False and"),
            ("game.player.actor:Player.standing", "if standing.is_banned(after, self.wall_ms()):", "if False:"),
        ),
    ),
    Mutant(
        "a ban is for players alone",
        8,
        "sanctions",
        (
            (
                "server.sessions.stream_frames:Dismiss.is_for",
                '(self.every_role or role == "player")',
                'role == "player"',
            ),
            (
                "server.sessions.binding:SessionActors.tell_again",
                "session.actor is None and",
                "session.actor is None or",
            ),
        ),
    ),
    Mutant(
        "an order is carried out again when it is given again",
        8,
        "sanctions",
        ((f"{RULES}:known", "if not order.lineage:", "if True:"),),
    ),
    Mutant(
        "a newer word counts as told with the one before",
        11,
        "sanctions",
        ((f"{RULES}:told", "replace(state, told=number)", "replace(state, told=state.number)"),),
    ),
    Mutant(
        "a player is told nothing of its standing",
        11,
        "sanctions",
        ((f"{STANDING}.facts", "if state.told < state.number:", "if False:"),),
    ),
)
