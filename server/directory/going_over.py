"""Entries and listers, which may be very many, on their way to the heir of a node: copied ahead, in slices. Pure.

A million of them take some hundred milliseconds to be read. So nearly all of them go while the predecessor serves, and
what has changed since goes with the bequest.
"""

from server.directory import bequest
from server.directory.bequest import EntriesGone, ListersGone
from server.directory.listers import Listers
from server.directory.partition import Partition


class DirectoryGoingOver:
    """See the module's head. The same class gives and takes."""

    def __init__(self, partition: Partition, listers: Listers) -> None:
        self._partition, self._listers = partition, listers

    # ---- the predecessor ----

    def copy_ahead(self, most: int = bequest.SLICE) -> bytes:
        """The next slice; empty once all are copied that have not changed since. Changes are noted from the first call
        on."""
        entries, listers = self._partition.ahead, self._listers.ahead
        entries.begin(self._partition)
        listers.begin(self._listers)
        if some := entries.take(most):
            return bequest.encode(self._partition.copy(some))
        if some := listers.take(most):
            return bequest.encode(self._listers.copy(some))
        return b""

    @property
    def to_copy(self) -> int:
        """Number of those that are to be copied, or have changed since they were."""
        return len(self._partition.ahead) + len(self._listers.ahead)

    def left(self) -> tuple[EntriesGone, ListersGone]:
        """All that has not been copied ahead, or has changed since."""
        entries, listers = self._partition.ahead, self._listers.ahead
        return (
            self._partition.copy(entries.left() if entries.noting else self._partition),
            self._listers.copy(listers.left() if listers.noting else self._listers),
        )

    def end_copying(self) -> None:
        """Note no changes any more: there is no heir."""
        self._partition.ahead.end()
        self._listers.ahead.end()

    # ---- the heir ----

    def inherit_ahead(self, data: bytes) -> None:
        """Take a slice. Raises `BadInput`."""
        self.take(bequest.decode_ahead(data))

    def take(self, some: EntriesGone | ListersGone) -> None:
        if isinstance(some, EntriesGone):
            self._partition.take_copy(some)
        else:
            self._listers.take_copy(some)
