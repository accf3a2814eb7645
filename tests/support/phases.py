"""The tables of phases of all entities of a node, and the steps that they refused.

A handler may swallow the error of an illegal transition, so that no test would see it: tests and simulated runs look
at what the tables remember. Only those are looked at whose modules somebody has loaded: a test of actors is not to wait
for all that a whole node imports.
"""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

from server.runtime.phases import PhaseTable

TABLES: Final[Mapping[str, tuple[str, ...]]] = {
    "server.activations.activation": ("ACTIVATION",),
    "server.recording": ("RECORDING",),
    "server.sessions.session_phases": ("SESSION",),
    "server.sessions.transfer": ("TRANSFER",),
    "server.storage.journal.redis_stream": ("STREAM_PHASES", "TRIM_PHASES"),
    "server.succession.heir": ("HEIR",),
    "server.succession.predecessor": ("PREDECESSOR",),
}
"""The names of the tables, by module."""


def _loaded() -> Iterator[PhaseTable[Any]]:
    for module, names in TABLES.items():
        if module in sys.modules:
            for name in names:
                yield getattr(sys.modules[module], name)


def forget_refused() -> None:
    """Begin a test or a run."""
    for table in _loaded():
        table.refused.clear()


def refused_transitions() -> list[str]:
    """The illegal transitions since then, each with its entity's story."""
    return [told for table in _loaded() for told in table.refused]
