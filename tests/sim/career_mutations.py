"""Mutants of how results get into careers and ratings (`game/match/results.py`, `game/player/`): what is taken out, and
the scenario that is to find it (`careers.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

PART: Final = "game.match.results:ResultsPart"
ROWS: Final = "persistence.game.player:CareerRows.encode"


def _mutant(name: str, where: str, old: str, new: str) -> Mutant:
    return Mutant(name, 8, "careers", ((where, old, new),))


MUTANTS: Final = (
    _mutant("a result that was forgotten is counted again", "game.player.actor:Player.settle",
            'if await self.query_store("career", asked):', "if False:"),
    _mutant("a floor by the clock says what was settled", "game.player.rules:is_forgotten",
            "ended_wall_ms <= state.settled_floor_ms", "False"),
    _mutant("all below the floor counts as settled", "game.player.actor:Player.settle",
            'if await self.query_store("career", asked):', "if True:"),
    _mutant("a name that is used again counts as counted", "game.player.rules:settled",
            "(done.match, done.ended_wall_ms) == (match, ended_wall_ms) and (", "done.match == match and (True or "),
    _mutant("results are told before they are known", "game.match.results:result_facts",
            "if is_to_rate(state):", "if False:"),
    _mutant("a match is rated again", f"{PART}.rate", "if not is_to_rate(self.state):", "if False:"),
    _mutant("who is to hear of a match that is not rated is nobody", "game.match.results:result_facts",
            "yield fact(Stamp(0, birth), MatchFace, key, MatchFace.rate)", "pass"),
    _mutant("ratings that cannot be read are those of beginners", f"{PART}._ratings",
            "except NotFound:", "except Exception:"),
    _mutant("a rating is set and not changed", "game.careers.ratings:differences",
            "round((new.mu - old.mu) * MILLION)", "round(new.mu * MILLION)"),
    _mutant("the season is that of the clock now", f"{PART}.rate", "self.state.created_wall_ms", "self.wall_ms()"),
    _mutant("what a career gets is dropped before it is stored", "game.player.rules:settle",
            "if done.gain is not None and is_stored(done.version)", "if done is not result"),
    _mutant("only the newest result of a state becomes a row", ROWS,
            "for done in state.settled\n", "for done in state.settled[-1:]\n"),
    _mutant("results that wait for a row are those before the last that is stored", ROWS,
            "if done.version > version", "if done.version > version + 1"),
    _mutant("a streak goes on over a death", "game.careers.tally:Tally._killed", "fallen.streak = 0", "pass"),
    _mutant("the count of a log begins at its tail", f"{PART}._tally", "Tally(), 1", "Tally(), 3"),
)  # fmt: skip
