"""Prometheus text from plain counters."""

from prometheus_client.parser import text_string_to_metric_families

from server.admin.metrics import CONTENT_TYPE, MetricsText
from server.runtime.metrics import CLOSE_CODES, Histogram, Metrics
from server.wire.messages import CloseCode


def families(metrics: Metrics, node: str = "node-1") -> dict[str, object]:
    text = MetricsText(metrics, node).render().decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def samples(metrics: Metrics, family: str) -> dict[tuple[str, ...], float]:
    found = families(metrics)[family]
    out = {}
    for sample in found.samples:  # type: ignore[attr-defined]
        labels = {name: value for name, value in sample.labels.items() if name != "node"}
        assert sample.labels["node"] == "node-1"
        out[(sample.name, *labels.values())] = sample.value
    return out


def test_a_counter_and_a_gauge() -> None:
    metrics = Metrics()
    metrics.heartbeats_total = 12
    metrics.sessions = 3
    assert samples(metrics, "garrison_heartbeats") == {("garrison_heartbeats_total",): 12}
    assert samples(metrics, "garrison_sessions") == {("garrison_sessions",): 3}
    assert families(metrics)["garrison_heartbeats"].type == "counter"  # type: ignore[attr-defined]
    assert families(metrics)["garrison_sessions"].type == "gauge"  # type: ignore[attr-defined]


def test_histogram_buckets_are_cumulative() -> None:
    metrics = Metrics()
    metrics.flush_seconds = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        metrics.flush_seconds.observe(value)
    got = samples(metrics, "garrison_flush_seconds")
    assert got[("garrison_flush_seconds_bucket", "0.1")] == 2
    assert got[("garrison_flush_seconds_bucket", "1.0")] == 3
    assert got[("garrison_flush_seconds_bucket", "+Inf")] == 4
    assert got[("garrison_flush_seconds_count",)] == 4
    assert got[("garrison_flush_seconds_sum",)] == 7.65


def test_closes_are_labelled_by_code() -> None:
    metrics = Metrics()
    metrics.closed(4005)
    metrics.closed(1000)
    metrics.closed(4005)
    name = "garrison_closes_total"
    assert samples(metrics, "garrison_closes") == {(name, "1000"): 1, (name, "4005"): 2}


def test_clients_and_applications_make_no_labels_of_close_codes() -> None:
    """F26."""
    metrics = Metrics()
    for code in range(1, 6_000):
        metrics.client_closed(code)
    for code in CloseCode.APPLICATION:
        metrics.closed(code)
    for name, code in vars(CloseCode).items():
        if name.isupper() and isinstance(code, int):  # F39: Python 3.13 adds `__firstlineno__`, a number too
            assert code in CLOSE_CODES, name
    labels = {code for _, code in samples(metrics, "garrison_closes")}
    assert labels == {str(code) for code in CLOSE_CODES if code < 4000} | {"other", "application"}


def test_every_help_text_was_written_for_its_counter() -> None:
    metrics = Metrics()
    metrics.closed(1000)  # a family without a sample is not there
    found = families(metrics)
    for name in vars(metrics):
        if name.startswith("_"):
            continue
        family = found[f"garrison_{name.removesuffix('_total')}"]
        assert family.documentation != f"{name.replace('_', ' ')}.", name  # type: ignore[attr-defined]


def test_the_process_is_shown_and_a_second_node_in_it_is_no_conflict() -> None:
    first, second = MetricsText(Metrics(), "a").render(), MetricsText(Metrics(), "b").render()
    assert b"process_resident_memory_bytes" in first
    assert b'garrison_sessions{node="b"} 0.0' in second
    assert CONTENT_TYPE.startswith("text/plain")


def test_scraping_twice_shows_the_change() -> None:
    metrics = Metrics()
    text = MetricsText(metrics, "node-1")
    assert b'garrison_turns_total{node="node-1"} 0.0' in text.render()
    metrics.turns_total += 5
    assert b'garrison_turns_total{node="node-1"} 5.0' in text.render()


def test_gauges_are_brought_up_to_date_before_they_are_read() -> None:
    metrics = Metrics()

    def observe() -> None:
        metrics.dirty = 4

    assert b'garrison_dirty{node="node-1"} 4.0' in MetricsText(metrics, "node-1", observe).render()
