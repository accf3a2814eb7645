"""`countdowns(seed) -> violations`: matches whose node stops or crashes in the middle of their countdown, in a cluster
whose nodes' wall clocks differ, some by an hour (F63).

A countdown ends when it was to end by the clock of the match's new node, but not before that node has the match, and
not later than its length after that.
"""

import asyncio
from typing import Final

from game.app import App
from game.messages import MatchCreate, MatchGet, MatchJoin, MatchOptions, MatchStart
from server.actors.actor import Caller
from server.ids import ActorId
from tests.sim.directed import ask, insist, of_node, play
from tests.sim.world import World

HOST: Final = Caller("host", "host", "h1")
BACK_S: Final = 5.0
"""Time within which a crashed node's matches are live on another one, if they are to be."""
EARLY_S: Final = 0.05
LATE_S: Final = 0.8


class _Counting:
    """A match: its countdown's length, when it began (from `began` to `begun`) and was over, on virtual time."""

    def __init__(self, id: ActorId, length_s: float) -> None:
        self.id, self.length_s = id, length_s
        self.began = self.begun = self.live = 0.0


def countdowns(seed: int) -> list[str]:
    """See the module's head."""

    async def run(world: World) -> list[str]:
        rng = world.rng("countdowns")
        ahead_s = rng.choice((0.0, 1.5, -1.5, 3600.0, -3600.0, -3600.0))
        for name in ("n2", "n3"):
            world.processes[name].clock.step_wall(round(1000 * ahead_s))
        node = world.nodes["n1"]
        matches = [_Counting(id, rng.uniform(6.0, 9.0)) for id in of_node(node, "match", 3)]
        for match, id in zip(matches, of_node(world.nodes["n2"], "player", len(matches)), strict=True):
            player = Caller("player", id.partition("/")[2], "s1")
            await insist(world, id, "connected", player)  # else it is absent, and its match abandoned
            await _begin(world, match, player)
        await asyncio.sleep(rng.uniform(0.5, 3.5))
        gone_at, orderly = world.loop.time(), rng.random() < 0.3
        if orderly:
            await world.stop_process("n1")
        else:
            world.crash_process("n1")
        await asyncio.gather(*(_await_live(world, match) for match in matches))
        return [line for match in matches for line in _judge(match, gone_at, 0.0 if orderly else ahead_s)]

    return play(seed, run, app=App)


async def _begin(world: World, match: _Counting, player: Caller) -> None:
    key = match.id.partition("/")[2]
    options = MatchOptions(countdown_ms=round(1000 * match.length_s), teams=0)
    await insist(world, match.id, "create", HOST, MatchCreate(1, "line", 1, key, options))
    await insist(world, match.id, "join", player, MatchJoin(1, "line", 1, key))
    match.began = world.loop.time()
    answer = await insist(world, match.id, "start", HOST, MatchStart(1, "line", 2, key))
    assert answer.next_seq > answer.first_seq
    match.begun = world.loop.time()


async def _await_live(world: World, match: _Counting) -> None:
    """Look at it, ten times a second, until it is live."""
    question = MatchGet(1, match.id.partition("/")[2])
    while not match.live:
        await asyncio.sleep(0.1)
        for node in list(world.nodes.values()):
            board = await ask(node, match.id, "get", HOST, question)
            if getattr(board, "phase", "countdown") != "countdown":
                match.live = world.loop.time()


def _judge(match: _Counting, gone_at: float, ahead_s: float) -> list[str]:
    """Compare when a match went live with when it was to: its new node's clock is `ahead_s`."""
    length_s, back = match.length_s, gone_at + BACK_S
    earliest = min(max(match.began + length_s - ahead_s, gone_at), gone_at + length_s) - EARLY_S
    latest = min(max(match.begun + length_s - ahead_s, back), back + length_s) + LATE_S
    if earliest <= match.live <= latest:
        return []
    return [
        f"{match.id} counted {match.length_s:.1f} s from {match.began:.1f}, lost its node at {gone_at:.1f}, clocks "
        f"{ahead_s} s apart, and went live at {match.live:.1f}, not from {earliest:.1f} to {latest:.1f}"
    ]
