"""Fan-out queries: a read model runs on every node over its own memory, and what comes back in
time is the answer, with the names of the nodes that are missing (Abraham et al., Scuba, 2013)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from server.actors.actor import Actor
from server.catalog.services import CurrentView, Services
from server.errors import BadInput, GarrisonError, NotFound
from server.transport.ports import Answer, Service
from server.wire.codec import UNDECODABLE

NodeReadModel = Callable[[Mapping[str, Any]], list[Any]]
_encode = msgspec.msgpack.encode
_question = msgspec.msgpack.Decoder(tuple[str, dict[str, Any]])
_rows = msgspec.msgpack.Decoder(list[Any])


class QueryResult(msgspec.Struct, frozen=True):
    """`rows` of all nodes one after the other by node name; `missing` did not answer in time."""

    rows: list[Any]
    missing: list[str]
    by_node: dict[str, list[Any]]


class Queries:
    """The read models of one node and the fan-out over all of them."""

    def __init__(
        self, services: Services, current: CurrentView, *, actors: Callable[[str], Iterable[Actor[Any]]]
    ) -> None:
        self._current, self._transport = current, services.transport
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
        mine = self.local(name, params)
        question = _encode((name, params))
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
        return _encode(self.local(name, params))
