"""Finds a session that its client would resume here while it is still on another node.

A hello names a resume token that this node does not know: it asks every member (`Want`, the
questions of one turn of the loop together). Who has the session ships it here at once; who had it
says where it went. The hello waits `FIND_S` at most, and then gets a new session.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from server.catalog.system import ActorSystem
from server.errors import Corrupt, GarrisonError
from server.ids import NodeAddress
from server.sessions.handover import Want, Wanted, batches, decode_places, encode
from server.transport.ports import Service

FIND_S: Final = 1.0
AGAIN_S: Final = 0.05
MAX_SOUGHT: Final = 10_000
"""Sessions that are sought at a time; past it a client gets a new session without a search."""


class _Sought:
    """One search. `open`: questions that are not answered; `coming`: somebody knows more."""

    __slots__ = ("coming", "found", "open", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = 0
        self.coming = False


class Seeker:
    """The searches of one gateway."""

    def __init__(self, host: ActorSystem) -> None:
        self._host = host
        self._sought: dict[str, _Sought] = {}
        self._new: list[_Sought] = []

    def __len__(self) -> int:
        return len(self._sought)

    def find(self, wanted: Wanted, then: Callable[[], None]) -> bool:
        """Call `then` when the session is here or nowhere. False: there is no search, since
        nobody can be asked or too much is sought already."""
        sought = self._sought.get(wanted.resume)
        if sought is None:
            if len(self._host.view.addresses) < 2 or len(self._sought) >= MAX_SOUGHT:
                return False
            sought = self._sought[wanted.resume] = _Sought(wanted)
            loop = asyncio.get_running_loop()
            if not self._new:
                loop.call_soon(self._ask_everybody)
            self._new.append(sought)
            loop.call_later(FIND_S, self._settle, sought)
        elif sought.wanted != wanted:
            return False
        sought.found.add_done_callback(lambda _: then())
        return True

    def seeks(self, resume: str) -> bool:
        """Whether a client waits here for that session."""
        return resume in self._sought

    def arrived(self, resume: str) -> None:
        """The session is here."""
        sought = self._sought.get(resume)
        if sought is not None:
            self._settle(sought)

    def _settle(self, sought: _Sought) -> None:
        if self._sought.get(sought.wanted.resume) is sought:
            del self._sought[sought.wanted.resume]
            sought.found.set_result(None)

    def _ask_everybody(self) -> None:
        new, self._new = self._new, []
        for batch in batches(new):
            for address in self._host.view.addresses:
                if address != self._host.me:
                    self._ask(address, batch, False)
            for sought in batch:
                if not sought.open:
                    self._settle(sought)

    def _ask(self, to: NodeAddress, batch: Sequence[_Sought], again: bool) -> None:
        """Ask one node. `again`: it was named by another one, so that a no is not its last word."""
        payload = encode(Want([sought.wanted for sought in batch]))
        try:
            asked = self._host.transport.request(to, Service.SESSION, payload, FIND_S)
        except GarrisonError:
            return  # the search ends by the others' answers, or by its time
        for sought in batch:
            sought.open += 1
        asked.add_done_callback(partial(self._told, to, batch, again))

    def _told(self, to: NodeAddress, batch: Sequence[_Sought], again: bool, asked: "asyncio.Future[bytes]") -> None:
        places = [""] * len(batch)
        if not asked.cancelled() and asked.exception() is None:
            with contextlib.suppress(Corrupt):  # then it is as if it had said no
                places = decode_places(asked.result(), len(batch))
        for sought, place in zip(batch, places, strict=True):
            sought.open -= 1
            if sought.found.done():
                continue
            if place:
                sought.coming = True
                named = next((one for one in self._host.view.addresses if str(one) == place), None)
                if named is not None and named != self._host.me:
                    self._ask_later(named, sought)
            elif again:
                self._ask_later(to, sought)  # it is not there yet
            elif not sought.open and not sought.coming:
                self._settle(sought)

    def _ask_later(self, to: NodeAddress, sought: _Sought) -> None:
        asyncio.get_running_loop().call_later(AGAIN_S, self._ask_if_open, to, sought)

    def _ask_if_open(self, to: NodeAddress, sought: _Sought) -> None:
        if not sought.found.done():
            self._ask(to, [sought], True)
