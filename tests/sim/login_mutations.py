"""Mutants of the rules of logins and devices (`server/actors/devices.py`, `game/player/devices.py`): what is taken out,
and the scenario that is to find it (`logins.py`, `late_logins.py`, `lost_logins.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

LOGINS = "server.actors.devices"
DEVICES = "game.player.devices:Devices"

RECORDED: Final = {
    "hellos of one node have no order of their own": 4,
    "a device is not dropped with its run": 3,
    "an arriving session tells its login as no newer one": 2,
}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    Mutant(
        "a policy ends nobody",
        9,
        "logins",
        ((f"{LOGINS}:admit", "gone = [other for other in others if other not in kept]", "gone = []"),),
    ),
    Mutant(
        "a login that the policy does not keep is taken",
        9,
        "logins",
        ((f"{LOGINS}:admit", "if device not in kept:", "if False:"),),
    ),
    Mutant(
        "others go for a login before its session has begun",
        9,
        "late logins",
        ((f"{DEVICES}.take", "if not ended or login.number:", "if True:"),),
    ),
    Mutant(
        "a session's first heartbeat does not say that it has begun",
        9,
        "late logins",
        ((f"{DEVICES}.beaten", "device = self.asked.get(session)", "device = None"),),
    ),
    Mutant(
        "a session that its actor does not know is not told again",
        9,
        "unheard",
        (("server.sessions.session:Session._is_unknown", "if unknown:", "if False:"),),
    ),
    Mutant(
        "a session that could not be resumed does not give way to its own client",
        9,
        "late logins",
        ((f"{LOGINS}:admit", "if login.instead_of and other.login.mark == login.instead_of", "if False"),),
    ),
    Mutant(
        "hellos of one node have no order of their own",
        9,
        "logins",
        ((f"{DEVICES}.take", "put_in_order(device, (*self.here.values(), *self.asked.values()))", "pass"),),
    ),
    Mutant(
        "a device is not dropped with its run",
        9,
        "logins",
        (
            (
                "server.catalog.runs_over:RunsOver.look",
                'self._calls.tell(identity, "run_over", (node, incarnation))',
                "",
            ),
        ),
    ),
    Mutant(
        "an older login of a session moves its device back",
        9,
        "late logins",
        ((f"{DEVICES}.take", "if login.number > known.login.number:", "if True:"),),
    ),
    Mutant(
        "a call of a session that is over brings it back",
        9,
        "late logins",
        ((f"{DEVICES}.take", "if login.number <= self.over.get(name, -1):", "if False:"),),
    ),
    Mutant(
        "a session whose login is refused goes on",
        9,
        "unheard",
        (("server.sessions.binding:SessionActors._judged", "if isinstance(error, REFUSALS) and", "if False and"),),
    ),
    Mutant(
        "a run is over only where this node saw it go",
        9,
        "unseen",
        (
            (
                "server.catalog.runs_over:RunsOver._over",
                "self._missing.setdefault(run, now)",
                "self._missing.get(run, now + 1e9)",
            ),
        ),
    ),
    Mutant(
        "an arriving session tells its login as no newer one",
        9,
        "overtaken",
        (("server.sessions.session:Session.arrive", "packed.login_number + 1", "packed.login_number"),),
    ),
)
