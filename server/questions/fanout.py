"""A question over all nodes of the cluster: partial answers of every node, within a deadline, put together.

The node that is asked has its query process make the plan, asks every node to scan by it, itself too, and has what came
in time merged and finished; where it is the only one, its query process does all of that in one go. Past `WIDTH` nodes
it is a tree: each of `WIDTH` nodes is asked with the names of others, which it asks in turn, within four fifths of its
time, and answers with all of them in one (Abraham et al., Scuba, VLDB 2013). A node that does not answer is a number in
the coverage, and never an error.

A node that was to ask others and stays silent would take all of these along. So it is asked after a while whether it is
there, and where it does not say so in as long, another of its group gets the group's question too (a hedged request;
Dean and Barroso, The Tail at Scale, 2013). Of each group the answer of one node is taken, whole, so that no row counts
twice; a question that is only heavy is never scanned twice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from server.errors import BadInput, ConnectionLost, DeadlineExceeded, GarrisonError, Overloaded, Unreachable
from server.ids import Incarnation, NodeAddress, NodeId
from server.runtime.supervisor import Supervisor
from server.transport.ports import Answer
from server.wire.codec import UNDECODABLE

WIDTH: Final = 32
"""Nodes that one node asks."""
SHARE: Final = 0.8
"""The share of its time that a node gives to those whom it asks, and to its own scan."""
PATIENCE: Final = 0.2
"""The share of a group's time until its node is asked whether it is there, and again until another is asked."""
LEAST_S: Final = 0.05
MAX_S: Final = 30.0
AT_ONCE: Final = 4
"""Questions that a node asks the cluster at a time."""
PLAN_S: Final = 2.0
"""Time for a plan, and for the end of an answer: neither looks at rows."""

MOST: Final = 10_000
"""Nodes that a question is asked of, and partial answers of them that nobody has merged."""
Seconds = Annotated[float, Meta(ge=0, le=MAX_S)]
NodeName = tuple[NodeId, Incarnation]


class Scan(msgspec.Struct, frozen=True, array_like=True):
    """A request to a node: to scan by `plan` rows from `since_ms` to before `until_ms` within `timeout_s`, and to ask
    `members` in turn. Without a plan: to say that it is there."""

    plan: bytes
    since_ms: int
    until_ms: int
    timeout_s: Seconds
    members: Annotated[list[NodeName], Meta(max_length=MOST)] = []


class Scanned(msgspec.Struct, frozen=True, array_like=True):
    """A partial answer of a node and those whom it has asked, and the nodes that did not answer it. `more`: further
    partial answers, of a node that cannot merge them."""

    partial: bytes
    missing: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=MOST)]
    more: Annotated[list[bytes], Meta(max_length=MOST)] = []


class ScanProcess(Protocol):
    """The query process of this node."""

    async def ask(self, operation: str, values: list[Any], timeout_s: float) -> Any:
        """The answer of an operation. Raises typed errors."""
        ...


class Question(NamedTuple):
    """SQL over the rows from `since_ms` to before `until_ms` (Unix ms; 0: no bound), to be answered in `timeout_s`."""

    sql: str
    since_ms: int
    until_ms: int
    timeout_s: float


Named = list[Any]
"""A node's name, and the partial answer that it has given, of itself or of those whom it has asked."""
Request = Callable[[NodeAddress, bytes, float], Awaitable[bytes]]
"""`request(address, payload, timeout_s)`: another node's answer. Raises typed errors, at once or later."""

_encode = msgspec.msgpack.encode
_THERE: Final = _encode(Scan(b"", 0, 0, 0.0))
_scan = msgspec.msgpack.Decoder(Scan).decode
_scanned = msgspec.msgpack.Decoder(Scanned).decode


