"""Any sequence of claims, writes, moves, releases, appends, seals, evictions and deaths: SQLite
answers as the memory twin does, and both keep the promises of the ownership protocol. Those are
checked against a model that knows no more than who has been told that he owns what."""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from server.errors import GarrisonError, Unavailable
from server.eventlog.ports import Append, Seal
from server.ids import ActorId, Epoch, NodeAddress, NodeId
from server.storage.ports import Change, Claim, Elsewhere, EntityMove, Reminder, Stored
from tests.support.databases import Tally, Wallet, fresh

KEYS = st.sampled_from(["a", "b"])
NODES = st.sampled_from(["node-a", "node-b", "node-c"])
SMALL = st.integers(1, 6)
JOURNALS = st.sampled_from(["", "here", "there"])
READABLE = st.sampled_from([None, (), ("here",), ("here", "there")])
LEASES = st.sampled_from([0.0, 3600.0, 3600.0, None])
KINDS = st.sampled_from(["wallet", "tally"])
CLAIMANTS = st.none() | NODES
"""Who claims entities before or after what is done with them, so that something comes of it."""


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
        """The newest run of each."""
        self.epochs: dict[str, int] = {}
        """The newest epoch that anybody was given, of each entity."""
        self.owners: dict[str, NodeAddress | None] = {}
        """Who was given it, None once it was released."""
        self.versions: dict[str, int] = {}
        self.over: dict[NodeAddress, str] = {}
        self.heads: dict[str, list[bytes]] = {key: [b""] for key in "ab"}
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

    def rows(self) -> dict[NodeAddress, tuple[str, str]]:
        """State and journal of every run of every node."""
        found = [self.run(store.nodes()) for store in self.stores]
        rows = [[(NodeAddress(r.node, r.incarnation), r.state, r.journal) for r in some] for some in found]
        assert rows[0] == rows[1]
        return {address: (state, journal) for address, state, journal in rows[0]}

    def claim_by(self, by: str | None, keys: set[str], kind: str, journals: tuple[str, ...] | None = None) -> None:
        if by is not None:
            self.claim(by, keys, 0, kind, journals)

    # ---- nodes ----

    @initialize()
    def three_nodes(self) -> None:
        for name in ("node-a", "node-b", "node-c"):
            self.start_node(name, 3600.0, "here", False)

    @rule(name=NODES, lease_s=LEASES, journal=JOURNALS, settled=st.booleans())
    def start_node(self, name: str, lease_s: float | None, journal: str, settled: bool) -> None:
        if name in self.nodes:
            self.both(self.stores, "retire_node", self.nodes[name], settled)
        run = self.both(self.stores, "register_node", NodeId(name), lease_s, journal)
        self.nodes[name] = NodeAddress(NodeId(name), run)

    @rule(
        name=NODES, how=st.sampled_from(["stop", "leave", "prove", "close"]), kind=KINDS, heir=CLAIMANTS,
        journals=READABLE,
    )  # fmt: skip
    def end_node(self, name: str, how: str, kind: str, heir: str | None, journals: tuple[str, ...] | None) -> None:
        address = self.nodes[name]
        if how in ("stop", "leave"):
            self.both(self.stores, "retire_node", address, how == "stop")
        elif how == "close":
            self.both(self.stores, "close_estate", address)
        else:
            assert self.both(self.stores, "bury", address)
            assert self.rows()[address][0] == "dead"
        self.claim_by(heir, {"a", "b"}, kind, journals)

    @rule(
        suspect=NODES, absent=st.none() | NODES, spared=st.none() | NODES, grace_s=st.sampled_from([0.0, 60.0]),
        kind=KINDS, heir=CLAIMANTS,
    )  # fmt: skip
    def judge(
        self, suspect: str, absent: str | None, spared: str | None, grace_s: float, kind: str, heir: str | None
    ) -> None:
        self.claim_by(suspect, {"a", "b"}, kind)
        before, suspects = self.rows(), [self.nodes[suspect]]
        side = [address for name, address in sorted(self.nodes.items()) if name not in (suspect, absent)]
        evicted = self.both(self.stores, "evict", suspects, side)
        assert evicted == [] or (evicted == suspects and before[evicted[0]][0] == "up")
        before = self.rows()
        spare = [] if spared is None else [self.nodes[spared]]
        for address in self.both(self.stores, "bury_expired", spare, grace_s):
            assert before[address][0] in ("up", "evicting")
            assert before[address][0] == "evicting" or address not in spare or grace_s == 0.0
        self.claim_by(heir, {"a", "b"}, kind)

    @rule(name=NODES)
    def renew(self, name: str) -> None:
        was_up = self.rows()[self.nodes[name]][0] == "up"
        assert self.both(self.stores, "renew_lease", self.nodes[name], 3600.0) == was_up

    # ---- fenced state ----

    @rule(
        name=NODES, keys=st.sets(KEYS, min_size=1), late=st.sampled_from([0, 0, 0, 1, 2, 3]),
        kind=KINDS, journals=READABLE,
    )  # fmt: skip
    def claim(self, name: str, keys: set[str], late: int, kind: str, journals: tuple[str, ...] | None) -> None:
        me, nodes = self.nodes[name], self.rows()
        self.tokens += 1
        token = max(1, self.tokens - late)
        claims = [Claim(ActorId(f"{kind}/{key}"), token) for key in sorted(keys)]
        results = self.both(self.stores, "claim", kind, claims, me, journals)
        if nodes[me][0] != "up":
            assert results is Unavailable
            return
        for id, result in results.items():
            owner, epoch = self.owners.get(id), self.epochs.get(id, 0)
            state, journal = nodes[owner] if owner is not None else ("left", "")
            free = state in ("dead", "left") and (journals is None or journal == "" or journal in journals)
            if isinstance(result, Elsewhere):
                assert result.owner == me or (result.owner == owner and not free)
                continue
            assert owner == me or free
            assert result.epoch == epoch + 1 or (result.epoch == epoch and owner == me and late > 0)
            assert result.clean == (owner is None)
            self.epochs[id], self.owners[id] = result.epoch, me

    @rule(by=CLAIMANTS, keys=st.sets(KEYS, min_size=1), back=st.sampled_from([0, 0, 1, 2]), version=SMALL, coins=SMALL)
    def write(self, by: str | None, keys: set[str], back: int, version: int, coins: int) -> None:
        self.claim_by(by, keys, "wallet")
        ids = [ActorId(f"wallet/{key}") for key in sorted(keys)]
        changes = [Change(id, Epoch(self.epochs.get(id, 1) - back), version, Wallet(coins)) for id in ids]
        before = self.both(self.stores, "read", "wallet", ids)
        results = self.both(self.stores, "write", "wallet", changes)
        after = self.both(self.stores, "read", "wallet", ids)
        for id in ids:
            if back or id not in self.epochs:
                assert after.get(id) == before.get(id), "nothing is written under an old epoch"
            elif id not in before or before[id].state_version < version:
                assert results[id] == "written"
                assert after[id] == Stored(Epoch(self.epochs[id]), version, Wallet(coins))

    @rule(by=CLAIMANTS, key=KEYS, back=st.sampled_from([0, 0, 1]), kind=KINDS)
    def release(self, by: str | None, key: str, back: int, kind: str) -> None:
        self.claim_by(by, {key}, kind)
        id = ActorId(f"{kind}/{key}")
        self.both(self.stores, "release", kind, [(id, Epoch(self.epochs.get(id, 1) - back))])
        if not back:
            self.owners[id] = None

    @rule(
        name=NODES, keys=st.sets(KEYS, min_size=1), back=st.sampled_from([0, 0, 1]), kind=KINDS, version=SMALL,
        stated=st.booleans(), offset=st.sampled_from([None, 0, 0, 1]), repeat=st.booleans(), by=CLAIMANTS,
    )  # fmt: skip
    def move(
        self, name: str, keys: set[str], back: int, kind: str, version: int, stated: bool, offset: int | None,
        repeat: bool, by: str | None,
    ) -> None:  # fmt: skip
        self.claim_by(by, keys, kind)
        to, nodes = self.nodes[name], self.rows()
        moves = []
        for key in sorted(keys):
            id, end = ActorId(f"{kind}/{key}"), len(self.heads[key]) if kind == "tally" else 1
            state = Wallet(version) if stated and kind == "wallet" else None
            next_seq = 0 if offset is None else end + offset
            moves.append(EntityMove(id, Epoch(self.epochs.get(id, 1) - back), version, to, state, next_seq))
        results = self.both(self.stores, "migrate", kind, moves)
        for move in moves:
            held = not back and self.owners.get(move.id) is not None
            due = held and nodes[to][0] == "up" and not offset
            again = back == 1 and self.owners.get(move.id) == to
            assert (results[move.id] == "moved") == (due or again)
            if due:
                self.epochs[move.id], self.owners[move.id] = move.epoch + 1, to
        if repeat:
            moved = {move.id: results[move.id] for move in moves}
            assert self.both(self.stores, "migrate", kind, moves) == moved

    @rule(
        by=CLAIMANTS, kind=KINDS, key=KEYS, name=st.sampled_from(["x", "y"]), due_ms=SMALL, until_ms=SMALL,
        back=st.sampled_from([0, 0, 1]), number=SMALL, how=st.sampled_from(["set", "set", "unset", "drop"]),
    )  # fmt: skip
    def remind(
        self, by: str | None, kind: str, key: str, name: str, due_ms: int, until_ms: int, back: int, number: int,
        how: str,
    ) -> None:  # fmt: skip
        self.claim_by(by, {key}, kind)
        id = ActorId(f"{kind}/{key}")
        one = Reminder(id, name, due_ms, Epoch(self.epochs.get(id, 1) - back), number)
        before = self.reminders()
        answer = self.both(self.stores, f"{how}_reminder", one)
        after = self.reminders()
        self.both(self.stores, "due_reminders", until_ms, 2, one)
        kept = before.pop((id, name), None)
        newer = kept is None or (kept.epoch, kept.number) < (one.epoch, one.number)
        if how == "drop":
            assert answer is None
            expected = None if kept == one else kept
        else:
            assert answer == (id in self.epochs and not back), "who is not the owner is told so"
            expected = (one if how == "set" else None) if answer and newer else kept
        assert after == before | ({} if expected is None else {(id, name): expected})

    def reminders(self) -> dict[tuple[ActorId, str], Reminder]:
        return {(one.id, one.name): one for one in self.both(self.stores, "due_reminders", 6, 100)}

    # ---- logs ----

    @rule(
        by=CLAIMANTS, key=KEYS, back=st.sampled_from([0, 0, 1]), offset=st.sampled_from([0, 0, 0, -1, 1]), n=SMALL,
        projected=st.booleans(),
    )  # fmt: skip
    def append(self, by: str | None, key: str, back: int, offset: int, n: int, projected: bool) -> None:
        self.claim_by(by, {key}, "tally")
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
        self.read_log(id)

    @rule(key=KEYS, first=SMALL, length=SMALL, back=st.integers(0, 1))
    def seal(self, key: str, first: int, length: int, back: int) -> None:
        id = ActorId(f"tally/{key}")
        epoch = Epoch(self.epochs.get(id, 1) - back)
        self.both(self.logs, "seal", "tally", Seal(id, epoch, first, first + length - 1, b"s"))
        self.read_log(id)

    def read_log(self, id: ActorId) -> None:
        for from_seq in (1, 3):
            self.both(self.logs, "read_log", "tally", id, from_seq)
        self.both(self.logs, "read_tail", "tally", id)

    @invariant()
    def same_contents_and_rising_versions(self) -> None:
        for kind in ("wallet", "tally"):
            stored = self.both(self.stores, "read", kind, [ActorId(f"{kind}/{key}") for key in "ab"])
            for id, found in stored.items():
                assert found.state_version >= self.versions.get(id, 0)
                self.versions[id] = found.state_version
        for address, (state, _) in self.rows().items():
            assert self.over.get(address, "") in ("", "left", state)
            if state in ("dead", "left"):
                self.over[address] = state
        over = {address: journal for address, (state, journal) in self.rows().items() if state in ("dead", "left")}
        estates = self.both(self.stores, "estates")
        assert [(estate.owner, estate.journal) for estate in estates] == [(a, j) for a, j in over.items() if j]

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.folder, ignore_errors=True)


TestStoresAgree = StoresAgree.TestCase
TestStoresAgree.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
