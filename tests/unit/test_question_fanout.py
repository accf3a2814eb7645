"""QuestionFanout over many nodes: what comes in time is the answer, and the rest is a number."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from server.errors import BadInput, DeadlineExceeded, GarrisonError, Overloaded, Unavailable, Unreachable
from server.ids import Incarnation, NodeAddress, NodeId
from server.questions.fanout import AT_ONCE, Question, QuestionFanout
from server.runtime.supervisor import Supervisor

pytestmark = pytest.mark.virtual_time

ASKED = Question("SELECT 1", 0, 0, 1.0)


class CountedProcess:
    """A query process whose partial answers are lists of the names of nodes."""

    def __init__(self, name: str, slow_s: float = 0.01) -> None:
        self.name, self.slow_s = name, slow_s
        self.bad = self.gone = self.other = False
        self.alone = 0

    async def ask(self, operation: str, values: list[Any], timeout_s: float) -> Any:
        if self.gone:
            raise Unavailable("no query process here")
        if operation == "plan":
            if self.bad:
                raise BadInput("line 1, column 1: no")
            return b"plan"
        if operation == "scan":
            if self.other:
                raise BadInput("no such column here")
            if self.slow_s > timeout_s:
                await asyncio.sleep(timeout_s)
                raise DeadlineExceeded("slow")
            await asyncio.sleep(self.slow_s)
            return msgspec.json.encode([self.name])
        if operation == "answer":
            self.alone += 1
            return msgspec.json.encode({"names": [values[-1]], "nodes": 1, "missing": []})
        merged = sorted(name for _, partial in values[1] for name in msgspec.json.decode(partial))
        if operation == "finish":
            merged = {"names": merged, "nodes": values[2], "missing": values[3]}
        return msgspec.json.encode(merged)


class Nodes:
    """Nodes that ask each other. `unreachable` are known before anything is sent, `silent` never answer, answers of the
    `slow` are nearly half a second under way."""

    def __init__(self, count: int, width: int) -> None:
        self.addresses = [NodeAddress(NodeId(f"n{number:04}"), Incarnation(1)) for number in range(count)]
        self.processes = {address: CountedProcess(str(address.node)) for address in self.addresses}
        self.unreachable: set[NodeAddress] = set()
        self.silent: set[NodeAddress] = set()
        self.slow: set[NodeAddress] = set()
        self.requests = 0
        self.most_asked = 0
        supervisor = Supervisor("nodes")
        self.questions = {address: self._questions(address, width, supervisor) for address in self.addresses}

    def _questions(self, me: NodeAddress, width: int, supervisor: Supervisor) -> QuestionFanout:
        asked = 0

        async def request(to: NodeAddress, payload: bytes, timeout_s: float) -> bytes:
            nonlocal asked
            if to in self.unreachable:
                raise Unreachable(str(to))
            self.requests += 1
            asked += 1
            self.most_asked = max(self.most_asked, asked)
            if to in self.silent:
                await asyncio.sleep(timeout_s)
                raise DeadlineExceeded(str(to))
            answer = self.questions[to].serve(me, payload)
            try:
                async with asyncio.timeout(timeout_s):
                    await asyncio.sleep(0.45 if to in self.slow else 0)
                    assert answer is not None
                    return answer if isinstance(answer, bytes) else await answer
            except TimeoutError:
                raise DeadlineExceeded(str(to)) from None

        return QuestionFanout(self.processes[me], request, lambda: me, lambda: self.addresses, supervisor, width)

    async def ask(self) -> dict[str, Any]:
        answer: dict[str, Any] = msgspec.json.decode(await self.questions[self.addresses[0]].answer(ASKED, 0))
        return answer


@pytest.mark.parametrize(("count", "width"), [(1, 32), (2, 32), (33, 32), (34, 32), (200, 8), (1_000, 32)])
async def test_every_node_answers_once(count: int, width: int) -> None:
    nodes = Nodes(count, width)
    answer = await nodes.ask()
    assert answer["names"] == [str(address.node) for address in nodes.addresses]
    assert (answer["nodes"], answer["missing"]) == (count, [])
    assert nodes.requests == count - 1
    assert nodes.processes[nodes.addresses[0]].alone == (count == 1)
    assert nodes.most_asked <= max(width, -(-count // width))


@pytest.mark.parametrize("width", [4, 64])
async def test_nodes_that_cannot_be_reached_take_nobody_along(width: int) -> None:
    nodes = Nodes(30, width)
    nodes.unreachable = set(nodes.addresses[1:12:3])
    answer = await nodes.ask()
    assert sorted(answer["missing"]) == sorted(str(address.node) for address in nodes.unreachable)
    assert len(answer["names"]) == 26


async def test_silent_nodes_are_missing_and_the_answer_is_in_time() -> None:
    nodes = Nodes(30, 4)
    leaf = nodes.addresses[29]
    nodes.silent = {leaf}
    began = asyncio.get_running_loop().time()
    answer = await nodes.ask()
    assert answer["missing"] == [str(leaf.node)] and len(answer["names"]) == 29
    assert asyncio.get_running_loop().time() - began <= ASKED.timeout_s


async def test_silent_node_that_was_to_ask_others_takes_nobody_along() -> None:
    nodes = Nodes(29, 4)
    head = nodes.addresses[1]
    nodes.silent = {head}
    began = asyncio.get_running_loop().time()
    answer = await nodes.ask()
    assert answer["missing"] == [str(head.node)] and len(answer["names"]) == 28
    assert asyncio.get_running_loop().time() - began <= ASKED.timeout_s


async def test_two_silent_nodes_of_a_group_take_the_rest_of_it_along() -> None:
    nodes = Nodes(29, 4)
    nodes.silent = {nodes.addresses[1], nodes.addresses[5]}
    answer = await nodes.ask()
    assert len(answer["missing"]) == 7 and len(answer["names"]) == 22


async def test_rows_of_a_group_that_two_nodes_have_asked_count_once() -> None:
    nodes = Nodes(29, 4)
    nodes.slow = {nodes.addresses[1]}
    answer = await nodes.ask()
    assert nodes.requests > 28 + 7, "the group was asked twice, else this test is about nothing"
    assert answer["names"] == [str(address.node) for address in nodes.addresses] and answer["missing"] == []


async def test_group_whose_node_has_much_to_do_is_asked_once() -> None:
    nodes = Nodes(29, 4)
    for process in nodes.processes.values():
        process.slow_s = 0.5
    answer = await nodes.ask()
    assert len(answer["names"]) == 29
    assert nodes.requests == 28 + 12, "every node once, and those that ask others whether they are there"


async def test_node_that_cannot_merge_passes_on_what_it_was_told() -> None:
    nodes = Nodes(29, 4)
    head = nodes.addresses[1]
    nodes.processes[head].gone = True
    answer = await nodes.ask()
    assert answer["missing"] == [str(head.node)] and len(answer["names"]) == 28


async def test_node_with_other_columns_takes_nobody_along() -> None:
    nodes = Nodes(29, 4)
    head = nodes.addresses[1]
    nodes.processes[head].other = True
    answer = await nodes.ask()
    assert answer["missing"] == [str(head.node)] and len(answer["names"]) == 28


async def test_own_process_that_is_slow_is_missing_too() -> None:
    nodes = Nodes(3, 32)
    nodes.processes[nodes.addresses[0]].slow_s = 5.0
    answer = await nodes.ask()
    assert answer["missing"] == ["n0000"] and answer["names"] == ["n0001", "n0002"]


async def test_bad_questions_are_asked_of_nobody() -> None:
    nodes = Nodes(5, 32)
    nodes.processes[nodes.addresses[0]].bad = True
    with pytest.raises(BadInput, match="column 1"):
        await nodes.ask()
    assert nodes.requests == 0


async def test_questions_at_a_time_are_bounded() -> None:
    nodes = Nodes(2, 32)
    asked = [asyncio.ensure_future(nodes.ask()) for _ in range(AT_ONCE + 1)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, GarrisonError)]
    assert len(refused) == 1 and isinstance(refused[0], Overloaded)
    assert (await nodes.ask())["missing"] == []


@pytest.mark.parametrize("payload", [b"", b"\xc1", msgspec.msgpack.encode([b"p", 0, 0, 1e9, []])])
async def test_nonsense_from_a_node_is_refused(payload: bytes) -> None:
    nodes = Nodes(2, 32)
    refused: Callable[[], object] = lambda: nodes.questions[nodes.addresses[0]].serve(nodes.addresses[1], payload)  # noqa: E731
    with pytest.raises(BadInput):
        refused()


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", msgspec.msgpack.encode([b"p", ["n"] * 10_001]), msgspec.msgpack.encode([b"p", ["n" * 101]])],
)
async def test_nonsense_that_a_node_answers_takes_nobody_along(payload: bytes) -> None:
    nodes = Nodes(3, 32)
    nodes.questions[nodes.addresses[1]].serve = lambda _peer, _payload: payload  # type: ignore[method-assign]
    answer = await nodes.ask()
    assert answer["missing"] == ["n0001"] and answer["names"] == ["n0000", "n0002"]
