"""`erasures(seed) -> violations`: a player is erased while its friends' words are on their way, nodes crash, stop, are
slow and have a silent store, and whoever erases it dies and begins again. When all is whole again no row names it;
words of the time before that come late, and journals of nodes that die later, make nothing again; and who logs in by
that name is somebody new. Where a ban was kept, another ban is ordered while it runs, amid crashes: it reaches whoever
comes by that name after both.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from game.app import App
from game.friends.state import FriendsState
from game.moderation.messages import ModerationBan, ModerationMute
from game.people.erasing import Erasure
from persistence.people import names
from server.actors.actor import Caller
from server.errors import GarrisonError, Rejected, Unavailable
from server.ids import ActorId, actor_id, key_of, kind_of
from server.storage.memory import MemoryDatabase, MemoryStore
from server.storage.memory_logs import MemoryLogStore
from tests.sim.client import until as wait_until
from tests.sim.directed import ANSWER_S, ask_any, heal, insist, play
from tests.sim.friendships import COMMANDS, EXPECTED, slow_or_not_s
from tests.sim.history import Wrote
from tests.sim.troubles import KINDS, OF_ROWS, trouble
from tests.sim.world import World

ANN: Final = "p0"
"""Whoever is erased."""
OTHERS: Final = ("p1", "p2", "p3")
BEFORE_S: Final = 6.0
LENGTH_S: Final = 20.0
PASSES: Final = 60
HEARD_AGAIN_S: Final = 8.0
SETTLED_S: Final = 30.0
HELD: Final = frozenset({"player", "friends", "standing", "party"})


def erasures(seed: int) -> list[str]:
    """See the module's head."""
    return play(
        seed,
        lambda world: _Play(world, keeps_ban=seed % 2 == 0).run(),
        journal="none" if seed % 2 else "local",
        app=App,
    )


class Rows:
    """Rows of the simulated store, as an erasure sees them."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    def naming(self, name: str) -> list[ActorId]:
        """Entities with a row by that name, or one that has it in its state."""
        found = []
        for identity, entity in self._database.entities.items():
            state = msgspec.msgpack.decode(entity.state) if entity.state is not None else None
            if kind_of(identity) in HELD and (key_of(identity) == name or names(state, name)):
                found.append(identity)
        return found

    async def entities(self, name: str) -> AsyncIterator[ActorId]:
        for identity in self.naming(name):
            yield identity

    async def rename(self, name: str, instead: str) -> int:
        return 0

    async def left(self, name: str) -> dict[str, int]:
        found = self.naming(name)
        return {"rows": len(found)} if found else {}


class Desk(MemoryStore):
    """The store and its logs, as an operator's program has them."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database, world.state_types)
        logs = MemoryLogStore(world.database)
        self.list_logs, self.read_log, self.redact = logs.list_logs, logs.read_log, logs.redact


