"""`query`: questions over ten million rows of one node; `query-tree`: one question over a thousand nodes.

`query`: CPU ms of the slower of two questions over sessions, warm, on one core: a group by with two filters, and the
same with a quantile of each group. `heartbeat_ratio` is the 99th percentile of a neighbour's heartbeats on a node with
these rows, asked without a pause (`asked_per_s`), beside the same node asked nothing. The query process is on either
processor, as the system likes; who asks is on the clients', in their idle time: it is no part of the node.
The floor is DuckDB's own count of the rows that pass the same filters.

`query-tree`: nodes in one process on virtual time, whose scans only take their time, and of which one in a hundred does
not answer, other ones for each question; the 99th percentile of the time to an answer in deadlines, and the coverage.
"""

import asyncio
import contextlib
import itertools
import os
import random
import shutil
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import msgspec

from server.columns.layout import Writer
from server.columns.table import Table, TableLimits
from server.columns.tables import SESSIONS
from server.errors import DeadlineExceeded, Unavailable
from server.ids import Incarnation, NodeAddress, NodeId
from server.lab.bench.beats import Measured, Neighbour
from server.lab.bench.gateway import node_and_key
from server.lab.bench.harness import Effort, Outcome, cpus, machine, outcome, progress
from server.lab.bench.lines import Lines
from server.questions.fanout import Question, QuestionFanout
from server.runtime.clock import SystemClock
from server.runtime.supervisor import Supervisor
from server.sessions.tokens import issue

ROWS: Final = 10_000_000
KINDS: Final = 60_000
"""Different rows; they come again and again, at other times."""
FIRST_MS: Final = 1_764_000_000_000
MAX_BYTES: Final = 2 * 1024 * 1024 * 1024
SHARED_MEMORY: Final = Path("/dev/shm")
FILTERS: Final = "WHERE role = 'player' AND duration_ms > 1000"
GROUPED: Final = f"SELECT client, count(*), sum(pushes) FROM sessions {FILTERS} GROUP BY client ORDER BY 2 DESC"
QUANTILE: Final = f"SELECT client, approx_quantile(duration_ms, 0.99) FROM sessions {FILTERS} GROUP BY client"
COUNT: Final = f"SELECT count(*) FROM sessions {FILTERS}"
GOAL_MS: Final = 150.0
SAMPLE_S: Final = 3.0
SESSIONS_NEAR: Final = 8
TOKEN: Final = "bench"
NODES: Final = 1_000
SLOW: Final = 0.01
QUESTIONS: Final = 100
DEADLINE_S: Final = 1.0
GOAL_DEADLINES: Final = 1.2


async def query(effort: Effort) -> Outcome:
    """CPU ms of the slower question."""
    from server.questions.process import Answerer
    from server.questions.wire import encode

    count = effort.size(ROWS)
    async with _directory() as home:
        directory = home / "garrison" / "node-1"
        await asyncio.to_thread(_fill, directory, count)
        answerer = Answerer(directory)
        answerer.do("tables", [encode([SESSIONS])])
        plans = {sql: answerer.do("plan", [sql, FIRST_MS]) for sql in (COUNT, GROUPED, QUANTILE)}
        spent: dict[str, list[float]] = {sql: [] for sql in plans}
        for number in range(effort.rounds + 1):
            for sql, plan in plans.items():
                begin = time.process_time()
                part = answerer.do("scan", [plan, 0, 0, 60.0])
                if number:
                    spent[sql].append(1000 * (time.process_time() - begin))
                found = msgspec.json.decode(answerer.do("finish", [plan, [["n1", part]], 1, []]))
                assert found["coverage"]["rows_scanned"] == count, "a scan in a benchmark is whole"
        times = {sql: round(statistics.median(values), 1) for sql, values in spent.items()}
        slower = max((GROUPED, QUANTILE), key=times.__getitem__)
        progress(f"query: grouped {times[GROUPED]} ms, quantile {times[QUANTILE]} ms, count {times[COUNT]} ms")
        beats = await _beats(home, effort)
    found = outcome("query", "ms", spent[slower], spent[COUNT], GOAL_MS, rows=count)
    found.detail.update({"ms": times[slower], "grouped_ms": times[GROUPED], "quantile_ms": times[QUANTILE], **beats})
    return found


