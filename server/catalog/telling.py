"""Telling of open facts (`server/actors/facts.py`): from the boundary that is stored to the answer that says that the
other side is stored too.

    look       the state's open facts are compared with those that are known, whenever more of it is stored
    wake       as many as there is room for are told, each in a call of its own: the next goes when one is answered
    again      what was not answered is told again, after a pause that grows and is never the same
    report     what is over is given to the actor, as one turn for all that came meanwhile

Time is by the number of facts, not by rounds. Nothing is given up: an actor with open facts stays in memory, and where
its node dies its row says so. A call is repeated after an unknown outcome, so the other side must know a fact again.
"""

import asyncio
from typing import Any, Final

import msgspec
import structlog

from server.activations.activation import Activation
from server.activations.open_facts import OpenFacts
from server.activations.turns import NEVER
from server.actors.actor import Actor
from server.actors.facts import Fact, FactDone
from server.actors.methods import MethodTable
from server.catalog.ports import Confirming
from server.catalog.services import Services
from server.errors import GarrisonError, NotFound, Rejected, Retryable
from server.ids import ActorId, kind_of
from server.runtime.backoff import backoff_s

log = structlog.get_logger(__name__)


class TellingLimits(msgspec.Struct, frozen=True):
    """Numbers and seconds that the telling goes by."""

    of_actor: int = 2_048
    """Facts of one actor that are under way at a time."""
    of_node: int = 8_192
    """Facts of all actors here that are under way at a time."""
    first_s: float = 0.2
    """The pause after the first failure, at most; it doubles up to `most_s`."""
    most_s: float = 20.0
    said_s: float = 900.0
    """The longest pause that the other side can ask for: with an error that says when it may go well."""


LIMITS: Final = TellingLimits()


