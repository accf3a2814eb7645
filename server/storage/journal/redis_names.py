"""Names of a journal in Redis: its `place` and its keys."""

import msgspec

from server.ids import NodeAddress


class RedisPlace(msgspec.Struct, frozen=True):
    """A parsed `place`: which Redis (a random name in it), which process (a random name, and after a dot the UUID of
    its database), and the address of the Redis."""

    server: str
    run: str
    address: str

    @property
    def database(self) -> str:
        """The UUID of the database; empty in a place of an earlier version."""
        return self.run.partition(".")[2]

    def __str__(self) -> str:
        return f"redis:{self.server}:{self.run}:{self.address}"


def parse_place(text: str) -> RedisPlace | None:
    """The place in `text`; None for the words of another driver."""
    driver, *rest = text.split(":", 3)
    return RedisPlace(*rest) if driver == "redis" and len(rest) == 3 else None


class RedisKeys(msgspec.Struct, frozen=True):
    """The keys of one cluster: see the head of `redis.py`."""

    cluster: str

    @property
    def name(self) -> str:
        return f"garrison:{self.cluster}:journals"

    def stream(self, owner: NodeAddress, place: RedisPlace) -> str:
        return f"garrison:{self.cluster}:journal:{owner.node}:{owner.incarnation}:{place.run}"

    def alive(self, owner: NodeAddress, place: RedisPlace) -> str:
        return f"garrison:{self.cluster}:journal-alive:{owner.node}:{owner.incarnation}:{place.run}"

    def unopened(self, place: RedisPlace) -> str:
        return f"garrison:{self.cluster}:journal-unopened:{place.run}"

    def removed(self, owner: NodeAddress, place: RedisPlace) -> str:
        return f"garrison:{self.cluster}:journal-removed:{owner.node}:{owner.incarnation}:{place.run}"
