"""The complaints of a node about itself: its database, its journal, its certificates, its columns. Each is a
sentence for people, empty while all is well; `server/runtime/troubles.py` keeps since when,
`server/cluster/belonging.py` has those about other nodes."""

from collections.abc import Callable
from typing import Final, Protocol

from server.errors import BadSetting, GarrisonError
from server.node_drivers import Drivers
from server.storage.pipeline import StoragePipeline

REFUSED_S: Final = 5.0
"""Time since the journal last refused a change for which changes count as refused."""


class Encrypted(Protocol):
    """The listener for clients, as far as its certificate is concerned."""

    @property
    def complaint(self) -> str: ...


class Complaints:
    """See the module's head. `serves`: whether the node is up, with its lease."""

    def __init__(
        self, drivers: Drivers, pipeline: StoragePipeline, listener: Encrypted, serves: Callable[[], bool]
    ) -> None:
        self._drivers, self._pipeline, self._listener, self._serves = drivers, pipeline, listener, serves
        self._refused = (0, float("-inf"))
        """Changes that the journal had refused at the last look, and the boot time of the last one."""
        self._schema = ""

    async def check_schema(self) -> None:
        """Notice a migration that this program does not fit to, or another database in this one's place: what it
        writes then fails, or worse, does not."""
        before, self._schema = self._schema, ""
        try:
            await self._drivers.store.check()
        except BadSetting as error:
            self._schema = error.message
        except GarrisonError:
            self._schema = before  # not reached, which others tell

    def wrong_schema(self) -> str:
        """The store's complaint about its schema or identity, changed under this node."""
        return self._schema

    def database_away(self) -> str:
        """The store is not reached."""
        pipeline = self._pipeline
        waits = len(pipeline.write_behind)
        why = pipeline.lease.failure or pipeline.write_behind.failure or pipeline.group_commit.failure
        if not why or pipeline.lease.lost:
            return ""
        return f"database unreachable: {why}" + (f"; {waits} changed states wait for it" if waits else "")

    def changes_refused(self) -> str:
        """Durable changes are refused: by the bounds of write-behind, or by the journal, which is away or full."""
        if not self._serves():
            return ""
        drivers, journal = self._drivers, self._drivers.journal
        why = self._pipeline.write_behind.refusal or (journal.refusal if journal is not None else None)
        now, (before, at) = drivers.clock.boot(), self._refused
        if drivers.metrics.journal_refused_total != before:
            at = now
            self._refused = (drivers.metrics.journal_refused_total, at)
        if why is None and now - at < REFUSED_S:
            why = "the crash journal has no room, or is away"
        return f"changes are refused: {why}" if why is not None else ""

    def certificate(self) -> str:
        """A certificate is no good for those who are to accept it."""
        return self._listener.complaint or self._drivers.transport.complaint

    def columns_off(self) -> str:
        """Columns are not kept."""
        columns = self._drivers.columns
        return columns.off() if columns is not None else ""
