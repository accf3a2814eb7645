"""The history of a run as seen from outside, in plain values: the checkers read nothing else.

Clients record observations in the order in which they made them; the end of a run adds what
the store holds and what each living node believes. Event bytes are canonical msgpack, whatever
format the client spoke.
"""

from typing import Any, NamedTuple

import msgspec

from server.ids import NodeAddress

Command = tuple[str, int]
"""(lineage, number): which command of which client."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """`at` is virtual seconds; `client` names the observer."""

    at: float
    client: str


class Connected(Observation, frozen=True, kw_only=True):
    """A `Welcome`."""

    session: str
    node: str
    recovered: bool


class Disconnected(Observation, frozen=True, kw_only=True):
    """`code` is 0 where the link broke without a close frame."""

    code: int
    reason: str


class Asked(Observation, frozen=True, kw_only=True):
    """A request left the client. `command` is (lineage, number) of a command, else None;
    a repeated command is asked again under another `request_id`."""

    request_id: int
    request: Any
    command: Command | None = None


class Answered(Observation, frozen=True, kw_only=True):
    """A reply or typed error arrived for `request_id`."""

    request_id: int
    reply: Any


class Subscribed(Observation, frozen=True, kw_only=True):
    """The client subscribed to `topic` from `from_seq`; `subscription` is its number."""

    subscription: int
    topic: str
    from_seq: int


class Pushed(Observation, frozen=True, kw_only=True):
    """A push with its session's sequence number."""

    session: str
    seq: int


class Saw(Observation, frozen=True, kw_only=True):
    """An event of a stream, as a client got it."""

    subscription: int
    topic: str
    seq: int
    event: bytes


class Crashed(Observation, frozen=True, kw_only=True):
    """A node died without storing what it held; not seen by a client (`client` is empty)."""

    node: str


class Served(Observation, frozen=True, kw_only=True):
    """Something that the client wanted since `since` was answered at `at`, over all repetitions."""

    since: float


class Row(NamedTuple):
    """An entity's row in the store."""

    epoch: int
    owner: NodeAddress | None
    state_epoch: int
    state_version: int
    next_seq: int
    head: bytes
    state: bytes | None


class Wrote(msgspec.Struct, frozen=True, kw_only=True):
    """A statement of `node` changed the row of `id`. `epoch` is what it was conditional on, None
    for a claim; `owner_state` the state of the owner's run before it (empty: no owner), `to_state`
    that of the owner's after it."""

    at: float
    node: str
    statement: str
    id: str
    epoch: int | None
    before: Row | None
    after: Row
    owner_state: str = ""
    to_state: str = ""


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """A statement of `node` deleted the row of `id` with its log; `owner_state` as above, `is_spared`: it was pinned,
    had open facts, or was not over."""

    at: float
    node: str
    id: str
    before: Row
    owner_state: str = ""
    is_spared: bool = False


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """A node let the outputs of a turn go that made `version` of a write-behind entity, which it
    held under `epoch`."""

    at: float
    node: str
    id: str
    epoch: int
    version: int


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A statement of `node` changed the state of run `about` (empty `before`: it began; `pruned`: its row
    went). `left_s` is what was left of its lease; `side` and `live` what an eviction went by; `steady_s` for how long
    the lease of `node` had held without a gap when it sent the statement; `alive`: the run's process was there."""

    at: float
    node: str
    statement: str
    about: NodeAddress
    before: str
    after: str
    left_s: float
    side: list[NodeAddress]
    live: list[NodeAddress]
    steady_s: float
    alive: bool


class Surrendered(msgspec.Struct, frozen=True, kw_only=True):
    """From here on `process` may let nothing go: it has handed its run on."""

    at: float
    process: str


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """The store made the process of `generation` that of run `about`."""

    at: float
    about: NodeAddress
    generation: int


Audit = list[Wrote | Deleted | Released | Judged | Surrendered | Succeeded]
"""In the order in which it happened."""


class Excuse(NamedTuple):
    """Versions of `id` above `above`, up to `upto`, may be lost if they were acknowledged before
    `until`: they were in the memory of a node alone that died, or that counted them as lost."""

    id: str
    above: int
    upto: int
    until: float


class StoredEvent(NamedTuple):
    seq: int
    event: bytes
    command: Command | None


class StoredState(NamedTuple):
    version: int
    state: Any


class Stored(NamedTuple):
    """The contents of the store: logs by topic, states by entity."""

    logs: dict[str, list[StoredEvent]]
    states: dict[str, StoredState]


class NodeReport(NamedTuple):
    """A living node as it sees things. `slots` maps sampled slots to their owners; `owners`
    maps each actor id of interest to the owner of its slot; `directory` is the node's own
    partition; `activations` are its live ones."""

    address: NodeAddress
    digest: int
    members: list[NodeAddress]
    slots: dict[int, NodeAddress | None]
    owners: dict[str, NodeAddress | None]
    directory: dict[str, NodeAddress]
    activations: list[str]


History = list[Observation]


def canonical(event: Any) -> bytes:
    """An event's msgpack, from its msgpack or JSON form decoded to plain values."""
    return msgspec.msgpack.encode(event)
