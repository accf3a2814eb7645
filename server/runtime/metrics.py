"""Counters that the hot path can afford: plain integers, read only when somebody scrapes.

Nothing here locks or formats; `server/admin/metrics.py` turns a `Metrics` into Prometheus
families. One instance a node, handed to every part.

Where a node goes on in another process its counters go over: to who reads them nothing has begun anew. Gauges are
what each part says of itself, and the new process's parts say it anew.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import msgspec

from server.errors import BadInput

LATENCY_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Histogram:
    """Cumulative-bucket histogram; `counts[i]` observations were at most `bounds[i]`, the last
    count has no bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS_S) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class CountersBequest(msgspec.Struct, array_like=True):
    """Counters by name, as they go over; `histograms`: counts by bucket, and the total, with the bounds."""

    generation: int = 0
    counters: dict[str, int | float] = {}
    labelled: dict[str, dict[int | str, int]] = {}
    histograms: dict[str, tuple[list[float], list[int], float]] = {}


CLOSE_CODES: Final = frozenset({*range(1000, 1004), *range(1005, 1015), *range(4001, 4014)})
"""Close codes that are counted by themselves: those of RFC 6455's registry, and the server's own."""


class Metrics:
    """The counters of a node. Names are the Prometheus names without the `garrison_` prefix."""

    def __init__(self) -> None:
        self.generation = 0
        # sessions
        self.sessions = 0
        self.sessions_opened_total = 0
        self.sessions_resumed_total = 0
        self.redirects_total = 0
        self.frames_in_total = 0
        self.frames_out_total = 0
        self.heartbeats_total = 0
        self.bad_frames_total = 0
        self.proxy_prefixes_refused_total = 0
        self.connections_refused_by_address_total = 0
        self.rate_limited_total = 0
        self.closes_total: dict[int | str, int] = {}
        self.connections_not_carried_total: dict[str, int] = {}
        self.pushes_total = 0
        # watched players
        self.presence_watched = 0
        self.presence_differences_total = 0
        self.presence_sent_total = 0
        self.presence_coalesced_total = 0
        self.presence_left_out_total = 0
        # replays
        self.replays = 0
        self.replay_events_total = 0
        self.replay_decodes_total = 0
        self.replay_decodes_shared_total = 0
        # actors
        self.activations = 0
        self.activations_created_total = 0
        self.activations_dropped_total = 0
        self.turns_total = 0
        self.turn_errors_total = 0
        self.timers_parked = 0
        self.timers_refused_total = 0
        self.mailbox_wait_seconds = Histogram()
        self.mailbox_refused_total = 0
        self.calls_remote_total = 0
        self.calls_redirected_total = 0
        # storage
        self.dirty = 0
        self.dirty_age_seconds = 0.0
        self.flush_seconds = Histogram()
        self.flushed_rows_total = 0
        self.flush_failures_total = 0
        self.fenced_total = 0
        self.fenced_changes_lost_total = 0
        self.claims_total = 0
        self.log_entries_total = 0
        self.log_commit_seconds = Histogram()
        self.logs_deleted_total = 0
        self.log_bytes_deleted_total = 0
        self.logs_spared_total = 0
        self.retention_failures_total = 0
        self.lease_renewals_total = 0
        self.lease_failures_total = 0
        self.evictions_total = 0
        self.buried_total = 0
        # journal and takeover
        self.journal_records_total = 0
        self.journal_bytes_total = 0
        self.journal_backlog_bytes = 0
        self.journal_refused_total = 0
        self.journal_damaged_total = 0
        self.adopted_total = 0
        self.takeovers_total = 0
        self.takeovers_unread_total = 0
        self.waiting: dict[str, int] = {}
        # moves
        self.migrations_total = 0
        self.migrations_failed_total = 0
        self.migration_pause_seconds = Histogram()
        self.misplaced = 0
        self.sessions_handed_over_total = 0
        self.reminders_fired_total = 0
        self.orphans_woken_total = 0
        self.facts_done_total = 0
        self.facts_repeated_total = 0
        # columns
        self.column_bytes = 0
        self.column_rows_total = 0
        self.column_rows_lost_total = 0
        self.column_rows_missing = 0
        self.column_rows_reloaded_total = 0
        self.column_rows_damaged_total = 0
        # cluster
        self.members = 0
        self.unreached = 0
        self.troubles = 0
        self.view_changes_total = 0
        self.gossip_events_total = 0
        self.gossip_bad_members_total = 0
        # transport
        self.transport_links = 0
        self.transport_frames_in_total = 0
        self.transport_bytes_in_total = 0
        self.transport_bytes_out_total = 0
        self.transport_deadlines_total = 0
        self.transport_refused_total = 0
        self.transport_handler_crashes_total = 0
        self.transport_closes_total: dict[str, int] = {}
        # presence
        self.presence_shown = 0
        self.presence_entries = 0
        self.presence_unknown = 0
        self.presence_interests = 0
        self.presence_answers_total = 0
        # runtime
        self.loop_lag_seconds = Histogram()
        self.loop_lag_last_seconds = 0.0
        self.collection_seconds = Histogram()
        self.collection_longest_seconds = 0.0
        self.collections_full_total = 0
        self.collections_set_aside_total = 0
        self.task_crashes_total = 0
        self._turns_before = 0

    def bequeath(self) -> bytes:
        """Every counter and histogram; no gauges."""
        bequest = CountersBequest(self.generation)
        for name, value in vars(self).items():
            if isinstance(value, Histogram):
                bequest.histograms[name] = (list(value.bounds), value.counts, value.total)
            elif not name.endswith("_total"):
                continue
            elif isinstance(value, dict):
                bequest.labelled[name] = value
            else:
                bequest.counters[name] = value
        return msgspec.msgpack.encode(bequest)

    def inherit(self, data: bytes) -> None:
        """Count on from where the process before this one was. What this program does not count, or counts in other
        buckets, begins anew. Raises `BadInput`."""
        try:
            bequest = msgspec.msgpack.decode(data, type=CountersBequest)
        except msgspec.MsgspecError as error:
            raise BadInput(f"bequest of metrics: {error}") from None
        self.generation = bequest.generation + 1
        for name, value in vars(self).items():
            if isinstance(value, Histogram):
                bounds, counts, total = bequest.histograms.get(name, ([], [], 0.0))
                if tuple(bounds) == value.bounds and len(counts) == len(value.counts):
                    value.counts = [mine + theirs for mine, theirs in zip(value.counts, counts, strict=True)]
                    value.total += total
            elif isinstance(value, dict) and name in bequest.labelled:
                for label, count in bequest.labelled[name].items():
                    value[label] = value.get(label, 0) + count
            elif isinstance(value, int | float) and name in bequest.counters and name.endswith("_total"):
                setattr(self, name, value + bequest.counters[name])
        self._turns_before = self.turns_total

    def count_turns(self, turns: int) -> None:
        """Note the turns of this process so far."""
        self.turns_total = self._turns_before + turns

    def transport_closed(self, reason: str) -> None:
        """Count one closed node-to-node link; `reason` comes from a fixed list."""
        self.transport_closes_total[reason] = self.transport_closes_total.get(reason, 0) + 1

    def closed(self, code: int) -> None:
        """Count one connection that this side has closed, under its code; an application's codes under one word."""
        label: int | str = code if code in CLOSE_CODES else "application"
        self.closes_total[label] = self.closes_total.get(label, 0) + 1

    def not_carried(self, reason: str, count: int = 1) -> None:
        """Count connections that did not go over to the next process of this node; `reason` is from a fixed list."""
        self.connections_not_carried_total[reason] = self.connections_not_carried_total.get(reason, 0) + count

    def client_closed(self, code: int) -> None:
        """Count one connection that its client has closed, or that broke (1006): under a code of RFC 6455, and all
        others under one word, since clients must not make label values."""
        label: int | str = code if code in CLOSE_CODES and code < 4000 else "other"
        self.closes_total[label] = self.closes_total.get(label, 0) + 1
