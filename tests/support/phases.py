"""The tables of phases of all entities of a node, and the steps that they refused.

A handler may swallow the error of an illegal transition, so that no test would see it: tests and simulated runs look
at what the tables remember.
"""

from typing import Any, Final

from server.activations.activation import ACTIVATION
from server.runtime.phases import PhaseTable
from server.sessions.session import SESSION
from server.sessions.transfer import TRANSFER
from server.storage.journal.redis_stream import STREAM_PHASES, TRIM_PHASES

TABLES: Final[tuple[PhaseTable[Any], ...]] = (ACTIVATION, SESSION, TRANSFER, STREAM_PHASES, TRIM_PHASES)


def forget_refused() -> None:
    """Begin a test or a run."""
    for table in TABLES:
        table.refused.clear()


def refused_transitions() -> list[str]:
    """The illegal transitions since then, each with its entity's story."""
    return [told for table in TABLES for told in table.refused]
