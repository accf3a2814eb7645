"""Golden conversations of those who watch a match and do not play in it. See `server/cli/conversations.py`."""

from typing import Final

from server.cli.conversation_lines import FILM, JOINED, OPENING, PRIVATE, STARTED, medal, report
from server.cli.conversation_steps import Step, conversation, happens, hears, says, tells, wants, watches

CREATED_PRIVATE: Final = ["created", 0, "referee", [*PRIVATE, "", False, 0], "$time.created", 1]
ALLOWED: Final = ["invited", 0, "", ["$player"]]
LATE: Final = [*FILM[:-1], 1_000]
"""Options of a match that its onlookers see a second late."""
CREATED_LATE: Final = ["created", 0, "referee", LATE, "$time.created", 1]
LEFT: Final = ["left", 0, "$player", "left"]
OF_ONLOOKERS: Final[tuple[Step, ...]] = (
    conversation(
        "watch_ended",
        "The host lets a player watch a private match, and later no more: the subscription is over.",
        happens("says", "$token_of_host", ["match.create", "$n", "film", 1, "m1", PRIVATE]),
        happens("says", "$token_of_host", ["match.allow", "$n", "film", 2, "m1", ["$player"], True]),
        *OPENING,
        watches("match/m1"),
        says("watch", "$id.watch", "match/m1", 1),
        hears("watching", "$id.watch", "match/m1", 3),
        hears("events", 1, "match/m1", 1, [CREATED_PRIVATE, ALLOWED], "$mark"),
        tells("event", "match/m1", 1, CREATED_PRIVATE),
        tells("event", "match/m1", 2, ALLOWED),
        happens("says", "$token_of_host", ["match.allow", "$n", "film", 3, "m1", ["$player"], False]),
        hears("watch_ended", 2, "match/m1", "forbidden"),
        tells("error", "match/m1", "forbidden"),
    ),
    conversation(
        "watching_late",
        "A match with a delay: an onlooker sees it late, all at once when it joins, and late again when it leaves.",
        happens("says", "$token_of_host", ["match.create", "$n", "film", 1, "m1", LATE]),
        *OPENING,
        watches("match/m1"),
        says("watch", "$id.watch", "match/m1", 1),
        hears("watching", "$id.watch", "match/m1", 1),
        hears("events", 1, "match/m1", 1, [CREATED_LATE], ""),
        tells("event", "match/m1", 1, CREATED_LATE),
        happens("says", "$token_of_host", ["match.start", "$n", "film", 2, "m1", 0]),
        wants("join", "match.join", "m1", None),
        says("match.join", "$id.join", "$lineage", 1, "m1", None),
        hears("match.assigned", 2, "m1"),
        tells("push", ["match.assigned", 2, "m1"]),
        hears("accepted", "$id.join", "m1", 3, 4),
        tells("answer", "join", ["accepted", "$id.join", "m1", 3, 4]),
        hears("events", 3, "match/m1", 2, [STARTED, JOINED], "$mark"),
        tells("event", "match/m1", 2, STARTED),
        tells("event", "match/m1", 3, JOINED),
        wants("leave", "match.leave", "m1"),
        says("match.leave", "$id.leave", "$lineage", 2, "m1"),
        hears("accepted", "$id.leave", "m1", 4, 5),
        tells("answer", "leave", ["accepted", "$id.leave", "m1", 4, 5]),
        report(3, medal(1)),
        hears("events", 4, "match/m1", 4, [LEFT, medal(1)], ""),
        tells("event", "match/m1", 4, LEFT),
        tells("event", "match/m1", 5, medal(1)),
    ),
)
