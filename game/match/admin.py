"""Actions of operators on the log of a match: to keep it for good, or no more."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec

from game.fields import Key
from game.match.face import MatchFace
from server.actors.app import Action, AdminContext
from server.errors import NotFound


class PinOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `pin` and `unpin`."""

    match: Key


def _pin(pinned: bool) -> Callable[[AdminContext, Any], Awaitable[Any]]:
    async def run(context: AdminContext, body: Any) -> Any:
        if not await context.pin_log(MatchFace, body.match, pinned):
            raise NotFound(f"no match {body.match}")
        return {"match": body.match, "pinned": pinned}

    return run


MATCH_ACTIONS: Final[Mapping[str, Action]] = {
    "pin": Action(_pin(True), PinOrder),
    "unpin": Action(_pin(False), PinOrder),
}
