"""Floor of `view-change`: what a change of the view costs a node that does nothing more than it must.

The scores of whoever is new for all slots, or of all the others for the slots of whoever is gone, in
one numpy expression; what has to be known elsewhere encoded, decoded and put into a dictionary; and
one tiny message and its answer for everybody who has to be asked.
"""

import time
from collections.abc import Sequence

import msgspec
import numpy as np

SLOTS = 65_536


def run(draws: int, slots: int, moved: Sequence[str], messages: int) -> float:
    """CPU seconds: `draws` scores for each of `slots`, `moved` ids, `messages` of three numbers."""
    begin = time.process_time()
    numbers = np.arange(slots, dtype=np.uint64)
    best = np.zeros(slots, dtype=np.uint64)
    for draw in range(draws):
        np.maximum(best, (numbers ^ np.uint64(draw)) * np.uint64(0x9E3779B97F4A7C15), out=best)
    known: dict[str, int] = {}
    if moved:
        known.update(dict.fromkeys(msgspec.msgpack.decode(msgspec.msgpack.encode(moved)), 1))
    for number in range(2 * messages):
        msgspec.msgpack.decode(msgspec.msgpack.encode((number, 1, 2)))
    return time.process_time() - begin
