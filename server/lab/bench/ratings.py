"""`ratings`: matches of eight players are rated, and the ratings get into the store, over SQLite: CPU us an update.

An update is one player's part of OpenSkill for the match, the turn that takes its result, and the row and sums that are
written with the player. The floor is the same number of players whose status has changed. `detail` has the updates a
second of one core, and the CPU of the rating alone.
"""

import time
from typing import Final

from server.actors.actor import Caller
from server.ids import ActorId
from server.lab.bench import databases
from server.lab.bench.harness import Effort, Outcome, alternate
from server.lab.bench.systems import game_system

PLAYERS: Final = 1_000
SIDE: Final = 4
STATUSES: Final = ("away", "online")


async def run(effort: Effort) -> Outcome:
    """CPU us an update."""
    from game.careers import ratings
    from game.careers.events import Gain
    from game.match.state import Line, Lines, MatchState

    count = max(2 * SIDE, effort.size(PLAYERS) // (2 * SIDE) * 2 * SIDE)
    keys = [f"bench-{number:05}" for number in range(count)]
    lines = {key: Line(team=number // SIDE % 2) for number, key in enumerate(keys)}
    alone: list[float] = []
    turn = 0
    async with databases.sqlite() as url, game_system(url) as system:
        callers = {ActorId(f"player/{key}"): Caller("player", key, "bench") for key in keys}
        for identity, caller in callers.items():
            await system.ask(identity, "connected", (caller,))
        await system.write_behind.flush()

        async def below() -> float:
            nonlocal turn
            turn += 1
            begin = time.process_time()
            for identity, caller in callers.items():
                system.ask_now(identity, "beat", (caller, STATUSES[turn // 2 % 2]))
            assert len(system.write_behind) == count
            await system.write_behind.flush()
            return (time.process_time() - begin) * 1e6 / count

        async def above() -> float:
            nonlocal turn
            turn += 1
            begin = time.process_time()
            changes: dict[str, tuple[int, int]] = {}
            for first in range(0, count, 2 * SIDE):
                some = keys[first : first + 2 * SIDE]
                state = MatchState(
                    winner="team:0", team_scores=(2, 1), players=Lines({key: lines[key] for key in some})
                )
                changes |= ratings.differences(state, [some[:SIDE], some[SIDE:]], {})
            alone.append((time.process_time() - begin) * 1e6 / count)
            for key, (mu, log_sigma) in changes.items():
                gain = Gain("slayer", "", True, rating_group="slayer", mu=mu, log_sigma=log_sigma)
                result = (f"m{turn}", turn, lines[key], True, turn, gain)
                await system.ask(ActorId(f"player/{key}"), "settle", result)
            await system.write_behind.flush()
            return (time.process_time() - begin) * 1e6 / count

        found = await alternate("ratings", "us", below, above, effort, goal=None, players=count)
    found.detail["updates_per_s"] = round(1e6 / found.figure)
    found.detail["rating_alone_us"] = round(min(alone), 2)
    return found
