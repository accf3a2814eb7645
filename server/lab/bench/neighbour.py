"""`neighbour`: what a well-behaved client feels of badly behaved ones on its node.

The 99th percentile of its heartbeats' round trips, in turn alone and beside one who floods, or sends
frames that are too large, broken or unknown, or comes with forged tokens, stops in the middle of a
frame, or does not read; each as fast as it can, and back at once when it is thrown out. The figure is
of the kind that is felt most; `all_at_once` is the ratio beside one of every kind. The node has one
processor, all clients the other, where the neighbour goes before the others.

`lists` is the same beside five players who ask for the list of live matches as fast as they may, on a node with 2,500
of them, which is what the neighbour is measured alone on too. `neighbour` ends with it.
"""

import asyncio
import statistics
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Any

import msgspec

from server.actors.actor import Role
from server.lab.bench.abusers import Crowd, kinds
from server.lab.bench.beats import Measured, Neighbour
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import Effort, Outcome, Served, cpu_s, cpus, outcome, pinned, progress, rss_kib
from server.lab.bench.lines import Lines
from server.lab.bench.matches import accepted, live_matches
from server.lab.bench.raw_socket import connected
from server.sessions.tokens import issue

SAMPLE_S = 1.8
PAUSE_S = 0.3
SESSIONS = 8
REPORTS = 80
EVENTS = 256
GOAL = 2.0
LISTED_MATCHES = 2_500
KEEPERS = 5
ASKERS = 5
LISTED_S = 5.0


class Bench:
    """The node, its neighbour and the crowd."""

    def __init__(self, neighbour: Lines, crowd: Lines, seconds: float) -> None:
        self._neighbour, self._crowd, self._seconds = neighbour, crowd, seconds
        self.thrown: dict[str, int] = {}

    async def quiet(self) -> Measured:
        """The neighbour alone."""
        await asyncio.sleep(PAUSE_S)
        return await self._measure()

    async def among(self, names: Iterable[str]) -> Measured:
        """The neighbour while the crowd of these kinds does what it does."""
        await self._crowd.tell(f"start {' '.join(names)}".encode())
        await asyncio.sleep(PAUSE_S)
        try:
            return await self._measure()
        finally:
            self.thrown = msgspec.json.decode(await self._crowd.tell(b"stop"))

    async def _measure(self) -> Measured:
        return msgspec.json.decode(await self._neighbour.tell(str(self._seconds).encode()), type=Measured)


