"""Everything that a session watches. Streams travel with their cursors, latest topics by name; watched players do not:
a client watches them again where it comes to, and here they stay until the session has gone. Replays end before it
goes."""

from collections.abc import Sequence

from server.sessions.latest import LatestTopics
from server.sessions.presence import PresenceWatches
from server.sessions.replays import Replays
from server.sessions.session import Session
from server.sessions.streams import Streams
from server.sessions.transfer_frames import LATEST


class Subscriptions:
    """The streams, latest topics, watched players and replays of a node's sessions."""

    def __init__(self, streams: Streams, latest: LatestTopics, presence: PresenceWatches, replays: Replays) -> None:
        self._streams, self._latest, self._presence, self._replays = streams, latest, presence, replays

    def leave(self, session: Session) -> None:
        """End what does not go with a session to another node, and tell its client: before it is packed."""
        self._replays.leave(session)

    def withdraw(self, session: Session) -> list[tuple[str, int]]:
        """End the subscriptions of a session that goes to another node: topics, each with its next event, or `LATEST`
        for a latest one."""
        return [*self._streams.withdraw(session), *((name, LATEST) for name in self._latest.withdraw(session))]

    def restore(self, session: Session, topics: Sequence[tuple[str, int]]) -> None:
        """Begin the subscriptions of a session that came, or came back."""
        self._streams.restore(session, [(name, next_seq) for name, next_seq in topics if next_seq != LATEST])
        self._latest.restore(session, [name for name, next_seq in topics if next_seq == LATEST])
        self._presence.catch_up(session)

    def refill(self, session: Session) -> None:
        """The session's outbox has room again."""
        self._streams.refill(session)
        self._replays.refill(session)

    def catch_up(self, session: Session) -> None:
        """The session can be written to again."""
        self._latest.catch_up(session)
        self._presence.catch_up(session)
