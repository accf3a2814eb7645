"""Pictures that bots have of their friends, compared with the truth.

The truth about a bot is what the player's own actor answers (`presence.get`), and that its client is connected. While
bots play, it changes, and pictures follow a tick later: a picture that is wrong is looked at again until it is right,
or until the patience is over. Then it counts. There is less patience with "unknown" of somebody who is connected: that
is over within failover time and a tick.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from garrison import GarrisonError
from garrison.messages import PlayerPicture, Presence
from garrison_bots.circles import Circle

PATIENCE_S: Final = 10.0
KNOWN_S: Final = 5.0
"""Longest time for which a friend may be "unknown" who is connected and calm: the 4 s within which the server promises
it, a tick, and two looks of a busy machine."""
LOOK_AGAIN_S: Final = 0.25
LAST_LOOK_S: Final = 1.0
"""Time for a look that begins when the patience is over."""
AT_ONCE: Final = 16
"""Bots whose pictures are looked at at the same time."""
NAMED: Final = 20
"""Wrong pictures that are named."""
NOT_HERE: Final = ("offline", "unknown")


@dataclass(slots=True)
class Checked:
    """A comparison: how many pictures, how many were wrong to the end, or unknown for too long, and up to twenty of
    these by name. `unknown_s`: the longest time for which a friend who was connected was unknown."""

    compared: int = 0
    wrong: int = 0
    wrong_in: list[str] = field(default_factory=list)
    unknown_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {
            "compared": self.compared,
            "wrong": self.wrong,
            "wrong_in": self.wrong_in,
            "unknown_s": round(self.unknown_s, 2),
        }


class Unknown:
    """The friends of a bot who are connected and "unknown" to it, and since when."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.too_long: dict[str, str] = {}
        """Friends who were so for longer than `KNOWN_S`, and how to say that."""
        self._since: dict[str, float] = {}

    def note(self, friend: str, unknown: bool, now: float) -> None:
        """Take in a look at the picture of a friend."""
        if not unknown:
            self._since.pop(friend, None)
            return
        lasted_s = now - self._since.setdefault(friend, now)
        self.longest_s = max(self.longest_s, lasted_s)
        if lasted_s > KNOWN_S:
            self.too_long[friend] = f"'unknown' for more than {KNOWN_S:.0f} s, and it is connected"


def fault(seen: PlayerPicture | None, truth: Presence, here: bool) -> str:
    """Tell why a picture is wrong, empty if it is right. `here`: the player's own client is connected, so that nobody
    may say that it is offline, or that it is not known."""
    if seen is None:
        return "there is no picture"
    if here and seen.status in NOT_HERE:
        return f"{seen.status!r}, and it is connected"
    if seen.status == "unknown":
        return "'unknown' for all this time"
    for name in ("status", "activity", "match", "rich"):
        mine, its = getattr(seen, name), getattr(truth, name)
        if mine != its:
            return f"{name} {mine!r}, and it is {its!r}"
    if seen.status == "offline" and seen.last_seen_ms != truth.last_seen_ms:
        return f"last seen at {seen.last_seen_ms}, and it was at {truth.last_seen_ms}"
    return ""


async def check(circles: Mapping[str, Circle], patience_s: float = PATIENCE_S) -> Checked:
    """Compare the pictures of all bots with the truth, for as long as one of them is wrong and there is patience."""
    found, gate = Checked(), asyncio.Semaphore(AT_ONCE)
    until_s = asyncio.get_running_loop().time() + patience_s

    async def settle(circle: Circle) -> None:
        unknown = Unknown()
        compared, wrong = await _settled(circle, circles, gate, until_s, unknown)
        found.compared += compared
        found.wrong += len(wrong)
        found.wrong_in += [f"{circle.name} of {friend}: {why}" for friend, why in wrong.items()]
        found.unknown_s = max(found.unknown_s, unknown.longest_s)

    await asyncio.gather(*(settle(circle) for circle in list(circles.values())))
    del found.wrong_in[NAMED:]
    return found


async def _settled(
    circle: Circle, circles: Mapping[str, Circle], gate: asyncio.Semaphore, until_s: float, unknown: Unknown
) -> tuple[int, dict[str, str]]:
    """Look at a bot's pictures until each was right once, or the time is over: their number, and the wrong ones."""
    right: set[str] = set()
    while True:
        async with gate:
            wrong = await _look(circle, circles, right, until_s, unknown)
        if not wrong or asyncio.get_running_loop().time() >= until_s:
            wrong = {**wrong, **unknown.too_long}
            return len(right | wrong.keys()), wrong
        await asyncio.sleep(LOOK_AGAIN_S)


async def _look(
    circle: Circle, circles: Mapping[str, Circle], right: set[str], until_s: float, unknown: Unknown
) -> dict[str, str]:
    """Compare the pictures that are not in `right` yet, and add those to it that are; the others, and why."""
    wrong: dict[str, str] = {}
    try:
        async with asyncio.timeout_at(max(until_s, asyncio.get_running_loop().time() + LAST_LOOK_S)):
            friends = {entry.player async for entry in circle.client.friends.list("friend")}
            wrong |= dict.fromkeys(sorted(circle.pictures.keys() - friends), "watched, and no friend")
            for friend in sorted(friends - right):
                truth = await circle.client.get_presence(friend)
                other = circles.get(friend)
                here = other is not None and other.client.connected
                seen = circle.pictures.get(friend)
                is_unknown = here and seen is not None and seen.status == "unknown"
                unknown.note(friend, is_unknown, asyncio.get_running_loop().time())
                if why := fault(seen, truth, here):
                    wrong[friend] = why
                else:
                    right.add(friend)
    except (GarrisonError, TimeoutError) as error:
        wrong["its friends"] = f"{type(error).__name__}: {error}"
    return wrong
