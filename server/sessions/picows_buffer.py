"""The bytes of a frame that picows has read and not handed over yet.

Whoever goes on with a socket in another process gets none of them: so it must be known exactly that there are none.
picows does not say. Its free room (`get_buffer`) tells only with its size, which doubles now and then: half of a large
buffer, filled, looks like a smaller one that is empty. So the count itself is read, where the library's object has it:
the place is found once, by giving an object of its class some bytes and looking which of its words counts them.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final

_WORD: Final = ctypes.sizeof(ctypes.c_ssize_t)
_STEPS: Final = (1, 2, 5, 11, 23)
_REQUEST: Final = b"GET / HTTP/1.1\r\nno-end: of this request is given, so nothing is done with it"


class UnreadBytes:
    """See the module's head. `make` gives a new protocol; `first_size`: its free room at first."""

    def __init__(self, make: Callable[[], Any]) -> None:
        protocol = make()
        self._kind = type(protocol)
        self._first_size = len(protocol.get_buffer(-1))
        self._offset = _place_of_count(protocol)

    @property
    def is_exact(self) -> bool:
        """Whether the place was found; else a connection whose buffer has ever grown counts as within a frame."""
        return self._offset is not None

    def of(self, protocol: Any) -> int:
        """The bytes that `protocol` has read and not handed over."""
        assert type(protocol) is self._kind
        if self._offset is None:
            return abs(self._first_size - len(protocol.get_buffer(-1)))
        return ctypes.c_ssize_t.from_address(id(protocol) + self._offset).value


def _place_of_count(protocol: Any) -> int | None:
    """The offset of the word that counts the bytes which are given; None unless there is exactly one."""
    size: int = type(protocol).__basicsize__
    found: set[int] = {*range(object.__basicsize__, size, _WORD)}
    count = 0
    for step in _STEPS:
        room = protocol.get_buffer(-1)
        room[:step] = _REQUEST[count : count + step]
        protocol.buffer_updated(step)
        count += step
        found = {at for at in found if ctypes.c_ssize_t.from_address(id(protocol) + at).value == count}
    return found.pop() if len(found) == 1 else None