class Telling:
    """See the module's head."""

    def __init__(
        self, services: Services, *, calls: Confirming, methods: MethodTable, limits: TellingLimits = LIMITS
    ) -> None:
        self.limits = limits
        self._services, self._calls, self._methods = services, calls, methods
        self._clock, self._metrics = services.clock, services.metrics
        self._under_way = 0
        self._waiting: dict[ActorId, Activation] = {}
        """Activations with facts for which the node had no room."""
        self._resting = False

    def look(self, activation: Activation) -> None:
        """See the module's head. Called where more of `activation` is in the store, and when it begins to live."""
        activation.all_told = False
        try:
            facts = list(activation.actor.open_facts(activation.boundary))
        except Exception as error:
            self._metrics.turn_errors_total += 1
            log.error("the facts of an actor fail", actor=activation.id, exc_info=error)
            return
        known = activation.facts
        if known is None:
            if not facts:
                activation.all_told = True
                return
            known = activation.facts = OpenFacts()
        known.look(facts, activation.version)
        known.stored(activation.stored_version)
        activation.all_told = not known.busy
        self._wake(activation, known)

    def _wake(self, activation: Activation, facts: OpenFacts) -> None:
        if activation.dropped:
            return
        while len(facts.under_way) < self.limits.of_actor:
            if self._under_way >= self.limits.of_node or self._resting:
                self._waiting[activation.id] = activation
                return
            fact = facts.begin(self._clock.now())
            if fact is None:
                return
            self._under_way += 1
            self._services.supervisor.spawn(self._tell(activation, facts, fact), f"fact {fact.name.to}")

    async def _tell(self, activation: Activation, facts: OpenFacts, fact: Fact) -> None:
        name = fact.name
        try:
            done = await self._outcome(fact)
        except GarrisonError as error:
            self._failed(activation, facts, fact, error)
        else:
            self._metrics.facts_done_total += 1
            facts.over(done)
            self._report(activation, facts)
            activation.all_told = not facts.busy
        finally:
            facts.under_way.discard(name)
            self._under_way -= 1
        self._wake(activation, facts)
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        while self._waiting and self._under_way < self.limits.of_node and not self._resting:
            waiting = self._waiting.pop(next(iter(self._waiting)))
            if waiting.facts is not None:
                self._wake(waiting, waiting.facts)

    def hold(self) -> None:
        """Begin to tell nothing more until `go_on`; what is under way is answered."""
        self._resting = True

    def go_on(self) -> None:
        """Tell what has waited since `hold`."""
        self._resting = False
        self._wake_waiting()

    @property
    def under_way(self) -> int:
        """Facts that are being told."""
        return self._under_way

    async def _outcome(self, fact: Fact) -> FactDone:
        """The answer of the other side. Raises what does not say that the fact is over."""
        name = fact.name
        try:
            return FactDone(name, await self._calls.confirm(name.to, name.method, fact.args))
        except Rejected as error:
            return FactDone(name, None, error.code)
        except NotFound as error:
            if not self._needs_actor(name.to, name.method):
                raise  # a node of another version, which does not know the method
            return FactDone(name, None, error.code)

    def _needs_actor(self, to: ActorId, method: str) -> bool:
        cls: type[Actor[Any]] | None = self._services.app.actor(kind_of(to))
        known = self._methods[cls].remote.get(method) if cls is not None else None
        return known is not None and known.existing

    def _failed(self, activation: Activation, facts: OpenFacts, fact: Fact, error: GarrisonError) -> None:
        self._metrics.facts_repeated_total += 1
        times = facts.failed(fact.name)
        log.debug("fact not told", actor=activation.id, to=fact.name.to, times=times, why=error.message)
        pause_s = self._pause_s(times)
        said_s = error.retry_after_s or 0.0
        if isinstance(error, Retryable) and said_s > error.default_retry_s:
            pause_s = max(pause_s, min(said_s, self.limits.said_s))
        self._again(activation, facts, fact, pause_s)

    def _again(self, activation: Activation, facts: OpenFacts, fact: Fact, pause_s: float) -> None:
        if not activation.dropped:
            facts.again(fact.name, self._clock.now() + pause_s)
            asyncio.get_running_loop().call_later(pause_s + 0.001, self._wake, activation, facts)

    def _pause_s(self, times: int) -> float:
        most_s = min(self.limits.most_s, self.limits.first_s * 2.0 ** min(times, 20))
        return most_s / 2 + backoff_s(0, self._services.rng, most_s / 2, most_s / 2)

    # ---- what is over ----

    def _report(self, activation: Activation, facts: OpenFacts, times: int = 0) -> None:
        """Give the actor what is over; one turn at a time, with all that came meanwhile."""
        if activation.dropped or not facts.done or (facts.reporting and not times):
            return
        if type(activation.actor).facts_done is Actor.facts_done:
            facts.done.clear()
            return
        facts.reporting = True
        done, facts.done = facts.done, []
        try:
            result = activation.call("facts_done", (done,), (), NEVER)
        except GarrisonError:
            self._not_reported(activation, facts, done, times)
            return
        if isinstance(result, asyncio.Future):
            result.add_done_callback(lambda outcome: self._reported(activation, facts, done, outcome, times))
        else:
            self._reported(activation, facts, done, None, times)

    def _reported(
        self,
        activation: Activation,
        facts: OpenFacts,
        done: list[FactDone],
        outcome: "asyncio.Future[Any] | None",
        times: int,
    ) -> None:
        if outcome is not None and (outcome.cancelled() or outcome.exception() is not None):
            self._not_reported(activation, facts, done, times)
            return
        facts.reporting = False
        self._report(activation, facts)

    def _not_reported(self, activation: Activation, facts: OpenFacts, done: list[FactDone], times: int) -> None:
        """Try again after a pause: the state says that these facts are open until it was told."""
        facts.done = [*done, *facts.done]
        if not activation.dropped:
            pause_s = self._pause_s(times)
            asyncio.get_running_loop().call_later(pause_s, self._report, activation, facts, times + 1)
