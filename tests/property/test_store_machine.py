"""Any sequence of claims, writes, releases, appends, seals and deaths: SQLite answers as the
memory twin does, and no epoch or version ever falls."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.errors import GarrisonError
from server.eventlog.ports import Append, Seal
from server.ids import ActorId, Epoch, NodeAddress, NodeId
from server.storage.ports import Change, Claim, Owned
from tests.support.databases import Tally, Wallet, fresh

KEYS = st.sampled_from(["a", "b", "c"])
NODES = st.sampled_from(["node-a", "node-b", "node-c"])
SMALL = st.integers(1, 6)


class StoresAgree(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="garrison-machine-"))
        self.stack = contextlib.AsyncExitStack()
        pairs = [
            self.run(self.stack.enter_async_context(fresh(name, self.folder).connect()))
            for name in ("memory", "sqlite")
        ]
        self.stores = [store for store, _ in pairs]
        self.logs = [logs for _, logs in pairs]
        self.nodes: dict[str, NodeAddress] = {}
        self.epochs: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.heads: dict[str, list[bytes]] = {key: [b""] for key in "abc"}
        self.tokens = 0

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def both(self, parts: list[Any], method: str, *args: Any) -> Any:
        """Call both and compare what comes back, errors by their class."""
        answers = []
        for part in parts:
            try:
                answers.append(self.run(getattr(part, method)(*args)))
            except GarrisonError as error:
                answers.append(type(error))
        assert answers[0] == answers[1], (method, args, answers)
        return answers[0]

    @rule(name=NODES)
    def start_node(self, name: str) -> None:
        if name in self.nodes:
            self.both(self.stores, "retire_node", self.nodes[name])
        self.nodes[name] = NodeAddress(NodeId(name), self.both(self.stores, "register_node", NodeId(name), 3600.0))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def end_node(self, data: Any) -> None:
        self.both(self.stores, "retire_node", self.nodes[data.draw(st.sampled_from(sorted(self.nodes)))])

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), keys=st.sets(KEYS, min_size=1), late=st.booleans(), kind=st.sampled_from(["wallet", "tally"]))
    def claim(self, data: Any, keys: set[str], late: bool, kind: str) -> None:
        me = self.nodes[data.draw(st.sampled_from(sorted(self.nodes)))]
        self.tokens += 1
        token = data.draw(st.integers(1, self.tokens)) if late else self.tokens
        claims = [Claim(ActorId(f"{kind}/{key}"), token) for key in sorted(keys)]
        results = self.both(self.stores, "claim", kind, claims, me)
        for id, result in results.items() if isinstance(results, dict) else ():
            if isinstance(result, Owned):
                assert result.epoch >= self.epochs.get(id, 0)
                self.epochs[id] = result.epoch

    @rule(keys=st.sets(KEYS, min_size=1), back=st.integers(0, 2), version=SMALL, coins=SMALL)
    def write(self, keys: set[str], back: int, version: int, coins: int) -> None:
        changes = []
        for key in sorted(keys):
            id = ActorId(f"wallet/{key}")
            changes.append(Change(id, Epoch(self.epochs.get(id, 1) - back), version, Wallet(coins)))
        self.both(self.stores, "write", "wallet", changes)

    @rule(key=KEYS, back=st.integers(0, 1), kind=st.sampled_from(["wallet", "tally"]))
    def release(self, key: str, back: int, kind: str) -> None:
        id = ActorId(f"{kind}/{key}")
        self.both(self.stores, "release", kind, [(id, Epoch(self.epochs.get(id, 1) - back))])

    @rule(key=KEYS, back=st.integers(0, 1), offset=st.sampled_from([0, 0, 0, -1, 1]), n=SMALL, projected=st.booleans())
    def append(self, key: str, back: int, offset: int, n: int, projected: bool) -> None:
        id, known = ActorId(f"tally/{key}"), self.heads[key]
        first = max(1, len(known) + offset)
        prev = known[min(first, len(known)) - 1]
        head = bytes([n]) + first.to_bytes(15, "big")
        projection = Tally(n) if projected else None
        epoch = Epoch(self.epochs.get(id, 1) - back)
        results = self.both(
            self.logs, "append", "tally", [Append(id, epoch, first, first + n - 1, prev, head, b"d", projection)]
        )
        if results[id] == "written" and first == len(known):
            known.extend([head] * n)

    @rule(key=KEYS, first=SMALL, length=SMALL, back=st.integers(0, 1))
    def seal(self, key: str, first: int, length: int, back: int) -> None:
        id = ActorId(f"tally/{key}")
        epoch = Epoch(self.epochs.get(id, 1) - back)
        self.both(self.logs, "seal", "tally", Seal(id, epoch, first, first + length - 1, b"s"))

    @rule(key=KEYS, from_seq=SMALL)
    def read_log(self, key: str, from_seq: int) -> None:
        self.both(self.logs, "read_log", "tally", ActorId(f"tally/{key}"), from_seq)
        self.both(self.logs, "read_tail", "tally", ActorId(f"tally/{key}"))

    @invariant()
    def same_contents_and_rising_versions(self) -> None:
        for kind in ("wallet", "tally"):
            stored = self.both(self.stores, "read", kind, [ActorId(f"{kind}/{key}") for key in "abc"])
            for id, found in stored.items():
                assert found.state_version >= self.versions.get(id, 0)
                self.versions[id] = found.state_version
        nodes = [[(row.node, row.incarnation, row.state) for row in self.run(store.nodes())] for store in self.stores]
        assert nodes[0] == nodes[1]

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
