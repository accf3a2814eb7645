"""Keyed hashes of people's keys, by which tombstones know them; the key is read once."""

from collections.abc import Callable
from hashlib import blake2b

from persistence.engine.rows import Database


class KeyedHashes:
    """See the module's head."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._key: bytes | None = None

    async def ready(self) -> Callable[[str], bytes]:
        """The hash function. Raises `Corrupt` where the key is gone, `Unavailable`."""
        if self._key is None:
            self._key = (await self._database.erasure_key()).to_bytes(8, "big")
        return self._hash

    def _hash(self, text: str) -> bytes:
        return blake2b(text.encode(), key=self._key or b"", digest_size=16).digest()
