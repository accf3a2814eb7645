"""A write barrier by class: tells which objects have been touched since they were copied, at no cost for all others.

A copied object gets a subclass of its own class in which every method that changes it first notes it as touched and
gives the object its class back. So an object pays once after it was copied, and a program that copies nothing pays
nothing. It is what a page that is write-protected is to a virtual machine that moves (Clark et al., "Live Migration of
Virtual Machines", 2005), with the class in place of the page table.

An object that is changed by another way than these methods is not noticed, unless attributes that are set count too.
Pure.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

_ORIGIN: Final = "_barrier_origin"


class Barrier:
    """`methods`: the names of the methods that change an object, of its class or of one of its bases; `key`: the object
    that counts as touched, usually itself. `unnoted`: where given, an attribute that is set is a change too, but for
    these."""

    def __init__(
        self,
        methods: Iterable[str],
        key: Callable[[Any], Any] = lambda thing: thing,
        unnoted: Collection[str] | None = None,
    ) -> None:
        self._methods, self._key, self._unnoted = tuple(methods), key, unnoted
        self._watching: dict[type, type] = {}
        self.touched: dict[Any, None] = {}
        """Objects that were touched since they were watched, in order."""
        self._ended = False

    def watch(self, thing: Any) -> None:
        """Note `thing`, which is copied now, when it is touched from here on. Idempotent. Raises `AttributeError` where
        its class lacks one of the methods: one that has another name by now would go unnoticed."""
        self.touched.pop(self._key(thing), None)
        cls = type(thing)
        watching = self._watching.get(cls)
        if watching is None:
            watching = self._watching[cls] = self._subclass(getattr(cls, _ORIGIN, cls))
            self._watching[watching] = watching
        if cls is not watching:
            object.__setattr__(thing, "__class__", watching)

    def note(self, thing: Any) -> None:
        """Note a change of a watched object, and give it its class back."""
        give_back(thing)
        if not self._ended:
            self.touched[self._key(thing)] = None

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
        members = {name: self._noting(getattr(cls, name)) for name in self._methods}
        if self._unnoted is not None:
            members["__setattr__"] = self._noting_attributes(self._unnoted)
        return type(cls.__name__, (cls,), {"__slots__": (), "__module__": cls.__module__, _ORIGIN: cls, **members})

    def _noting(self, plain: Any) -> Any:
        """The method `plain`, for a watched object."""
        note = self.note

        def noting(thing: Any, *args: Any, **kwargs: Any) -> Any:
            note(thing)
            return plain(thing, *args, **kwargs)

        return noting

    def _noting_attributes(self, unnoted: Collection[str]) -> Any:
        note = self.note

        def noting(thing: Any, name: str, value: object) -> None:
            if name not in unnoted:
                note(thing)
            object.__setattr__(thing, name, value)

        return noting


def give_back(thing: Any) -> None:
    """Give `thing` its own class back, if it is watched."""
    origin = getattr(type(thing), _ORIGIN, None)
    if origin is not None:
        object.__setattr__(thing, "__class__", origin)
