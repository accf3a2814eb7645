"""Finds a session that its client would resume here while it is still on another node.

A hello names a resume token that this node does not know: it asks every member (`Want`, the
questions of one turn of the loop together). A node that has the session ships it here at once; one that had it
says where it went. The hello waits `SeekLimits.find_s` at most, and then gets a new session.

A question may arrive when its client has long given up here and gone back to where its session is: the session is
then sent away from under a live connection. So nobody is asked once no client waits, and a session that was sent for
one is taken in only while one waits (`seeks`, asked by `arrivals.py`); else it goes on where it was.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from server.errors import Corrupt, GarrisonError
from server.ids import NodeAddress
from server.sessions.ports import NodeView
from server.sessions.time_limits import SeekLimits
from server.sessions.transfer_frames import Want, Wanted, batches, decode_places, encode
from server.transport.ports import Service, Transport


class _Sought:
    """A search. `open`: questions that are not answered; `coming`: some node knows more; `waits`: for each client
    that has asked, whether it still waits."""

    __slots__ = ("coming", "found", "open", "waits", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.waits: list[Callable[[], bool]] = []
        self.found: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open = 0
        self.coming = False

    @property
    def awaited(self) -> bool:
        return not self.found.done() and any(waits() for waits in self.waits)


class Seeker:
    """The searches of one gateway."""

    def __init__(self, node: NodeView, transport: Transport, limits: SeekLimits) -> None:
        self._node, self._transport, self._limits = node, transport, limits
        self._sought: dict[str, _Sought] = {}
        self._new: list[_Sought] = []

    def __len__(self) -> int:
        return len(self._sought)

    def may_find(self, wanted: Wanted) -> bool:
        """True if a search for the session may begin, or is under way for the same client. False: nobody can be
        asked, or too much is sought already."""
        sought = self._sought.get(wanted.resume)
        if sought is not None:
            return sought.wanted == wanted
        return len(self._node.view.addresses) >= 2 and len(self._sought) < self._limits.max_sought

    def find(self, wanted: Wanted, then: Callable[[], None], waits: Callable[[], bool]) -> None:
        """Call `then` when the session is here or nowhere. `waits()`: the client is still there."""
        assert self.may_find(wanted)
        sought = self._sought.get(wanted.resume)
        if sought is None:
            sought = self._sought[wanted.resume] = _Sought(wanted)
            loop = asyncio.get_running_loop()
            if not self._new:
                loop.call_soon(self._ask_everybody)
            self._new.append(sought)
            loop.call_later(self._limits.find_s, self._finish, sought)
        sought.waits.append(waits)
        sought.found.add_done_callback(lambda _: then())

    def seeks(self, resume: str) -> bool:
        """True while a client waits here for that session."""
        sought = self._sought.get(resume)
        return sought is not None and sought.awaited

    def arrived(self, resume: str) -> None:
        """End the search for a session that has arrived."""
        sought = self._sought.get(resume)
        if sought is not None:
            self._finish(sought)

    def _finish(self, sought: _Sought) -> None:
        if self._sought.get(sought.wanted.resume) is sought:
            del self._sought[sought.wanted.resume]
            sought.found.set_result(None)

    def _ask_everybody(self) -> None:
        new, self._new = self._new, []
        for batch in batches(sought for sought in new if self._goes_on(sought)):
            for address in self._node.view.addresses:
                if address != self._node.me:
                    self._ask(address, batch, False)
            for sought in batch:
                if not sought.open:
                    self._finish(sought)

    def _ask(self, to: NodeAddress, batch: Sequence[_Sought], again: bool) -> None:
        """Ask one node. `again`: another node named it, so that a no is not its last word."""
        payload = encode(Want([sought.wanted for sought in batch]))
        try:
            asked = self._transport.request(to, Service.SESSION, payload, self._limits.find_s)
        except GarrisonError:
            return  # the search ends by the others' answers, or by its time
        for sought in batch:
            sought.open += 1
        asked.add_done_callback(partial(self._answered, to, batch, again))

    def _answered(self, to: NodeAddress, batch: Sequence[_Sought], again: bool, asked: "asyncio.Future[bytes]") -> None:
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
                named = next((address for address in self._node.view.addresses if str(address) == place), None)
                if named is not None and named != self._node.me:
                    self._ask_later(named, sought)
            elif again:
                self._ask_later(to, sought)  # not there yet
            elif not sought.open and not sought.coming:
                self._finish(sought)

    def _ask_later(self, to: NodeAddress, sought: _Sought) -> None:
        asyncio.get_running_loop().call_later(self._limits.again_s, self._ask_if_open, to, sought)

    def _ask_if_open(self, to: NodeAddress, sought: _Sought) -> None:
        if self._goes_on(sought):
            self._ask(to, [sought], True)

    def _goes_on(self, sought: _Sought) -> bool:
        """Tell whether a search is still to go on. One for which no client waits is over: a later hello begins anew."""
        if not sought.awaited:
            self._finish(sought)
        return not sought.found.done()
