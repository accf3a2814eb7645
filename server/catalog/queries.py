"""Fan-out queries: a read model runs on every node over its own memory, and what comes back in
time is the answer, with the names of the nodes that are missing (Abraham et al., Scuba, 2013).

Where the application says for how long (`App.shared_s`), an answer is shared: by all who ask this node the same
meanwhile or while it is under way, and a node's rows by all nodes that ask for them. So the same question costs the
cluster a few fan-outs a second, however many ask it.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from server.actors.app import LocalActors
from server.catalog.services import CurrentView, Services
from server.errors import BadInput, GarrisonError, NotFound
from server.transport.ports import Answer, Service
from server.wire.codec import UNDECODABLE

SHARED: Final = 64
"""Answers that are kept at a time, to clients and to other nodes each, and those only until they are too old."""
NodeReadModel = Callable[[Mapping[str, Any]], list[Any]]
_encode = msgspec.msgpack.encode
_question = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]])
_rows = msgspec.msgpack.Decoder(list[Any])


class QueryResult(msgspec.Struct, frozen=True):
    """`rows` of all nodes one after the other by node name; `missing` did not answer in time."""

    rows: list[Any]
    missing: list[str]
    by_node: dict[str, list[Any]]


class _Shared(NamedTuple):
    """`answer` is given until `until` is over, and in any case until it is there."""

    until: float
    answer: "asyncio.Future[QueryResult]"


class Queries:
    """The read models of one node and the fan-out over all of them."""

    def __init__(self, services: Services, current: CurrentView, *, actors: LocalActors) -> None:
        self._current, self._transport = current, services.transport
        self._clock, self._supervisor, self._shared_s = services.clock, services.supervisor, services.app.shared_s
        self._shared: dict[bytes, _Shared] = {}
        self._served: dict[bytes, tuple[float, bytes]] = {}
        self._models: dict[str, NodeReadModel] = {}
        for name, model in services.app.read_models.items():
            self.add(name, partial(model, actors))
        services.transport.serve(Service.QUERY, self._serve)

    def add(self, name: str, model: NodeReadModel) -> None:
        """Answer queries of `name` with `model`."""
        self._models[name] = model

    def local(self, name: str, params: Mapping[str, Any]) -> list[Any]:
        """This node's rows. Raises `NotFound` for an unknown read model."""
        model = self._models.get(name)
        if model is None:
            raise NotFound(f"no read model {name[:64]!r}")
        return model(params)

    async def run(self, name: str, params: dict[str, Any], timeout_s: float) -> QueryResult:
        """Every member's rows within `timeout_s`. Raises `NotFound`, `BadInput`."""
        question = _encode((name, params))
        if name not in self._shared_s:
            return await self._run(name, params, question, timeout_s)
        now, shared = self._clock.now(), self._shared.get(question)
        if shared is None or _over(shared, now):
            self._shared.pop(question, None)
            while self._shared and (len(self._shared) >= SHARED or _over(next(iter(self._shared.values())), now)):
                del self._shared[next(iter(self._shared))]
            work = self._run(name, params, question, timeout_s)
            answer = self._supervisor.spawn(work, f"query {name} for all")
            shared = self._shared[question] = _Shared(now + self._shared_s[name], answer)
        return await asyncio.shield(shared.answer)

    async def _run(self, name: str, params: dict[str, Any], question: bytes, timeout_s: float) -> QueryResult:
        mine = self.local(name, params)
        asked: dict[str, asyncio.Future[bytes]] = {}
        missing: list[str] = []
        for member in self._current.view.members.values():
            if member.address != self._current.me:
                try:
                    asked[member.node] = self._transport.request(member.address, Service.QUERY, question, timeout_s)
                except GarrisonError:
                    missing.append(member.node)
        by_node = {str(self._current.me.node): mine}
        answers = await asyncio.gather(*asked.values(), return_exceptions=True)
        for node, answer in zip(asked, answers, strict=True):
            try:
                by_node[node] = _rows.decode(answer if isinstance(answer, bytes) else b"")
            except UNDECODABLE:
                missing.append(node)
        ordered = dict(sorted(by_node.items()))
        return QueryResult([row for rows in ordered.values() for row in rows], sorted(missing), ordered)

    def _serve(self, _peer: object, payload: bytes) -> Answer:
        try:
            name, params = _question.decode(payload)
        except UNDECODABLE as error:
            raise BadInput(f"query: {error}") from None
        shared_s = self._shared_s.get(name)
        if shared_s is None:
            return _encode(self.local(name, params))
        now = self._clock.now()
        until, rows = self._served.get(payload, (now, b""))
        if now >= until:
            rows = _encode(self.local(name, params))
            self._served.pop(payload, None)
            while self._served and (len(self._served) >= SHARED or next(iter(self._served.values()))[0] <= now):
                del self._served[next(iter(self._served))]
            self._served[payload] = (now + shared_s, rows)
        return rows


def _over(shared: _Shared, now: float) -> bool:
    """Whether an answer is given no more: it is too old, or failed."""
    answer = shared.answer
    return answer.done() and (now >= shared.until or answer.cancelled() or answer.exception() is not None)