class QuestionFanout:
    """See the module's head. `members`: every node of the view, this one among them; `serve` answers other nodes."""

    def __init__(
        self,
        process: ScanProcess,
        request: Request,
        me: Callable[[], NodeAddress],
        members: Callable[[], Sequence[NodeAddress]],
        supervisor: Supervisor,
        width: int = WIDTH,
    ) -> None:
        self._process, self._request, self._me, self._members = process, request, me, members
        self._supervisor, self._width = supervisor, width
        self._asking = 0

    async def answer(self, question: Question, now_ms: int) -> bytes:
        """The answer as a JSON document: `columns`, `rows`, `coverage`. Raises `BadInput` for a bad question,
        `Unavailable` where this node has no query process, `Overloaded`."""
        if self._asking >= AT_ONCE:
            raise Overloaded("this node asks the cluster as much as it may", retry_after_s=1.0)
        self._asking += 1
        try:
            bounded = question._replace(timeout_s=min(MAX_S, max(LEAST_S, question.timeout_s)))
            members = [address for address in self._members() if address != self._me()]
            found = await (self._of_all(bounded, now_ms, members) if members else self._of_one(bounded, now_ms))
        finally:
            self._asking -= 1
        assert isinstance(found, bytes)
        return found

    async def _of_all(self, question: Question, now_ms: int, members: Sequence[NodeAddress]) -> Any:
        plan = await self._process.ask("plan", [question.sql, now_ms], PLAN_S)
        scan = Scan(plan, question.since_ms, question.until_ms, question.timeout_s)
        partials, missing = await self._gather(scan, members, self._own(scan))
        return await self._process.ask("finish", [plan, partials, 1 + len(members), missing], PLAN_S)

    async def _of_one(self, question: Question, now_ms: int) -> Any:
        """The same where there is no other node. What is in between need not come through the node, whose heartbeats
        wait for each time that it does."""
        sql, since_ms, until_ms, timeout_s = question
        asked = [sql, now_ms, since_ms, until_ms, SHARE * timeout_s, str(self._me().node)]
        return await self._process.ask("answer", asked, PLAN_S + timeout_s + PLAN_S)

    async def _gather(
        self, scan: Scan, members: Sequence[NodeAddress], own: Awaitable[bytes | None]
    ) -> tuple[list[Named], list[str]]:
        """Partial answers of this node, which is `own`, and of `members`, and those that did not answer."""
        groups = _groups(members, self._width)
        asked = asyncio.gather(*(self._group(scan, group) for group in groups))
        mine, others = await asyncio.gather(own, asked)
        name = str(self._me().node)
        partials: list[Named] = [[name, mine]] if mine is not None else []
        missing = [] if mine is not None else [name]
        for group, answer in zip(groups, others, strict=True):
            if answer is None:
                missing += [str(address.node) for address in group]
            else:
                head, scanned = answer
                partials += [[str(head.node), partial] for partial in (scanned.partial, *scanned.more)]
                missing += scanned.missing
        return partials, missing

    async def _own(self, scan: Scan) -> bytes | None:
        seconds = SHARE * scan.timeout_s
        try:
            found = await self._process.ask("scan", [scan.plan, scan.since_ms, scan.until_ms, seconds], scan.timeout_s)
        except BadInput:
            raise
        except GarrisonError:
            return None
        return found if isinstance(found, bytes) else None

    async def _own_for_others(self, scan: Scan) -> bytes | None:
        """The same for another node, which has this question's plan: it may be bad here only, where a table has other
        columns or a text is no number, and then this node is missing, and not those that it asks."""
        try:
            return await self._own(scan)
        except BadInput:
            return None

    async def _group(self, scan: Scan, group: Sequence[NodeAddress]) -> tuple[NodeAddress, Scanned] | None:
        """A node of `group` and its answer for all of it: whichever comes first, where two had to be asked."""
        until = asyncio.get_running_loop().time() + scan.timeout_s
        asked: list[NodeAddress] = []
        answers = {asyncio.ensure_future(self._head(scan, group, asked, until))}
        try:
            if len(group) > 1 and await self._silent(answers, asked, scan.timeout_s):
                answers.add(asyncio.ensure_future(self._head(scan, group, asked, until)))
            for next_answer in asyncio.as_completed(answers):
                if (answer := await next_answer) is not None:
                    return answer
            return None
        finally:
            for each in answers:
                each.cancel()

    async def _head(
        self, scan: Scan, group: Sequence[NodeAddress], asked: list[NodeAddress], until: float
    ) -> tuple[NodeAddress, Scanned] | None:
        """The first node of `group` that can be asked and is not among `asked`, where it is added, and its answer."""
        for address in group:
            if address in asked:
                continue
            left_s = max(0.0, until - asyncio.get_running_loop().time())
            rest = [(other.node, other.incarnation) for other in group if other != address]
            request = msgspec.structs.replace(scan, timeout_s=SHARE * left_s, members=rest)
            asked.append(address)
            try:
                return address, _scanned(await self._request(address, _encode(request), left_s))
            except UNDECODABLE:
                return None
            except GarrisonError as error:
                if not _at_once(error):
                    return None
        return None

    async def _silent(
        self,
        answers: "set[asyncio.Task[tuple[NodeAddress, Scanned] | None]]",
        asked: list[NodeAddress],
        timeout_s: float,
    ) -> bool:
        """Whether the node asked last has failed, or is not there: it has answered neither its question for a while,
        nor for as long whether it is there."""
        done, _ = await asyncio.wait(answers, timeout=PATIENCE * timeout_s)
        if not done:
            try:
                await self._request(asked[-1], _THERE, PATIENCE * timeout_s)
            except (DeadlineExceeded, ConnectionLost, Unreachable):
                return True
            except GarrisonError:
                pass
        return all(answer.done() and answer.result() is None for answer in answers)

    def serve(self, _peer: NodeAddress, payload: bytes) -> Answer:
        """The answer to another node's `Scan`. Raises `BadInput`."""
        try:
            scan = _scan(payload)
        except UNDECODABLE as error:
            raise BadInput(f"question: {error}") from None
        if not scan.plan:
            return _encode(Scanned(b"", []))
        return self._supervisor.spawn(self._scanned(scan), "question")

    async def _scanned(self, scan: Scan) -> bytes:
        members = [NodeAddress(node, incarnation) for node, incarnation in scan.members]
        partials, missing = await self._gather(scan, members, self._own_for_others(scan))
        found = [partial for _, partial in partials]
        if len(found) != 1:
            try:
                found = [await self._process.ask("merge", [scan.plan, partials], PLAN_S)]
            except GarrisonError:
                if not found:
                    raise
        return _encode(Scanned(found[0], missing, found[1:]))


def _groups(members: Sequence[NodeAddress], width: int) -> list[Sequence[NodeAddress]]:
    """`members` in at most `width` groups of nearly one size."""
    count = min(width, len(members))
    return [members[number::count] for number in range(count)]


def _at_once(error: GarrisonError) -> bool:
    """Whether nothing was sent: then another node of the group can be asked in time."""
    return isinstance(error, Unreachable)
