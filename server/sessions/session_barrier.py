"""The write barrier of sessions: which of them have changed since they were copied.

A session that is copied gets another class, whose methods are those of `Session` and note the first change; with it
the session is a plain one again, so that the barrier costs each session once. A change is an attribute that is set, or
a method that changes what an attribute holds. Whatever else changes what a copy holds says so by `Session.changed`.

Left out on purpose: when a session was heard (all are heard when they go on), and the tokens of its rate, of which an
older copy has some more. So a heartbeat with an id changes nothing.
"""

from typing import Any, Final

from server.sessions.session import Session

CHANGING_METHODS: Final = frozenset(
    {
        "_flush",
        "_owe_beat",
        "_pay_beats",
        "_wait_in_line",
        "acknowledge",
        "arrive",
        "begin",
        "changed",
        "close",
        "end",
        "enter",
        "give_way",
        "on_closed",
        "push",
        "send",
        "send_last",
    }
)
"""Methods of a session that change what its copy holds."""
UNNOTED_FIELDS: Final = frozenset(
    {"heard_at", "activation", "unanswered", "_blocked_at", "_link", "_pay_at", "_refused", "_traffic", "in_line"}
)
"""Attributes that no copy holds; messages in line are looked at for every session that is in one."""


class SessionBarrier:
    """See the module's head. `touched`: sessions that have changed since `watch`, in the order in which they did."""

    def __init__(self) -> None:
        self.touched: dict[Session, None] = {}
        self._watched: set[Session] = set()
        self._class: Any = _noting(self)

    def watch(self, session: Session) -> None:
        """Note the next change of a session, which is copied now."""
        self.touched.pop(session, None)
        self._watched.add(session)
        object.__setattr__(session, "__class__", self._class)

    def note(self, session: Session) -> None:
        """Note a change."""
        object.__setattr__(session, "__class__", Session)
        self._watched.discard(session)
        self.touched[session] = None

    def take(self) -> list[Session]:
        """The sessions that have changed, which are forgotten here."""
        touched = list(self.touched)
        self.touched.clear()
        return touched

    def end(self) -> None:
        """Watch no session any more."""
        for session in self._watched:
            object.__setattr__(session, "__class__", Session)
        self._watched.clear()
        self.touched.clear()


def _noting(barrier: SessionBarrier) -> type[Session]:
    note = barrier.note

    def set_attribute(session: Session, name: str, value: object) -> None:
        if name not in UNNOTED_FIELDS:
            note(session)
        object.__setattr__(session, name, value)

    members: dict[str, Any] = {"__slots__": (), "__setattr__": set_attribute}
    for name in CHANGING_METHODS:
        members[name] = _noted(note, getattr(Session, name))
    return type("CopiedSession", (Session,), members)


def _noted(note: Any, method: Any) -> Any:
    def noted(session: Session, *args: Any, **kwargs: Any) -> Any:
        note(session)
        return method(session, *args, **kwargs)

    return noted
