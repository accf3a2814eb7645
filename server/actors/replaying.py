"""How an application shows replays of its logged actors to clients."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from server.actors.actor import Caller


def _no_bound(_state: Any, _caller: Caller, _wall_ms: int) -> int | None:
    return None


class ReplayKind(msgspec.Struct, frozen=True):
    """Parts of a kind's replays, all of them pure. `scene(key, state, next_seq)` is the whole state before event
    `next_seq` as clients see it: whatever msgspec encodes. `names(event)` are the players that an event names; one that
    names nobody is for all. `public_until_ms(state, caller, wall_ms)` is the clock up to which that caller may see the
    log now, None for all that has happened; `state` is the newest one. Whether it may see it at all says
    `Actor.may_watch`."""

    scene: Callable[[str, Any, int], Any]
    names: Callable[[Any], Iterable[str]]
    public_until_ms: Callable[[Any, Caller, int], int | None] = _no_bound
