"""The write barrier of sessions: which of them have changed since they were copied.

A session that is copied gets another class, whose methods are those of `Session` and note the first change; with it
the session is a plain one again, so that the barrier costs each session once. A change is an attribute that is set, or
a method that changes what an attribute holds. Whatever else changes what a copy holds says so by `Session.changed`.

Left out on purpose: when a session was heard (all are heard when they go on), and the tokens of its rate, of which an
older copy has some more. So a heartbeat with an id changes nothing.
"""

from typing import Final

from server.runtime.barrier import Barrier, give_back
from server.sessions.session import Session

CHANGING_METHODS: Final = frozenset(
    {
        "_pay_beats",
        "acknowledge",
        "arrive",
        "begin",
        "changed",
        "close",
        "end",
        "enter",
        "flush",
        "give_way",
        "on_closed",
        "owe_beat",
        "push",
        "send",
        "send_last",
        "wait_in_line",
    }
)
"""Methods of a session that change what its copy holds."""
UNNOTED_FIELDS: Final = frozenset(
    {
        "heard_at",
        "activation",
        "unanswered",
        "_blocked_at",
        "_link",
        "_pay_at",
        "_refused",
        "earlier_traffic",
        "in_line",
    }
)
"""Attributes that no copy holds; messages in line are looked at for every session that is in one."""


class SessionBarrier(Barrier):
    """See the module's head. `touched`: sessions that have changed since `watch`, in the order in which they did."""

    def __init__(self) -> None:
        super().__init__(CHANGING_METHODS, unnoted=UNNOTED_FIELDS)
        self._watched: set[Session] = set()

    def watch(self, session: Session) -> None:
        """Note the next change of a session, which is copied now."""
        super().watch(session)
        self._watched.add(session)

    def end(self) -> None:
        """Watch no session any more: each would pay for every attribute that is set, with each heartbeat."""
        super().end()
        for session in self._watched:
            give_back(session)
        self._watched.clear()
