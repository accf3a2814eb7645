"""A push for many sessions: encoded once for each subprotocol that asks for it."""

import msgspec

from server.wire.codec import Format, PushTemplate
from server.wire.messages import Events, Push


class Broadcast:
    """Renders a push with each receiver's own sequence number."""

    __slots__ = ("_json", "_msgpack", "push")

    def __init__(self, push: Push) -> None:
        self.push = push
        self._msgpack: PushTemplate | None = None
        self._json: PushTemplate | None = None

    def render(self, format: Format, seq: int) -> bytes:
        """The frame in `format` with number `seq`."""
        if format == "msgpack":
            if self._msgpack is None:
                self._msgpack = PushTemplate(self.push, "msgpack")
            return self._msgpack.render(seq)
        if self._json is None:
            self._json = PushTemplate(_for_people(self.push), "json")
        return self._json.render(seq)


def _for_people(push: Push) -> Push:
    """Events are carried as msgpack bytes; in a JSON frame they must be JSON."""
    if not isinstance(push, Events):
        return push
    events = [msgspec.Raw(msgspec.json.encode(msgspec.msgpack.decode(event))) for event in push.events]
    return Events(0, push.topic, push.first_seq, events, push.mark)