async def run(effort: Effort) -> Outcome:
    """ms, p99 of a neighbour's heartbeat, beside the kind of abuse that it feels most and alone."""
    names = list(kinds())
    async with AsyncExitStack() as stack:
        node, key = await stack.enter_async_context(node_and_key())
        url, processors = node.ready["client_url"], cpus()[1]
        now_ms = time.time_ns() // 1_000_000
        tokens = [issue(key, f"p{n}", "player", 3600, now_ms) for n in range(SESSIONS + len(names))]
        topic = await _long_stream(url, issue(key, "host", "host", 3600, now_ms))
        near = Neighbour(url, tokens[:SESSIONS], processors)
        bench = Bench(
            await stack.enter_async_context(Lines("beats", near)),
            await stack.enter_async_context(Lines("abusers", Crowd(url, tokens[SESSIONS:], topic, processors))),
            effort.seconds(SAMPLE_S),
        )
        await bench.among(names)
        before = rss_kib(node.pid)
        rounds = range(max(1, effort.rounds // 3))
        outcomes = {name: _outcome([await _pair(bench, [name], name) for _ in rounds]) for name in names}
        crowd = _outcome([await _pair(bench, names, "all of them") for _ in rounds])
        outcomes["lists"] = await _listed(stack, node, key, effort)
        worst = max(outcomes, key=lambda name: outcomes[name].ratio)
        detail: dict[str, Any] = {
            "kind": worst,
            "by_kind": {name: outcome.ratio for name, outcome in outcomes.items()},
            "all_at_once": crowd.ratio,
            "grown_kib": rss_kib(node.pid) - before,
            "thrown_out": bench.thrown,
        }
        return msgspec.structs.replace(outcomes[worst], detail=detail)


async def lists(effort: Effort) -> Outcome:
    """ms, p99 of a neighbour's heartbeat, beside five who list 2,500 live matches and alone."""
    async with AsyncExitStack() as stack:
        node, key = await stack.enter_async_context(node_and_key())
        return msgspec.structs.replace(await _listed(stack, node, key, effort), name="lists")


async def _listed(stack: AsyncExitStack, node: Served, key: bytes, effort: Effort) -> Outcome:
    url, processors, now_ms = node.ready["client_url"], cpus()[1], time.time_ns() // 1_000_000

    def tokens(name: str, role: Role, count: int) -> list[str]:
        return [issue(key, f"{name}-{n}", role, 3600, now_ms) for n in range(count)]

    stack.enter_context(pinned(processors))
    matches = effort.size(LISTED_MATCHES)
    await stack.enter_async_context(live_matches(url, tokens("keeper", "host", KEEPERS), matches))
    near = Neighbour(url, tokens("near", "player", SESSIONS), processors)
    crowd = Crowd(url, [], "", processors, tokens("asker", "player", ASKERS))
    bench = Bench(
        await stack.enter_async_context(Lines("beats", near)),
        await stack.enter_async_context(Lines("abusers", crowd)),
        effort.seconds(LISTED_S),
    )
    await bench.among(["lists"])
    pairs: list[tuple[Measured, Measured]] = []
    shares: dict[str, list[float]] = {"alone": [], "among": []}

    async def measured(where: str) -> Measured:
        spent, began = cpu_s(node.pid), time.monotonic()
        found = await (bench.quiet() if where == "alone" else bench.among(["lists"]))
        shares[where].append((cpu_s(node.pid) - spent) / (time.monotonic() - began))
        return found

    for number in range(max(1, effort.rounds // 3)):
        pairs.append((await measured("alone"), await measured("among")))
        _tell(*pairs[-1], f"round {number + 1}", name="lists")
    core = {where: round(statistics.median(of), 3) for where, of in shares.items()}
    return msgspec.structs.replace(_outcome(pairs), detail={"matches": matches, "askers": ASKERS, "node_cores": core})


def _outcome(pairs: list[tuple[Measured, Measured]]) -> Outcome:
    return outcome("neighbour", "ms", [real.p99_ms for _, real in pairs], [floor.p99_ms for floor, _ in pairs], GOAL)


async def _pair(bench: Bench, names: list[str], what: str) -> tuple[Measured, Measured]:
    floor, real = await bench.quiet(), await bench.among(names)
    _tell(floor, real, what)
    return floor, real


def _tell(floor: Measured, real: Measured, what: str, name: str = "neighbour") -> None:
    progress(
        f"{name}: {what}: p99 {floor.p99_ms:.3f} alone, {real.p99_ms:.3f} ms among the crowd, "
        f"x {real.p99_ms / floor.p99_ms:.2f}  (median {floor.p50_ms:.3f}, {real.p50_ms:.3f}; "
        f"of all beats {floor.all_p99_ms:.2f}, {real.all_p99_ms:.2f}; longest {floor.max_ms:.1f}, {real.max_ms:.1f})"
    )


async def _long_stream(url: str, token: str) -> str:
    """A match with many events, for slow readers; its topic."""
    async with connected(url) as socket:
        await socket.ask("hello", 1, token, None, 0, "host", False)
        await accepted(socket, "match.create", 2, "bench", 1, "long", ["recorded", "", 0, 0, 0, 0])
        await accepted(socket, "match.start", 3, "bench", 2, "long", 0)
        for number in range(REPORTS):
            events = [["medal", 1_000 * number, f"player-{n % 16}", "a medal with a name"] for n in range(EVENTS)]
            await accepted(socket, "match.report", 4 + number, "bench", 3 + number, "long", events)
        await accepted(socket, "match.end", 4 + REPORTS, "bench", 3 + REPORTS, "long", 0)
        return "match/long"
