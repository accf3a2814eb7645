"""What the admin side sees of this node's sessions: plain rows, bounded."""

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from server.sessions.gateway import Gateway
    from server.sessions.session import Session

MAX_ROWS: Final = 1_000


def session_rows(gateway: "Gateway", offset: int, limit: int, subject: str) -> list[dict[str, Any]]:
    """Rows `offset` to `offset + limit` (at most 1,000) of this node's sessions, oldest first,
    only those of `subject` unless it is empty. Fields: `session, subject, role, state` (attached
    or detached), `node, address, format, age_s, idle_s` (since it was last heard), `pushes` (so
    far), `outbox` (unacknowledged pushes), `outbox_bytes, subscriptions`."""
    chosen = (one for one in gateway.sessions.values() if subject in ("", one.caller.subject))
    first = max(0, offset)
    return [_row(gateway, session) for session in islice(chosen, first, first + min(MAX_ROWS, max(0, limit)))]


def _row(gateway: "Gateway", session: "Session") -> dict[str, Any]:
    return {
        "session": session.caller.session,
        "subject": session.caller.subject,
        "role": session.caller.role,
        "state": "detached" if session.connection is None else "attached",
        "node": str(gateway.host.me.node),
        "address": session.remote,
        "format": session.format,
        "age_s": round((gateway.clock.wall_ms() - session.since_ms) / 1000, 1),
        "idle_s": round(gateway.now() - session.heard_at, 1),
        "pushes": session.outbox.last,
        "outbox": len(session.outbox),
        "outbox_bytes": session.outbox.bytes,
        "subscriptions": len(session.topics or ()),
    }
