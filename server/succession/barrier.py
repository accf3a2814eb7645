"""A write barrier by class: tells which objects have been touched since they were copied, at no cost for all others.

A copied object gets a subclass of its own class in which every method that changes it first notes it as touched and
gives the object its class back. So an object pays once after it was copied, and a program that copies nothing pays
nothing. It is what a page that is write-protected is to a virtual machine that moves (Clark et al., "Live Migration of
Virtual Machines", 2005), with the class in place of the page table.

An object that is changed by another way than these methods is not noticed. Pure.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

_ORIGIN: Final = "_barrier_origin"


class Barrier:
    """`methods`: for each class, the names of those of its methods (or of its subclasses') that change an object;
    `key`: the object that counts as touched, usually itself."""

    def __init__(self, methods: Iterable[str], key: Callable[[Any], Any] = lambda thing: thing) -> None:
        self._methods, self._key = tuple(methods), key
        self._watching: dict[type, type] = {}
        self.touched: dict[Any, None] = {}
        """Objects that were touched since they were watched, in order."""
        self._ended = False

    def watch(self, thing: Any) -> None:
        """Note `thing` when it is touched from here on. Idempotent."""
        cls = type(thing)
        watching = self._watching.get(cls)
        if watching is None:
            watching = self._watching[cls] = self._subclass(getattr(cls, _ORIGIN, cls))
            self._watching[watching] = watching
        if cls is not watching:
            thing.__class__ = watching

    def take(self) -> list[Any]:
        """The objects that were touched, which are forgotten here."""
        touched = list(self.touched)
        self.touched.clear()
        return touched

    def end(self) -> None:
        """Note nothing more. Objects that are watched get their classes back when they are touched."""
        self._ended = True
        self.touched.clear()

    def _subclass(self, cls: type) -> type:
        found = {name: self._noting(cls, name) for name in self._methods if hasattr(cls, name)}
        return type(cls.__name__, (cls,), {"__slots__": (), "__module__": cls.__module__, _ORIGIN: cls, **found})

    def _noting(self, cls: type, name: str) -> Any:
        """The method `name`, for a watched object."""
        barrier, plain = self, getattr(cls, name)

        def noting(thing: Any, *args: Any, **kwargs: Any) -> Any:
            thing.__class__ = cls
            if not barrier._ended:
                barrier.touched[barrier._key(thing)] = None
            return plain(thing, *args, **kwargs)

        return noting
