"""The last five minutes of a node at one sample a second, in a ring of fixed size."""

from collections import deque

from server.admin.answers import Sample
from server.runtime.clock import Clock
from server.runtime.metrics import Metrics

SAMPLE_INTERVAL_S = 1.0
SAMPLES_KEPT = 300


class Sampler:
    """Call `sample` once a second. Rates are over the time that really passed since the last."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_KEPT)
        self._seq = 0
        self._at = clock.now()
        self._begin()

    def _begin(self) -> None:
        """Take the counters as they are: rates count from here."""
        metrics = self._metrics
        self._generation = metrics.generation
        self._heartbeats, self._turns = metrics.heartbeats_total, metrics.turns_total
        self._differences = metrics.presence_differences_total

    def sample(self) -> None:
        """Note the node's state now."""
        metrics, now = self._metrics, self._clock.now()
        if metrics.generation != self._generation:
            self._begin()  # the counters of the process before this one have come over
        passed_s = now - self._at
        beats, turns = metrics.heartbeats_total - self._heartbeats, metrics.turns_total - self._turns
        self._at, self._heartbeats, self._turns = now, metrics.heartbeats_total, metrics.turns_total
        differences = metrics.presence_differences_total - self._differences
        self._differences = metrics.presence_differences_total
        self._seq += 1
        self._samples.append(
            Sample(
                seq=self._seq,
                wall_ms=self._clock.wall_ms(),
                sessions=metrics.sessions,
                activations=metrics.activations,
                dirty=metrics.dirty,
                dirty_age_s=round(metrics.dirty_age_seconds, 3),
                heartbeats_per_s=round(beats / passed_s, 1) if passed_s > 0 else 0.0,
                turns_per_s=round(turns / passed_s, 1) if passed_s > 0 else 0.0,
                lag_ms=round(metrics.loop_lag_last_seconds * 1000, 2),
                watched=metrics.presence_watched,
                differences_per_s=round(differences / passed_s, 1) if passed_s > 0 else 0.0,
            )
        )

    def newest(self, count: int) -> list[Sample]:
        """The newest `count` samples, oldest first."""
        return list(self._samples)[-count:]

    def all(self) -> list[Sample]:
        """Every sample that is kept, oldest first."""
        return list(self._samples)
