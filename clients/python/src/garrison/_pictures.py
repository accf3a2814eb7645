"""Latest topics that the program watches: pictures, of which only the newest values matter.

A picture is a value by key. The server sends it whole at first, then the keys that have changed. It has a cursor, by
which a resumed session goes on from the picture that the client has; a new session sends it whole again. Pure.
"""

from typing import Any

from garrison._base import Reply, Request
from garrison._subscriptions import Subscription, Subscriptions
from garrison.errors import BadFrame
from garrison.messages import Latest, LatestItem, Seen, Snapshot, WatchLatest


class Picture(Subscription):
    """A latest topic: its newest values, and a revision that rises with each change. A picture that comes whole after
    a reconnection, and is the one that the program has, is no change. Changed by `Pictures` only."""

    __slots__ = ("cursor", "revision", "values")

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.values: dict[str, Any] = {}
        self.cursor = ""
        """The server's name for this picture; empty before the first."""
        self.revision = 0

    def request(self) -> Request[Any]:
        return WatchLatest(self.topic)

    def answered(self, reply: Reply) -> bool:
        if isinstance(reply, Snapshot):
            self.take_in(reply.cursor, True, reply.items)
        return True

    def drop(self) -> None:
        self.values = {}

    def take_in(self, cursor: str, whole: bool, items: list[LatestItem]) -> None:
        """Take in new values; None: the key is gone. `whole`: keys that are not named are gone too. Raises
        `BadFrame`, with nothing taken in, for a key that is none."""
        if any(type(item.key) is not str for item in items):
            raise BadFrame(f"{self.topic}: a key is a string")
        values = {} if whole else dict(self.values)
        for item in items:
            if item.value is None:
                values.pop(item.key, None)
            else:
                values[item.key] = item.value
        if not self.revision or values != self.values:
            self.revision += 1
        self.values, self.cursor = values, cursor


class Pictures:
    """The latest topics among a client's subscriptions."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self._subscriptions = subscriptions

    def watch(self, topic: str, now: float) -> Picture:
        """Subscribe. Raises `BadInput` for what cannot be sent, `ValueError` for a topic that is watched."""
        picture = Picture(topic)
        self._subscriptions.add(picture, now)
        return picture

    def seen(self) -> list[Seen]:
        """The pictures to go on from in a resumed session. One that is asked for comes whole."""
        return [
            Seen(each.topic, each.cursor)
            for each in self._subscriptions
            if isinstance(each, Picture) and each.phase == "live"
        ]

    def on_latest(self, latest: Latest) -> None:
        """Take changes in, or leave the topic if nobody wants it. Changes to a picture that is still asked for are
        of one that the client does not have. Raises `BadFrame`."""
        picture = self._subscriptions.wanted(latest.topic)
        if isinstance(picture, Picture) and (latest.whole or picture.phase == "live"):
            picture.take_in(latest.cursor, latest.whole, latest.items)
            self._subscriptions.stir(picture)
