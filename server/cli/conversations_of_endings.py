"""Golden conversations of limits that a client meets, and of ends of its session. See `server/cli/conversations.py`."""

from typing import Final

from server.cli.conversation_lines import AGAIN_MS, OPENING, hello, welcome
from server.cli.conversation_steps import (
    Step,
    closed,
    connects,
    conversation,
    happens,
    hears,
    opens,
    parts,
    passes,
    says,
    tells,
    wants,
)

EXPIRED: Final = (
    opens(),
    connects("$n1"),
    hello("$id.hello", "$expired_token"),
    hears("error", "$id.hello", "token_expired", "$text.expired", None),
)
"""Lines in which a client hears that its token has expired."""
REFUSED: Final = (
    opens(),
    connects("$n1"),
    hello("$id.hello", "$forged_token"),
    hears("error", "$id.hello", "bad_token", "$text.refused", None),
    closed(4001, connection=1),
    connects("$n2", *AGAIN_MS),
)
"""Lines in which one node refuses a client's token, and the client tries the other."""

OF_ENDINGS: Final[tuple[Step, ...]] = (
    conversation(
        "rate_limited",
        "Too fast: the request that was refused is sent again, not before the server's hint.",
        *OPENING,
        *(
            step
            for number in (1, 2)
            for step in (
                wants(f"name_{number}", "profile.set", f"Noble {number}", ""),
                says("profile.set", f"$id.name_{number}", "$lineage", number, f"Noble {number}", ""),
            )
        ),
        hears("saved", "$id.name_1", "$entity", "$version"),
        tells("answer", "name_1", ["saved", "$id.name_1", "$entity", "$version"]),
        hears("error", "$id.name_2", "rate_limited", "$text.rate", 250),
        says("profile.set", "$id.name_3", "$lineage", 2, "Noble 2", "", after_ms=[250, 300]),
        settings={"gateway": {"rate_per_s": 4, "rate_burst": 1}},
    ),
    conversation(
        "token_renewed",
        "The token has expired and the program can make another.",
        *EXPIRED,
        closed(4002, connection=1),
        connects("$n1", *AGAIN_MS),
        hello("$id.again"),
        welcome("$id.again"),
        tells("up", False),
        tokens=("$expired_token", "$token"),
        renewable=True,
    ),
    conversation(
        "token_expired",
        "The token has expired and there is no other: the client stops.",
        *EXPIRED,
        tells("over", "token_expired", None),
        closed(4002),
        passes(60_000),
        tokens=("$expired_token",),
    ),
    conversation(
        "token_refused_by_one",
        "A node refuses the token. It may be the one that is wrong, so that the word is not final before another "
        "node has said it too.",
        *REFUSED,
        hello("$id.again", "$token_for_n2"),
        welcome("$id.again", node="n2", subject="$player_of_n2"),
        tells("up", False),
        nodes=("n1", "n2"),
        seeds=("$n1", "$n2"),
        tokens=("$forged_token", "$token_for_n2"),
        renewable=True,
    ),
    conversation(
        "token_refused",
        "Each node that the client knows refuses the token: it stops.",
        *REFUSED,
        hello("$id.again", "$forged_token"),
        hears("error", "$id.again", "bad_token", "$text.again", None),
        tells("over", "bad_token", None),
        closed(4001),
        passes(60_000),
        nodes=("n1", "n2"),
        seeds=("$n1", "$n2"),
        tokens=("$forged_token",),
    ),
    conversation(
        "replaced",
        "Another connection of the player takes its place: the client stops, and what waits fails.",
        *OPENING,
        happens("connects", "$token"),
        closed(4004),
        tells("over", "session_closed", 4004),
        passes(60_000),
    ),
    conversation(
        "dismissed",
        "The application ends the session with a code of its own: the client stops.",
        *OPENING,
        happens("ends", "$player", 4100),
        closed(4100),
        tells("over", "session_closed", 4100),
        passes(60_000),
    ),
    conversation(
        "unreadable",
        "A frame that is no message of the protocol, or a push out of its order: the client closes with 1002 and "
        "begins a new session, since a resumed one would only send it again.",
        *OPENING,
        hears("match.assigned", 2, "m1", fault=True),
        parts(1002),
        closed(1002),
        connects("$n1", *AGAIN_MS),
        hello("$id.again"),
        welcome("$id.again", session="$session_2", resume="$resume_2"),
        tells("up", False),
    ),
)