async def _beats(home: Path, effort: Effort) -> dict[str, Any]:
    """The neighbour's heartbeats without and with questions."""
    settings = (
        "columns.enabled=true", f"columns.directory={home}", f"columns.max_bytes={MAX_BYTES}", f"admin.token={TOKEN}",
        "store.lease=false",
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        node, key = await stack.enter_async_context(node_and_key(assignments=settings))
        now_ms = time.time_ns() // 1_000_000
        tokens = [issue(key, f"near-{n}", "player", 3_600, now_ms) for n in range(SESSIONS_NEAR)]
        near = await stack.enter_async_context(Lines("beats", Neighbour(node.ready["client_url"], tokens, cpus()[1])))
        base, seconds = node.ready["admin_url"], effort.seconds(SAMPLE_S)
        await _first_answer(base)
        pairs: list[tuple[float, float]] = []
        asked: list[str] = []
        for number in range(max(1, effort.rounds // 2)):
            quiet = msgspec.json.decode(await near.tell(str(seconds).encode()), type=Measured)
            with _asked(base, asked):
                busy = msgspec.json.decode(await near.tell(str(seconds).encode()), type=Measured)
            pairs.append((quiet.p99_ms, busy.p99_ms))
            progress(f"query: round {number + 1}: p99 alone {quiet.p99_ms:.2f} ms, asked {busy.p99_ms:.2f} ms")
    ratio = statistics.median(busy / quiet for quiet, busy in pairs)
    return {
        "heartbeat_ratio": round(ratio, 2),
        "p99_ms": round(statistics.median(busy for _, busy in pairs), 2),
        "asked_per_s": round(len(asked) / seconds / len(pairs), 1),
    }


async def _first_answer(base: str) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                await asyncio.to_thread(_ask, base, COUNT)
                return
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def _asked(base: str, asked: list[str]) -> Iterator[None]:
    """The block, while questions are asked one after the other; each is added to `asked` once it is answered."""
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(_ask_until, ended, base, asked)
        try:
            yield
        finally:
            ended.set()
        asking.result()


def _ask_until(ended: threading.Event, base: str, asked: list[str]) -> None:
    # Affinity and class are those of this thread alone.
    os.sched_setaffinity(0, cpus()[1])
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for sql in itertools.cycle((GROUPED, QUANTILE)):
        if ended.is_set():
            return
        _ask(base, sql)
        asked.append(sql)


def _ask(base: str, sql: str) -> Any:
    from server.cli.admin_side import AdminSide

    body = {"sql": sql, "timeout_s": 30.0}
    return AdminSide(base, TOKEN).ask("/api/v1/questions", body=body, timeout_s=60.0)


def _fill(directory: Path, count: int) -> None:
    """Rows of sessions as a run before the node's would have left them."""
    directory.mkdir(parents=True)
    rng = random.Random(12)
    clients = [f"client-{number}" for number in range(20)]
    rows = [
        (
            "closed", f"spartan-{rng.randrange(5_000)}", rng.choice(("player", "player", "player", "host")),
            rng.choice(clients), "", rng.choice(("closed", "expired", "replaced")), 1_000,
            int(rng.expovariate(1 / 60_000)), rng.randrange(500), rng.choice(("DE", "FR", "US")), rng.randrange(10**6),
            rng.randrange(10**7),
        )
        for _ in range(KINDS)
    ]  # fmt: skip
    table = Table(directory, SESSIONS, Writer("node-1", 0), TableLimits(MAX_BYTES, 1e9, 1.0), SystemClock())
    for number in range(count):
        table.append((FIRST_MS + number // 100, *rows[number % KINDS]))
        if number % 4_096 == 4_095:
            table.tick()
    table.close()
    assert table.written == count, f"{table.lost} rows found no place"


@contextlib.asynccontextmanager
async def _directory() -> AsyncIterator[Path]:
    home = await asyncio.to_thread(_new_directory)
    try:
        yield home
    finally:
        await asyncio.to_thread(shutil.rmtree, home, True)


def _new_directory() -> Path:
    return Path(mkdtemp(prefix="garrison-bench-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))


# ---- many nodes ----


class _SlowNode:
    """The query process of one of many nodes: takes its time and counts."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.slow = False

    async def ask(self, operation: str, values: list[Any], timeout_s: float) -> Any:
        if operation == "plan":
            return b"plan"
        if operation == "scan":
            await asyncio.sleep(self._rng.uniform(0.01, 0.2))
            return b"1"
        return str(sum(int(partial) for _, partial in values[1])).encode()


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which waiting takes no time: its clock moves on to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


async def query_tree(effort: Effort) -> Outcome:
    """The 99th percentile of the time to an answer over a thousand nodes, in deadlines."""

    def simulated() -> Outcome:
        with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
            return runner.run(_tree(effort))

    return await asyncio.to_thread(simulated)


async def _tree(effort: Effort) -> Outcome:
    rng, questions = random.Random(7), effort.size(QUESTIONS)
    addresses = [NodeAddress(NodeId(f"n{number:04}"), Incarnation(1)) for number in range(NODES)]
    nodes = {address: _SlowNode(rng) for address in addresses}
    supervisor = Supervisor("bench")
    parts: dict[NodeAddress, QuestionFanout] = {}

    async def request(to: NodeAddress, payload: bytes, timeout_s: float) -> bytes:
        if nodes[to].slow:
            await asyncio.sleep(timeout_s)
            raise DeadlineExceeded(str(to))
        await asyncio.sleep(rng.uniform(0.0002, 0.002))
        answer = parts[to].serve(addresses[0], payload)
        if isinstance(answer, bytes):
            return answer
        assert answer is not None
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise DeadlineExceeded(str(to)) from None

    def questions_of(me: NodeAddress) -> QuestionFanout:
        return QuestionFanout(nodes[me], request, lambda: me, lambda: addresses, supervisor)

    parts.update((address, questions_of(address)) for address in addresses)
    clock = asyncio.get_running_loop().time
    times: list[float] = []
    coverages: list[float] = []
    for number in range(questions):
        slow = set(rng.sample(addresses[1:], int(SLOW * NODES)))
        for address, node in nodes.items():
            node.slow = address in slow
        began = clock()
        answered = int(await parts[addresses[0]].answer(Question("SELECT 1", 0, 0, DEADLINE_S), 0))
        times.append((clock() - began) / DEADLINE_S)
        coverages.append(answered / NODES)
        progress(f"query-tree: round {number + 1}: {times[-1]:.2f} deadlines, {answered} of {NODES} nodes")
    await supervisor.stop()
    p99 = sorted(times)[min(len(times) - 1, int(0.99 * len(times)))]
    return Outcome(
        "query-tree", "deadlines", round(p99, 3), 1.0, round(p99, 3), 0.0, machine(), GOAL_DEADLINES,
        {
            "nodes": NODES, "slow": SLOW, "questions": questions,
            "coverage": round(statistics.mean(coverages), 4), "least_coverage": min(coverages),
        },
    )  # fmt: skip
