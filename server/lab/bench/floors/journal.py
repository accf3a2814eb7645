"""Floor of `journal`: a state is encoded, its checksum taken, and its bytes copied."""

from collections.abc import Sequence
from typing import Any

import msgspec
from xxhash import xxh3_64_intdigest

encode = msgspec.msgpack.Encoder().encode


def run(memory: memoryview, changes: Sequence[tuple[Any, msgspec.Struct]]) -> int:
    """Copy each change to the begin of `memory`; returns the sum of the checksums."""
    total = 0
    for _, state in changes:
        data = encode(state)
        memory[: len(data)] = data
        total += xxh3_64_intdigest(data)
    return total
