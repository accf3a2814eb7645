"""The shapes of the JSON API's answers; the OpenAPI document is made from them.

Every answer that is gathered from several nodes has `missing`: the nodes that did not answer
in time, whose rows are therefore absent.
"""

from typing import Any, Literal

import msgspec

from server.runtime.troubles import Trouble

Milliseconds = int


class Problem(msgspec.Struct, omit_defaults=True):
    """Any error: `code` for programs (see server/errors.py), `message` for people."""

    code: str
    message: str
    retry_after_s: float | None = None


class Sample(msgspec.Struct):
    """A sample of a node, one a second. `seq` counts the node's samples without a gap."""

    seq: int
    wall_ms: Milliseconds
    sessions: int
    activations: int
    dirty: int
    dirty_age_s: float
    heartbeats_per_s: float
    turns_per_s: float
    lag_ms: float
    watched: int = 0
    """Players that sessions watch, each counted for each session."""
    differences_per_s: float = 0.0
    """Presences of watched players sent to clients."""


class MoveFigures(msgspec.Struct):
    """Entities that come to a node and go from it. `misplaced` activations are still to go to the node of
    their slot. Pauses are the time that callers of a migrating activation waited, in ms: their mean, and a
    bound that 99 of 100 stayed under (None without any). `takeovers_total` counts entities that came
    from an owner which had not given them up, `adopted_total` those whose newest state was found in
    a journal, `unread_total` those whose journal could not be read."""

    misplaced: int
    migrations_total: int
    failed_total: int
    pause_mean_ms: float
    pause_p99_ms: float | None
    sessions_handed_over_total: int
    takeovers_total: int
    adopted_total: int
    unread_total: int
    orphans_woken_total: int
    evictions_total: int


class NodeReport(msgspec.Struct):
    """The report of a node about itself. `not_ready` is empty while it serves, else the reason it does
    not; `samples` are its newest, oldest first; `kinds` counts activations by actor kind; `moves`
    is absent from a peer of an older version. `gossip` is where it gossips: a seed for others. `troubles` are
    the things that are away or wrong for it, whether or not it serves."""

    node: str
    incarnation: int
    wall_ms: Milliseconds
    uptime_s: float
    not_ready: str
    sessions: int
    activations: int
    kinds: dict[str, int]
    dirty: int
    dirty_age_s: float
    heartbeats_total: int
    turns_total: int
    fenced_total: int
    flush_failures_total: int
    lag_ms: float
    rss_bytes: int
    samples: list[Sample]
    moves: MoveFigures | None = None
    gossip: str = ""
    troubles: list[Trouble] = []


class NodeInfo(msgspec.Struct):
    """A member of the view, with what it reported if it answered. `load` and `lag_ms` come
    with gossip. `slots` is how many of the 65,536 slots it owns. `generation` counts the processes of its run
    from 0."""

    node: str
    incarnation: int
    state: str
    weight: int
    suspect: bool
    slots: int
    load: int
    lag_ms: float
    client_url: str
    admin_url: str
    report: NodeReport | None = None
    generation: int = 0


class GoneNode(msgspec.Struct):
    """A node that left this node's view. `how` is `stopped` if it said goodbye, else `lost`."""

    node: str
    incarnation: int
    how: Literal["stopped", "lost"]
    ago_s: float
    admin_url: str


class Cluster(msgspec.Struct):
    """The cluster as the answering node sees it. `digest` names its view; equal views have
    equal digests and equal rings."""

    cluster: str
    app: str
    node: str
    digest: str
    wall_ms: Milliseconds
    nodes: list[NodeInfo]
    gone: list[GoneNode]
    missing: list[str]


class DrainOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The node to drain, and its run (0: whichever runs)."""

    node: str
    incarnation: int = 0


class Drain(msgspec.Struct):
    """How far the answering node is with its drain. `state` is that of its member (`leaving` once it
    drains); `moved` counts activations that migrated away so far; it is `done` when it is leaving
    and has nothing left."""

    node: str
    incarnation: int
    state: str
    activations_left: int
    sessions_left: int
    moved: int
    done: bool


class UpgradeOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The node to upgrade, and its run (0: whichever runs)."""

    node: str
    incarnation: int = 0


class Upgrade(msgspec.Struct):
    """How far the answering node is with the succession of its process. `generation` counts the processes of its run
    from 0, `process` is the number of this one. While it is `running`, `phase` says with what: `starting` the new
    program, `checking` whether it fits, `copying` (`copied` of `total` activations and sessions), `resting`, in which
    nobody is served, `going over`. `why`: the last one did not take place for this reason. The rest is of the
    succession that this process came of: the time for which nobody was served, the sessions that moved with their
    connections, and those that were told to connect anew (`sessions_going`)."""

    node: str
    incarnation: int
    generation: int
    process: int
    running: bool
    phase: str = ""
    copied: int = 0
    total: int = 0
    why: str = ""
    pause_ms: float = 0.0
    sessions_moved: int = 0
    sessions_going: int = 0


class Ring(msgspec.Struct):
    """The slot table for drawing. `slots_z` is base64 of the zlib-compressed table: one byte a
    slot, 65,536 in all, each the position of its owner in `owners` (255: position 255 or
    above). Empty while no member owns slots."""

    digest: str
    owners: list[str]
    counts: list[int]
    slots_z: str


class Series(msgspec.Struct):
    """The last minutes of one node, one sample a second, oldest first."""

    node: str
    interval_s: float
    samples: list[Sample]


class History(msgspec.Struct):
    rows: list[Series]
    missing: list[str]


class Rows(msgspec.Struct):
    """Rows of a read model, from every node that answered. `next` continues a paged answer:
    pass it as `after`; None at the end."""

    rows: list[Any]
    missing: list[str]
    next: str | None = None


class KindCount(msgspec.Struct):
    node: str
    kind: str
    count: int


class Activations(msgspec.Struct):
    rows: list[KindCount]
    totals: dict[str, int]
    missing: list[str]


class StoreState(msgspec.Struct):
    """Write-behind, log commits and crash journal of one node. `journal` is its mode; `limits` are
    the settings that bound all this."""

    node: str
    url: str
    dirty: int
    dirty_age_s: float
    flushes_total: int
    flush_mean_ms: float
    flushed_rows_total: int
    flush_failures_total: int
    fenced_total: int
    fenced_changes_lost_total: int
    claims_total: int
    log_entries_total: int
    log_commits_total: int
    log_commit_mean_ms: float
    lease_renewals_total: int
    lease_failures_total: int
    limits: dict[str, float]
    journal: str = "none"
    journal_backlog_bytes: int = 0
    journal_refused_total: int = 0


class Stores(msgspec.Struct):
    rows: list[StoreState]
    missing: list[str]


class Pages(msgspec.Struct):
    """The application's dashboard pages: ES modules under `/app/`. `cluster`: there is one to show."""

    app: str
    modules: list[str]
    cluster: bool = True


class Health(msgspec.Struct, omit_defaults=True):
    """`reason` says why a node is not ready, or, of one that is, what is wrong nevertheless."""

    node: str
    status: str
    reason: str = ""
