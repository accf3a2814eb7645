"""Everything that a session watches, as it travels: streams with their cursors, latest topics by name."""

from collections.abc import Sequence

from server.sessions.latest import LatestTopics
from server.sessions.session import Session
from server.sessions.streams import Streams
from server.sessions.transfer_frames import LATEST


class Subscriptions:
    """The streams and latest topics of a node's sessions."""

    def __init__(self, streams: Streams, latest: LatestTopics) -> None:
        self._streams, self._latest = streams, latest

    def withdraw(self, session: Session) -> list[tuple[str, int]]:
        """End the subscriptions of a session that goes to another node: topics, each with its next event, or `LATEST`
        for a latest one."""
        return [*self._streams.withdraw(session), *((name, LATEST) for name in self._latest.withdraw(session))]

    def restore(self, session: Session, topics: Sequence[tuple[str, int]]) -> None:
        """Begin the subscriptions of a session that came, or came back."""
        self._streams.restore(session, [(name, next_seq) for name, next_seq in topics if next_seq != LATEST])
        self._latest.restore(session, [name for name, next_seq in topics if next_seq == LATEST])
