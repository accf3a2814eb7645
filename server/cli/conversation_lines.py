"""Lines that many golden conversations have. See `server/cli/conversations.py`."""

from typing import Any, Final

from server.cli.conversation_steps import Step, connects, happens, hears, opens, says, tells, wants, watches

Line = list[Any]


def hello(
    number: str,
    token: str = "$token",
    resume: str | None = None,
    ack: int = 0,
    *latest: Line,
    presence: str | None = None,
) -> Step:
    """The client's first line. `latest`: the pictures that it has; `presence`: its cursor of watched players."""
    return says("hello", number, token, resume, ack, "$client", True, list(latest), *([presence] if presence else []))


def welcome(
    number: str,
    *,
    node: str = "n1",
    subject: str = "$player",
    role: str = "player",
    session: str = "$session",
    resume: str = "$resume",
    recovered: bool = False,
    presence: bool = False,
) -> Step:
    """The server's answer to it."""
    name = number.removeprefix("$id.")
    limits = ["$interval", "$window", "$frame_bytes", f"$time.{name}", f"$time.token_{name}"]
    rest = [*limits, True] if presence else limits
    return hears("welcome", number, session, node, subject, role, resume, recovered, *rest)


OPENING: Final = (opens(), connects("$n1"), hello("$id.hello"), welcome("$id.hello"), tells("up", False))
AGAIN_MS: Final = (0, 100)
"""The pause before a reconnect after a connection that did not live for long."""
FILM: Final = ["recorded", "", 0, 0, 0, 0, True, 0, False, False, False, False, "", False, 0]
"""Options of a match that takes everything and has no clock of its own."""
SCORED: Final = ["recorded", "", 2, 0, 0, 0, True, 0, False, False, False, False, "", False, 0]
"""The same with teams, which have points without players."""
PRIVATE: Final = ["recorded", "", 0, 0, 0, 0, True, 0, False, True, False, False]
"""Options of a match into which only some may come."""
CREATED: Final = ["created", 0, "referee", FILM, "$time.created", 1]
JOINED: Final = ["joined", 0, "$player", None, "$place"]
STARTED: Final = ["started", 0, "$time.started"]
MATCH: Final = (
    happens("says", "$token_of_host", ["match.create", "$n", "film", 1, "m1", FILM]),
    *OPENING,
    wants("join", "match.join", "m1", None),
    says("match.join", "$id.join", "$lineage", 1, "m1", None),
    hears("match.assigned", 1, "m1"),
    tells("push", ["match.assigned", 1, "m1"]),
    hears("accepted", "$id.join", "m1", 2, 3),
    tells("answer", "join", ["accepted", "$id.join", "m1", 2, 3]),
    happens("says", "$token_of_host", ["match.start", "$n", "film", 2, "m1", 0]),
    watches("match/m1"),
    says("watch", "$id.watch", "match/m1", 1),
    hears("watching", "$id.watch", "match/m1", 4),
    hears("events", 2, "match/m1", 1, [CREATED, JOINED, STARTED], "$mark"),
    tells("event", "match/m1", 1, CREATED),
    tells("event", "match/m1", 2, JOINED),
    tells("event", "match/m1", 3, STARTED),
)
"""The player is in match m1 and watches it."""
BOARD: Final = [
    *("scoreboard", "$id.board", "m1", "live", "recorded", "", "referee", 1),
    *([], [["$player", None, True, 0, 0, 0, 1, 0, 0]], 5, None, None, None, 1, 1, False, 1, 0, [], 0, [], []),
]
"""The match after its first medal."""
RICH: Final = ["Slayer", "Recharge", "24-19", 2, 4, "m1", [["clan", "red"]]]
TWO_OF_ONE_NAME: Final = ["", "", "", 0, 0, "", [["clan", "red"], ["clan", "blue"]]]
"""Rich presence as it may be, and as it may not."""


def medal(number: int) -> Line:
    """An event of the match."""
    return ["medal", number, "$player", "Double Kill"]


def report(command: int, *events: Line) -> Step:
    """The match's host reports."""
    return happens("says", "$token_of_host", ["match.report", "$n", "film", command, "m1", list(events)])