class _Play:
    """One run of the scenario."""

    def __init__(self, world: World, keeps_ban: bool) -> None:
        self.world, self.rng, self.keeps_ban = world, world.rng("erasures"), keeps_ban
        self.until = world.loop.time() + LENGTH_S
        self.number = 0
        self.rows = Rows(world.database)
        self.words: list[tuple[str, Any]] = []
        """Words that somebody has had to tell the player: of whom, and what."""

    async def run(self) -> list[str]:
        world = self.world
        for name in (ANN, *OTHERS):
            await insist(world, actor_id("player", name), "connected", Caller("player", name, "s"))
        async with asyncio.TaskGroup() as group:
            for name in (ANN, *OTHERS):
                group.create_task(self._live(name))
            group.create_task(
                trouble(world, self.rng, self.until, kinds=("slow", *KINDS), statements=OF_ROWS, slow_s=slow_or_not_s)
            )
            group.create_task(self._erase_and_die())
        heal(world)
        try:
            await world.started(3, 15.0)
            await self._erased()
        except AssertionError as error:
            return [str(error), *world.faults]
        wrong = [f"{row} names it" for row in self.rows.naming(ANN)]
        wrong += await self._nothing_makes_it_again()
        wrong += await self._journals_settle()
        wrong += await (self._banned_anew() if self.keeps_ban else self._somebody_new())
        return [*wrong, *(line for line in world.faults if not any(words in line for words in EXPECTED))]

    async def _live(self, name: str) -> None:
        """A player does things to others, the one who is to be erased above all, until it is."""
        while self.world.loop.time() < self.until - (LENGTH_S - BEFORE_S if name == ANN else 0.0):
            other = self.rng.choice((ANN, ANN, *OTHERS)) if name != ANN else self.rng.choice(OTHERS)
            if other != name:
                act = self.rng.choice(("invite",) * 4 + ("accept",) * 4 + ("decline", "remove", "block", "unblock"))
                self.number += 1
                message = COMMANDS[act](1, name, self.number, other)
                args = (Caller("player", name, "s"), message)
                await ask_any(self.world, self.rng, actor_id("friends", name), act, *args)
            await asyncio.sleep(self.rng.choice((0.0, 0.1, 0.5)))
            self._note_words()

    def _note_words(self) -> None:
        """Remember words to the player that are on their way, as the network might."""
        for entry in self.world.audit[-20:]:
            if isinstance(entry, Wrote) and entry.id.startswith("friends/") and entry.after.state is not None:
                state = msgspec.msgpack.decode(entry.after.state, type=FriendsState)
                if ANN in state.untold and ANN in state.links:
                    self.words.append((key_of(entry.id), state.links[ANN].mine))

    def _erasure(self) -> Erasure:
        desk = Desk(self.world)
        return Erasure(ANN, store=desk, rows=self.rows, ask=self._ask, secret=self.rng.randbytes(16))

    async def _ask(self, identity: ActorId, method: str, *args: Any) -> Any:
        nodes = list(self.world.nodes.values())
        if not nodes:
            raise Unavailable("no node is up")
        node = self.rng.choice(nodes)
        asked = node.domain.run(self.world.loop.create_task, node.node.system.ask(identity, method, args))
        asked.add_done_callback(lambda done: done.cancelled() or done.exception())
        done, _ = await asyncio.wait({asked}, timeout=ANSWER_S)
        if not done:
            raise Unavailable("no answer")
        return asked.result()

    async def _passes(self, count: int) -> bool:
        erasure = self._erasure()
        for _ in range(count):
            try:
                if await erasure.run_pass(self.world.clock.wall_ms()):
                    return True
            except GarrisonError:
                pass
            await asyncio.sleep(1.0)
        self.last = erasure.told
        return False

    async def _erase_and_die(self) -> None:
        """Begin, amid the troubles, and die at any moment; a new one goes on."""
        await asyncio.sleep(BEFORE_S)
        while self.world.loop.time() < self.until:
            one = asyncio.ensure_future(self._passes(PASSES))
            await asyncio.wait({one}, timeout=self.rng.uniform(0.5, 6.0))
            one.cancel()
            await asyncio.gather(one, return_exceptions=True)

    async def _erased(self) -> None:
        """The erasure comes to its end once all is whole; so do words that were open then."""
        assert await self._passes(PASSES), f"not erased: {self.last.waits}"
        if self.rows.naming(ANN):  # somebody stored a word about it after the search
            assert await self._passes(PASSES), f"not erased again: {self.last.waits}"

    async def _nothing_makes_it_again(self) -> list[str]:
        """Words that were ever on their way come late, and results and bans that the player never heard of."""
        until = self.world.loop.time() + HEARD_AGAIN_S
        while self.words and self.world.loop.time() < until:
            other, word = self.rng.choice(self.words)
            await ask_any(self.world, self.rng, actor_id("friends", ANN), "hear", other, word)
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)
        return [f"{row} names it again" for row in self.rows.naming(ANN)]

    async def _journals_settle(self) -> list[str]:
        """A node dies whose journal may have records of before: it is settled, and brings nobody back."""
        world = self.world
        for name in sorted(world.processes)[:2]:
            world.crash_process(name)
            world.launch(name)
            await world.started(3, 15.0)
        runs = world.database.nodes
        try:
            await wait_until(
                lambda: not any(run.is_over and run.journal for run in runs.values()),
                SETTLED_S,
                "journals are settled",
                0.5,
            )
        except AssertionError as error:
            return [str(error)]
        return [f"{row} names it, out of a journal" for row in self.rows.naming(ANN)]

    async def _somebody_new(self) -> list[str]:
        """A login by that name makes a new player, above the epochs of the one before."""
        before = self.world.database.tombstones[ANN].epoch
        await insist(self.world, actor_id("player", ANN), "connected", Caller("player", ANN, "s2"))
        await wait_until(lambda: self._stored() is not None, 10.0, "the new player is stored", 0.2)
        row = self.world.database.entities[actor_id("player", ANN)]
        wrong = [] if row.epoch > before else [f"epoch {row.epoch} is given out again, after {before}"]
        if (state := self._stored()) and (state.get("erased") or state.get("matches")):
            wrong.append(f"the new player is the old one: {state}")
        return wrong

    async def _banned_anew(self) -> list[str]:
        """Another ban while the one that was kept runs, and what the player hears of it once both are over."""
        world, stone = self.world, self.world.database.tombstones[ANN]
        standing, judge = actor_id("standing", ANN), Caller("service", "judge", "s")
        stone.until_s = world.clock.wall_ms() / 1000 + 3_600
        muted = await self._refused(standing, "mute", judge, ModerationMute(1, "l", 1, ANN, "late"))
        wrong = [] if muted == "erased" else [f"a mute of who was erased is answered with {muted!r}"]
        ban = (judge, ModerationBan(2, "l", 2, ANN, "again"))
        ordered = asyncio.ensure_future(self._refused(standing, "ban", *ban))
        await asyncio.sleep(self.rng.uniform(0.0, 0.1))
        name = self.rng.choice(sorted(world.processes))
        world.crash_process(name)
        world.launch(name)
        await world.started(3, 15.0)
        if refused := await ordered:
            return [*wrong, f"a ban of who was erased is refused with {refused}"]
        stone.until_s = 0.0
        await wait_until(self._is_banned, SETTLED_S, "the player has heard of its ban", 0.2)
        login = await self._refused(actor_id("player", ANN), "connected", Caller("player", ANN, "s2"))
        return wrong if login == "banned" else [*wrong, f"a login of who was banned anew is answered with {login!r}"]

    async def _refused(self, identity: ActorId, method: str, *args: Any) -> str:
        """The code with which a call is refused; empty where it is not."""
        while True:
            try:
                await self._ask(identity, method, *args)
            except Rejected as error:
                return error.code
            except GarrisonError:
                await asyncio.sleep(0.2)
            else:
                return ""

    def _is_banned(self) -> bool:
        return (self._stored() or {}).get("ban_reason") == "again"

    def _stored(self) -> dict[str, Any] | None:
        row = self.world.database.entities.get(actor_id("player", ANN))
        return None if row is None or row.state is None else msgspec.msgpack.decode(row.state)
