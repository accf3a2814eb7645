"""Troubles of a node: things that it needs and that are away or wrong, each with the time since which.

A source says in a sentence what is wrong now, or nothing. `look` asks all of them: the first sentence is logged as a
warning, the end too, and between the two `current` gives it to whoever is asked how the node is: `/readyz`,
`garrison status`, the dashboard and the metrics. So all of these say the same.
"""

from collections.abc import Callable, Iterable

import msgspec
import structlog

from server.runtime.clock import Clock
from server.runtime.metrics import Metrics

log = structlog.get_logger(__name__)


class Trouble(msgspec.Struct, frozen=True):
    """A trouble of one node. `name` is of `TroubleSource`; `text` is a sentence for people, and may change while the
    trouble lasts; `since_ms` is wall time in ms since 1970."""

    name: str
    text: str
    since_ms: int


class TroubleSource(msgspec.Struct, frozen=True):
    """`look` gives the sentence, empty while all is well; `over` is logged when it is well again."""

    name: str
    look: Callable[[], str]
    over: str


class Troubles:
    """See the module's head."""

    def __init__(self, clock: Clock, metrics: Metrics, sources: Iterable[TroubleSource]) -> None:
        self._clock, self._metrics, self._sources = clock, metrics, tuple(sources)
        self._now: dict[str, tuple[Trouble, float]] = {}

    def look(self) -> list[Trouble]:
        """Ask every source; the troubles that last."""
        for source in self._sources:
            text = source.look()
            began = self._now.get(source.name)
            if text and began is None:
                self._now[source.name] = (Trouble(source.name, text, self._clock.wall_ms()), self._clock.boot())
                log.warning(text)
            elif text and began is not None:
                self._now[source.name] = (msgspec.structs.replace(began[0], text=text), began[1])
            elif began is not None:
                del self._now[source.name]
                log.info(source.over, after_s=round(self._clock.boot() - began[1], 1))
        self._metrics.troubles = len(self._now)
        return self.current()

    def current(self) -> list[Trouble]:
        """The troubles that the last look found."""
        return [trouble for trouble, _ in self._now.values()]
