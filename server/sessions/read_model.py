"""The sessions of a node as its admin side sees them: plain rows, bounded."""

from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from server.sessions.session import Session
from server.sessions.ticks import TickClock

MAX_ROWS: Final = 1_000


def session_rows(
    sessions: Iterable[Session], node: str, ticks: TickClock, offset: int, limit: int
) -> list[dict[str, Any]]:
    """Rows `offset` to `offset + limit` (at most 1,000) of `sessions`, oldest first. Fields: `session, subject, role,
    state` (attached or detached), `node, address, client` (its own word for itself), `format, age_s, idle_s` (since
    it was last heard), `pushes` (so far), `outbox` (unacknowledged pushes), `outbox_bytes, subscriptions`."""
    first = max(0, offset)
    return [_row(session, node, ticks) for session in islice(sessions, first, first + min(MAX_ROWS, max(0, limit)))]


def _row(session: Session, node: str, ticks: TickClock) -> dict[str, Any]:
    return {
        "session": session.caller.session,
        "subject": session.caller.subject,
        "role": session.caller.role,
        "state": "detached" if session.connection is None else "attached",
        "node": node,
        "address": session.remote,
        "client": session.client,
        "format": session.format,
        "age_s": round((ticks.wall_ms() - session.since_ms) / 1000, 1),
        "idle_s": round(ticks.now() - session.heard_at, 1),
        "pushes": session.outbox.last,
        "outbox": len(session.outbox),
        "outbox_bytes": session.outbox.bytes,
        "subscriptions": len(session.topics or ()),
    }
