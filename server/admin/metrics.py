"""`Metrics` as Prometheus families, each labelled with the node. Formatting happens only when
somebody scrapes; the counters themselves stay plain integers."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from server.runtime.metrics import Histogram, Metrics

PREFIX = "garrison_"
CONTENT_TYPE = CONTENT_TYPE_LATEST.partition("; charset=")[0]
"""Media type without the character set, which is added where text is sent."""

_HELP = {
    "generation": "Processes that this run of the node has had before this one: each succession is one more.",
    "sessions": "Client sessions that this node holds now.",
    "sessions_opened_total": "Sessions begun.",
    "sessions_resumed_total": "Sessions that came back within their resume window.",
    "redirects_total": "Clients told to connect to the node of their player's slot.",
    "frames_in_total": "WebSocket messages received.",
    "frames_out_total": "WebSocket messages sent.",
    "heartbeats_total": "Client heartbeats handled.",
    "bad_frames_total": "Frames refused because they are no message.",
    "proxy_prefixes_refused_total": "PROXY prefixes refused: wrong, too slow, or not from a trusted proxy.",
    "connections_refused_by_address_total": "Connections refused because their address had too many.",
    "rate_limited_total": "Messages refused because their session was over its rate.",
    "connections_not_carried_total": "Connections that did not go over to the next process of this node, by reason.",
    "closes_total": "Connections closed, by WebSocket close code; `other`, `application`: codes of theirs.",
    "pushes_total": "Pushes put into session outboxes.",
    "presence_watched": "Players that sessions watch now, each counted for each session.",
    "presence_differences_total": "Presences of watched players sent to clients.",
    "presence_sent_total": "Frames that they were sent in.",
    "presence_coalesced_total": "Presences that were not sent, since a newer one came before the client could read.",
    "presence_left_out_total": "Presences not sent when asked for, since the client had that version.",
    "replays": "Replays of stored logs that clients have open now.",
    "replay_events_total": "Events sent to clients in replays.",
    "replay_decodes_total": "Parts of logs that were decoded for replays.",
    "replay_decodes_shared_total": "Parts of logs that a replay needed and another one had decoded, or was decoding.",
    "activations": "Actors in memory now.",
    "activations_created_total": "Activations made.",
    "activations_dropped_total": "Activations dropped, for whatever reason.",
    "turns_total": "Actor turns run.",
    "turn_errors_total": "Turns that raised an error that was not the caller's.",
    "timers_parked": "Actors with timers that are due and wait for this node's lease.",
    "timers_refused_total": "Turns of timers that were refused or failed.",
    "mailbox_wait_seconds": "Time that calls waited for their turn.",
    "mailbox_refused_total": "Calls refused because a mailbox was full.",
    "calls_remote_total": "Actor calls sent to another node.",
    "calls_redirected_total": "Actor calls that were sent on because their actor lives elsewhere.",
    "dirty": "Entities whose newest state is not in the store yet.",
    "dirty_age_seconds": "Age of the oldest change that is not in the store yet.",
    "flush_seconds": "Duration of flushes to the store.",
    "flushed_rows_total": "States written to the store by flushes.",
    "flush_failures_total": "Flushes that failed and will be tried again.",
    "fenced_total": "Writes refused by the store because ownership had been lost.",
    "fenced_changes_lost_total": "Acknowledged changes that a lost ownership kept out of the store.",
    "claims_total": "Entities claimed from the store.",
    "log_entries_total": "Match log entries committed.",
    "log_commit_seconds": "Duration of match log commits.",
    "logs_deleted_total": "Logs of matches that retention has deleted.",
    "log_bytes_deleted_total": "Bytes in the chunks of those logs.",
    "logs_spared_total": "Logs that retention listed and kept, because somebody had claimed or pinned them meanwhile.",
    "retention_failures_total": "Sweeps of retention that failed and will be tried again.",
    "lease_renewals_total": "Node lease renewals that succeeded.",
    "lease_failures_total": "Node lease renewals that failed.",
    "evictions_total": "Nodes that this node, with a majority, has set to be evicted.",
    "buried_total": "Nodes that this node has found dead in the store.",
    "journal_records_total": "Changes written to the crash journal.",
    "journal_bytes_total": "Bytes written to the crash journal.",
    "journal_backlog_bytes": "Bytes of the crash journal that are not known to be in the store.",
    "journal_refused_total": "Changes refused because the crash journal was full or away.",
    "journal_damaged_total": "Places in crash journals that failed their check when they were read.",
    "adopted_total": "Entities whose newest state came from the crash journal of an owner that is gone.",
    "takeovers_total": "Entities taken over from an owner that had not given them up.",
    "takeovers_unread_total": "Entities taken over although their owner's crash journal could not be read.",
    "waiting": "Actors called here that wait for the journal of a dead run, by that run; of many, some as `other`.",
    "migrations_total": "Activations that went to another node with their state.",
    "migrations_failed_total": "Migrations that ended without the target taking over.",
    "migration_pause_seconds": "Time for which a migrating activation took no calls.",
    "misplaced": "Activations here whose place is on another node and that are still to go there.",
    "sessions_handed_over_total": "Sessions handed to the node of their player.",
    "reminders_fired_total": "Reminders that came due and called their actor.",
    "orphans_woken_total": "Actors brought back after their node died, with nobody calling them.",
    "facts_done_total": "Facts of actors here that the other side has stored, or refused for good.",
    "facts_repeated_total": "Facts that were told without an answer, and are told again.",
    "gossip_bad_members_total": "Members that gossip told and that could not be read.",
    "presence_shown": "Players who are shown at this node now.",
    "presence_entries": "Players whom sessions here watch now, each once.",
    "presence_unknown": "Players watched here of whom nobody can tell now whether they are here.",
    "presence_interests": "Players in slots of this node whom other nodes watch, once a node.",
    "presence_answers_total": "Answers and differences about watched players, from the owners of their slots.",
    "transport_links": "Open links to other nodes.",
    "transport_frames_in_total": "Frames received from other nodes.",
    "transport_bytes_in_total": "Bytes received from other nodes.",
    "transport_bytes_out_total": "Bytes sent to other nodes.",
    "transport_deadlines_total": "Requests to other nodes that were not answered in time.",
    "transport_refused_total": "Requests to other nodes refused for want of room.",
    "transport_handler_crashes_total": "Requests of other nodes whose handling failed.",
    "transport_closes_total": "Links to other nodes closed, by reason.",
    "troubles": "Things that are away or wrong now, as /readyz and the log name them.",
    "unreached": "Nodes with a live lease in this node's store that gossip does not reach.",
    "members": "Nodes that this node believes in, itself included.",
    "column_bytes": "Bytes of this node's columns, with what a reader may still have mapped.",
    "column_rows_total": "Rows written into columns.",
    "column_rows_lost_total": "Rows for columns that found no place.",
    "column_rows_missing": "Rows of events that are lost and are loaded from the store again.",
    "column_rows_reloaded_total": "Rows of events that were loaded from the store again.",
    "column_rows_damaged_total": "Events that could not be loaded again: their logs are damaged.",
    "view_changes_total": "Changes of this node's view of the cluster.",
    "gossip_events_total": "Membership events received from gossip.",
    "loop_lag_seconds": "Lateness of the event loop's timers.",
    "loop_lag_last_seconds": "Lateness of the event loop's last probe.",
    "collection_seconds": "Duration of passes of the garbage collector, during which the node stands still.",
    "collection_longest_seconds": "Longest of these passes since this process serves.",
    "collections_full_total": "Passes over everything that is not set aside.",
    "collections_set_aside_total": "Passes that took long, and whose survivors are not looked at any more.",
    "task_crashes_total": "Background tasks that failed.",
}


class MetricsCollector(Collector):
    """Turns one `Metrics` into families: names ending in `_total` are counters, `Histogram`s
    histograms, a mapping of close codes a labelled counter, one of runs a labelled gauge, everything else a gauge."""

    def __init__(self, metrics: Metrics, node: str) -> None:
        self._metrics, self._node = metrics, node

    def collect(self) -> Iterable[Metric]:
        """A family for every counter of the node, in the order of their definition."""
        for name, value in vars(self._metrics).items():
            if not name.startswith("_"):
                yield from self._family(name, value)

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not collect at registration to know the names."""
        return ()

    def _family(self, name: str, value: object) -> Iterator[Metric]:
        full, text = PREFIX + name, _HELP.get(name) or f"{name.replace('_', ' ')}."
        if isinstance(value, Histogram):
            histogram = HistogramMetricFamily(full, text, labels=["node"])
            histogram.add_metric([self._node], _buckets(value), value.total)
            yield histogram
        elif isinstance(value, dict) and not name.endswith("_total"):
            gauge = GaugeMetricFamily(full, text, labels=["node", "run"])
            for run, count in sorted(value.items()):
                gauge.add_metric([self._node, run], count)
            yield gauge
        elif isinstance(value, dict):
            counter = CounterMetricFamily(full, text, labels=["node", "code"])
            for code, count in sorted(value.items(), key=lambda item: str(item[0])):
                counter.add_metric([self._node, str(code)], count)
            yield counter
        elif isinstance(value, int | float):
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            plain = family(full, text, labels=["node"])
            plain.add_metric([self._node], value)
            yield plain


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """(upper bound, observations up to it), as Prometheus wants them: cumulative."""
    out: list[tuple[str, float]] = []
    seen = 0
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        seen += count
        out.append((bound, float(seen)))
    return out


class MetricsText:
    """The text that `/metrics` answers: the node's counters and its process's CPU and memory.
    `observe` is called before each scrape."""

    def __init__(self, metrics: Metrics, node: str, observe: Callable[[], None] | None = None) -> None:
        self._observe = observe
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(MetricsCollector(metrics, node))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """All families in the Prometheus text format (`CONTENT_TYPE`)."""
        if self._observe is not None:
            self._observe()
        return generate_latest(self._registry)
