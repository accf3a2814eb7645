"""Load-and-claim in batches (rule 3 in docs/guarantees.md): many activations that are born in one moment cost
the store a few statements, sorted and bounded, whichever way they arrive. A batch comes back with
what the journals of dead owners hold of it (rule 5) written under the new epoch."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice

from server.errors import GarrisonError, Overloaded, Unavailable
from server.ids import ActorId, NodeAddress
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import ActorSettings
from server.storage.ports import Claim, ClaimResult, EntityStore
from server.storage.takeover import Takeover

MAX_WAITING = 100_000
AT_ONCE = 16
"""Activations that go on in one turn of the loop."""


class Claimer:
    """Gathers the claims of one loop iteration a kind; `first` says which kinds go first."""

    def __init__(
        self,
        store: EntityStore,
        settings: ActorSettings,
        metrics: Metrics,
        supervisor: Supervisor,
        first: Callable[[str], bool],
        takeover: Takeover,
    ) -> None:
        self._store, self._settings, self._metrics = store, settings, metrics
        self._supervisor, self._first, self._takeover = supervisor, first, takeover
        self._waiting: dict[str, dict[ActorId, asyncio.Future[ClaimResult]]] = {}
        self._existing: dict[ActorId, None] = {}
        """Waiting entities that are not to be made where the store does not know them."""
        self._reviving: dict[ActorId, int] = {}
        """Waiting entities that are to be made also where they were erased."""
        self._in_flight = 0
        self._scheduled = False
        self._token = 0
        self._me: NodeAddress | None = None
        self.generation = 0
        """The generation of this process within its run, which claims and what gives claimed entities away say."""

    def start(self, me: NodeAddress, generation: int = 0) -> None:
        self._me, self.generation = me, generation

    def go_on_after(self, token: int) -> None:
        """Claim with higher tokens only: the process before this one has used them up to `token`."""
        self._token = max(self._token, token)

    @property
    def newest_token(self) -> int:
        """The highest token of all claims that were sent so far."""
        return self._token

    @property
    def under_way(self) -> int:
        """Claims that wait, and batches of them on their way to the store."""
        return self._in_flight + sum(map(len, self._waiting.values()))

    def claim(self, kind: str, identity: ActorId, make: bool = True, revive: int = 0) -> asyncio.Future[ClaimResult]:
        """The result of claiming `identity`; without `make`, `Absent` where the store does not know
        it and nobody else wants it made; `Erased` where it was erased and `revive` does not make it. Raises
        `Overloaded`; the future fails with the store's `Unavailable`."""
        waiting = self._waiting.setdefault(kind, {})
        future = waiting.get(identity)
        if make:
            self._existing.pop(identity, None)
        if revive:
            self._reviving[identity] = max(revive, self._reviving.get(identity, 0))
        if future is None:
            if len(waiting) >= MAX_WAITING:
                raise Overloaded("too many claims wait for the store")
            loop = asyncio.get_running_loop()
            future = waiting[identity] = loop.create_future()
            if not make:
                self._existing[identity] = None
            if not self._scheduled:
                self._scheduled = True
                loop.call_soon(self._dispatch)
        return future

    def _dispatch(self) -> None:
        """Start as many batches as may be in flight, kinds that go first before others."""
        self._scheduled = False
        for kind in sorted(self._waiting, key=lambda k: (not self._first(k), k)):
            waiting = self._waiting[kind]
            while waiting and self._in_flight < self._settings.claim_batches_in_flight:
                oldest = sorted(islice(waiting, self._settings.claim_batch))
                batch = {identity: waiting[identity] for identity in oldest}
                existing = {identity for identity in batch if identity in self._existing}
                reviving = {
                    identity: self._reviving.pop(identity)
                    for identity in (batch if self._reviving else ())
                    if identity in self._reviving
                }
                for identity in batch:
                    del waiting[identity]
                    self._existing.pop(identity, None)
                self._in_flight += 1
                self._supervisor.spawn(self._run(kind, batch, existing, reviving), f"claim-{kind}")

    async def _run(
        self,
        kind: str,
        batch: dict[ActorId, asyncio.Future[ClaimResult]],
        existing: Collection[ActorId],
        reviving: Mapping[ActorId, int],
    ) -> None:
        assert self._me is not None
        claims = []
        for identity in batch:
            self._token += 1
            claims.append(Claim(identity, self._token, identity not in existing, reviving.get(identity, 0)))
        try:
            journals = self._takeover.journals(kind)
            results = await self._store.claim(kind, claims, self._me, journals, self.generation)
            self._metrics.claims_total += len(claims)
            adopted = await self._takeover.adopt(kind, results)
            for number, (identity, future) in enumerate(batch.items(), 1):
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)  # each of them begins to work; the loop does other things too
                result = adopted[identity]
                if isinstance(result, GarrisonError):
                    _fail([future], result)
                elif not future.done():
                    future.set_result(result)
        except GarrisonError as error:
            _fail(batch.values(), error)
        except BaseException:
            _fail(batch.values(), Unavailable("the claim failed"))
            raise
        finally:
            assert self._in_flight > 0, "a batch ends once"
            self._in_flight -= 1
            batch.clear()  # an error that these futures hold was raised through this frame
            if any(self._waiting.values()):
                self._dispatch()


def _fail(futures: Iterable[asyncio.Future[ClaimResult]], error: GarrisonError) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
            future.exception()  # the caller may be gone
