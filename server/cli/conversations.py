"""Golden conversations: scripts that a client of any language and a node can both be held to.

They are part of `docs/protocol.json`; `docs/protocol.md` describes their steps. A player for clients gives a client
its part of the world (the server's lines, the time, the program's wishes) and compares what it says and decides;
a player for nodes says the client's lines to a node and compares the node's. Names that begin with `$` are values
that one of the two chooses, or that the world of a play gives; each has an example for the player that has to
make it up.
"""

from typing import Any, Final

from server.cli.conversation_steps import (
    Step,
    breaks,
    closed,
    connects,
    conversation,
    drops,
    happens,
    hears,
    leaves,
    leaves_players,
    opens,
    parts,
    passes,
    says,
    tells,
    wants,
    watches,
    watches_latest,
    watches_players,
)

Line = list[Any]

# ---- frequent lines --------------------------------------------------------------------------------


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


# ---- the conversations -----------------------------------------------------------------------------

CONVERSATIONS: Final[tuple[Step, ...]] = (
    conversation(
        "first_connect",
        "Hello and welcome, a request and its answer, a heartbeat without an id, and the end.",
        *OPENING,
        wants("look", "presence.get", "$player"),
        says("presence.get", "$id.look", "$player"),
        hears("presence", "$id.look", "$player", "online", "", None, "$time.seen", None),
        tells("answer", "look", ["presence", "$id.look", "$player", "online", "", None, "$time.seen", None]),
        says("heartbeat", 0, 0, None, after_ms=[500, 4_500]),
        hears("beats", 1),
        {"program": "close"},
        says("close", "$id.close"),
        parts(1000),
        tells("over", "session_closed", None),
        passes(60_000),
        settings={"gateway": {"cumulative_ack_interval_s": 0.05}},
    ),
    conversation(
        "seeds",
        "Nobody is at the first address: the next one is tried.",
        opens(),
        connects("$n1", fails=True),
        connects("$n2", 0, 50),
        hello("$id.hello", "$token_for_n2"),
        welcome("$id.hello", node="n2", subject="$player_of_n2"),
        tells("up", False),
        nodes=("n1", "n2"),
        seeds=("$n1", "$n2"),
        tokens=("$token_for_n2",),
    ),
    conversation(
        "heartbeats",
        "A heartbeat an interval. After an interval of silence it has an id, and after three the client leaves.",
        *OPENING,
        says("heartbeat", 0, 0, None, after_ms=[500, 4_500]),
        passes(10),
        hears("beats", 1),
        says("heartbeat", 0, 0, None, after_ms=[4_980, 5_000]),
        says("heartbeat", "$id.beat", 0, None, after_ms=[5_000, 5_000]),
        hears("beat", "$id.beat", lost=True),
        says("heartbeat", "$id.beat_2", 0, None, after_ms=[5_000, 5_000]),
        hears("beat", "$id.beat_2", lost=True),
        drops(5_000, 5_000),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", resume="$resume"),
        welcome("$id.again", resume="$resume_2", recovered=True),
        tells("up", True),
        settings={"gateway": {"cumulative_ack_interval_s": 0.05}},
    ),
    conversation(
        "redirect",
        "A player's session belongs on another node: the same hello is said there.",
        opens(),
        connects("$n1"),
        hello("$id.hello", "$token_for_n2"),
        hears("redirect", "$id.hello", "$n2", "n2"),
        connects("$n2"),
        hello("$id.hello", "$token_for_n2"),
        closed(4005, connection=1),
        welcome("$id.hello", node="n2", subject="$player_of_n2"),
        tells("up", False),
        nodes=("n1", "n2"),
        tokens=("$token_for_n2",),
    ),
    conversation(
        "redirect_loop",
        "While the cluster changes, two nodes may send a client back and forth: it follows five times, waits, and "
        "begins again with an address of its own.",
        happens("disagree", "n1", "n2"),
        opens(),
        *(
            step
            for here, there, node in (("$n1", "$n2", "n2"), ("$n2", "$n1", "n1")) * 3
            for step in (
                connects(here),
                hello("$id.hello"),
                hears("redirect", "$id.hello", there, node),
            )
        ),
        *(closed(4005, connection=number) for number in range(1, 7)),
        happens("agree", "n1", "n2"),
        connects("$n1", *AGAIN_MS),
        hello("$id.again"),
        welcome("$id.again"),
        tells("up", False),
        nodes=("n1", "n2"),
    ),
    conversation(
        "resume",
        "A connection breaks and the session is resumed: everything that was missed follows, in order.",
        *MATCH,
        breaks(),
        report(3, medal(1)),
        report(4, medal(2), medal(3)),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", resume="$resume", ack=2),
        welcome("$id.again", resume="$resume_2", recovered=True),
        tells("up", True),
        hears("events", 3, "match/m1", 4, [medal(1)], "$mark_2"),
        tells("event", "match/m1", 4, medal(1)),
        hears("events", 4, "match/m1", 5, [medal(2), medal(3)], "$mark_3"),
        tells("event", "match/m1", 5, medal(2)),
        tells("event", "match/m1", 6, medal(3)),
        says("heartbeat", 0, 4, None, after_ms=[500, 4_500]),
    ),
    conversation(
        "resume_not_recovered",
        "The session is over when its client comes back: pushes count from 1 again, streams are watched again from "
        "the cursor, and the program reads again what it shows.",
        *MATCH,
        breaks(),
        report(3, medal(1)),
        happens("forgotten", "$player"),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", resume="$resume", ack=2),
        welcome("$id.again", session="$session_2", resume="$resume_2"),
        tells("up", False),
        says("watch", "$id.watch_2", "match/m1", 4, 3, "$mark"),
        wants("board", "match.get", "m1"),
        says("match.get", "$id.board", "m1"),
        hears("watching", "$id.watch_2", "match/m1", 5),
        hears(*BOARD),
        tells("answer", "board", BOARD),
        hears("events", 1, "match/m1", 4, [medal(1)], "$mark_2"),
        tells("event", "match/m1", 4, medal(1)),
        settings={"gateway": {"resume_window_s": 0.05}},
    ),
    conversation(
        "presence_again",
        "Rich presence lives as long as the session. In a new one the client says the newest again, which nobody else "
        "knows any more.",
        *OPENING,
        wants("busy", "presence.set", "busy", "Slayer on Recharge"),
        says("presence.set", "$id.busy", "busy", "Slayer on Recharge"),
        hears("saved", "$id.busy", "$entity", "$version"),
        tells("answer", "busy", ["saved", "$id.busy", "$entity", "$version"]),
        breaks(),
        happens("forgotten", "$player"),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", resume="$resume"),
        welcome("$id.again", session="$session_2", resume="$resume_2"),
        tells("up", False),
        says("presence.set", "$id.busy_again", "busy", "Slayer on Recharge"),
        hears("saved", "$id.busy_again", "$entity", "$version_2"),
        wants("look", "presence.get", "$player"),
        says("presence.get", "$id.look", "$player"),
        hears("presence", "$id.look", "$player", "busy", "Slayer on Recharge", None, "$time.seen", None),
        tells(
            "answer",
            "look",
            ["presence", "$id.look", "$player", "busy", "Slayer on Recharge", None, "$time.seen", None],
        ),
        settings={"gateway": {"resume_window_s": 0.05}},
    ),
    conversation(
        "rich_presence",
        "Rich presence in parts. What is more than others are shown is refused, and nothing is changed by it. A new "
        "session says the parts again too.",
        *OPENING,
        wants("playing", "presence.set", "online", "On Recharge", RICH),
        says("presence.set", "$id.playing", "online", "On Recharge", RICH),
        hears("saved", "$id.playing", "$entity", "$version"),
        tells("answer", "playing", ["saved", "$id.playing", "$entity", "$version"]),
        wants("wrong", "presence.set", "busy", "", TWO_OF_ONE_NAME),
        says("presence.set", "$id.wrong", "busy", "", TWO_OF_ONE_NAME),
        hears("error", "$id.wrong", "bad_presence", "$text.fields", None),
        tells("error", "wrong", "bad_presence"),
        wants("playing_on", "presence.set", "online", "On Recharge", RICH),
        says("presence.set", "$id.playing_on", "online", "On Recharge", RICH),
        hears("saved", "$id.playing_on", "$entity", "$version"),
        tells("answer", "playing_on", ["saved", "$id.playing_on", "$entity", "$version"]),
        breaks(),
        happens("forgotten", "$player"),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", resume="$resume"),
        welcome("$id.again", session="$session_2", resume="$resume_2"),
        tells("up", False),
        says("presence.set", "$id.said_again", "online", "On Recharge", RICH),
        hears("saved", "$id.said_again", "$entity", "$version_2"),
        wants("look", "presence.get", "$player"),
        says("presence.get", "$id.look", "$player"),
        hears("presence", "$id.look", "$player", "online", "On Recharge", None, "$time.seen", RICH),
        tells("answer", "look", ["presence", "$id.look", "$player", "online", "On Recharge", None, "$time.seen", RICH]),
        settings={"gateway": {"resume_window_s": 0.05}},
    ),
    conversation(
        "going",
        "A node drains. The client waits for the answer to its request, sends nothing new, closes, and resumes where "
        "it is told, where what waited is sent. A `going` that comes again asks for nothing.",
        *OPENING,
        wants("look", "presence.get", "$player"),
        says("presence.get", "$id.look", "$player"),
        happens("drains", "n1"),
        hears("going", 1, "$n2", "$within"),
        wants("name", "profile.set", "Noble Six", ""),
        hears("presence", "$id.look", "$player", "online", "", None, "$time.seen", None),
        tells("answer", "look", ["presence", "$id.look", "$player", "online", "", None, "$time.seen", None]),
        parts(1001, 0, 100),
        closed(1001),
        connects("$n2", *AGAIN_MS),
        hello("$id.again", resume="$resume", ack=1),
        welcome("$id.again", node="n2", resume="$resume_2", recovered=True),
        tells("up", True),
        says("profile.set", "$id.name", "$lineage", 1, "Noble Six", ""),
        hears("going", 1, "$n2", "$within", fault=True),
        hears("saved", "$id.name", "$entity", "$version"),
        tells("answer", "name", ["saved", "$id.name", "$entity", "$version"]),
        nodes=("n1", "n2"),
    ),
    conversation(
        "retry_by_number",
        "The connection breaks before a command is answered: the same command, under another id, gets the answer "
        "that was lost. A request that is no command fails instead.",
        *OPENING,
        wants("name", "profile.set", "Noble Six", "wolf"),
        says("profile.set", "$id.name", "$lineage", 1, "Noble Six", "wolf"),
        hears("saved", "$id.name", "$entity", "$version", lost=True),
        wants("look", "presence.get", "$player"),
        says("presence.get", "$id.look", "$player"),
        hears("presence", "$id.look", "$player", "online", "", None, "$time.seen", None, lost=True),
        breaks(),
        tells("error", "look", "connection_lost"),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", resume="$resume"),
        welcome("$id.again", resume="$resume_2", recovered=True),
        tells("up", True),
        says("profile.set", "$id.name_2", "$lineage", 1, "Noble Six", "wolf"),
        hears("saved", "$id.name_2", "$entity", "$version"),
        tells("answer", "name", ["saved", "$id.name_2", "$entity", "$version"]),
    ),
    conversation(
        "outcome_unknown",
        "A command is so old that its answer is forgotten: its outcome stays unknown, and it is not sent again.",
        happens("says", "$token_of_host", ["match.create", "$n", "film", 1, "m1", SCORED]),
        happens("says", "$token_of_host", ["match.start", "$n", "film", 2, "m1", 0]),
        opens(),
        connects("$n1"),
        hello("$id.hello", "$token_of_host"),
        welcome("$id.hello", subject="referee", role="host"),
        tells("up", False),
        wants("score", "match.report", "m1", [["score", 0, 1, 0, None]]),
        says("match.report", "$id.score", "$lineage", 1, "m1", [["score", 0, 1, 0, None]]),
        hears("accepted", "$id.score", "m1", 3, 4, lost=True),
        breaks(),
        happens("says", "$token_of_host", ["match.report", "$n", "$lineage", 2, "m1", [["score", 0, 1, 0, None]]], 64),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", "$token_of_host", "$resume"),
        welcome("$id.again", subject="referee", role="host", resume="$resume_2", recovered=True),
        tells("up", True),
        says("match.report", "$id.score_2", "$lineage", 1, "m1", [["score", 0, 1, 0, None]]),
        hears("error", "$id.score_2", "outcome_unknown", "$text.unknown", None),
        tells("error", "score", "outcome_unknown"),
        passes(400),
        tokens=("$token_of_host",),
    ),
    conversation(
        "gap",
        "An event of a stream is missing: the stream is asked for again from the event that is expected. Events that "
        "come twice are told once.",
        *MATCH,
        report(3, medal(1)),
        report(4, medal(2)),
        hears("events", 3, "match/m1", 4, [medal(1)], "$mark_2", lost=True),
        hears("events", 4, "match/m1", 5, [medal(2)], "$mark_3", lost=True),
        hears("events", 3, "match/m1", 5, [medal(2)], "$mark_3", fault=True),
        says("watch", "$id.watch_2", "match/m1", 4, 3, "$mark"),
        hears("watching", "$id.watch_2", "match/m1", 6),
        hears("events", 4, "match/m1", 3, [STARTED, medal(1)], "$mark_2", fault=True),
        tells("event", "match/m1", 4, medal(1)),
        hears("events", 5, "match/m1", 4, [medal(1), medal(2)], "$mark_3"),
        tells("event", "match/m1", 5, medal(2)),
    ),
    conversation(
        "unwatch",
        "The program leaves a stream. Where the server sends it still, it is told once more.",
        *MATCH,
        leaves("match/m1"),
        says("unwatch", "$id.leave", "match/m1"),
        hears("done", "$id.leave"),
        hears("events", 3, "match/m1", 4, [medal(1)], "$mark_2", fault=True),
        says("unwatch", "$id.leave_2", "match/m1"),
        hears("done", "$id.leave_2"),
    ),
    conversation(
        "watched_players",
        "Players are watched: how each is, then what changes. A resumed session goes on from the cursor that the "
        "client has; a new one is asked again, with the version that it has, which is left out where it is still so.",
        happens("shows", "$noble", "in the lobby"),
        *OPENING,
        watches_players("$noble"),
        says("presence.watch", "$id.watch", ["$noble"], False, []),
        hears("presence.changes", "$cursor", [["$noble", "$seen", "in the lobby"]]),
        tells("players", [["$noble", "in the lobby"]]),
        hears("presence.watched", "$id.watch", "$cursor", 1, []),
        happens("shows", "$noble", "in a match"),
        hears("presence.changes", "$cursor_2", [["$noble", "$seen_2", "in a match"]]),
        tells("players", [["$noble", "in a match"]]),
        breaks(),
        happens("shows", "$noble", "back"),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", "$token", "$resume", presence="$cursor_2"),
        welcome("$id.again", resume="$resume_2", recovered=True, presence=True),
        tells("up", True),
        hears("presence.changes", "$cursor_3", [["$noble", "$seen_3", "back"]]),
        tells("players", [["$noble", "back"]]),
        breaks(),
        happens("forgotten", "$player"),
        connects("$n1", 0, 200),
        hello("$id.anew", "$token", "$resume_2", presence="$cursor_3"),
        welcome("$id.anew", session="$session_2", resume="$resume_3"),
        tells("up", False),
        says("presence.watch", "$id.watch_2", ["$noble"], False, [["$noble", "$seen_3"]]),
        hears("presence.watched", "$id.watch_2", "$cursor_4", 1, []),
        leaves_players("$noble"),
        says("presence.unwatch", "$id.leave", ["$noble"], False),
        hears("presence.changes", "$cursor_5", [["$noble", 0, None]]),
        hears("done", "$id.leave"),
        settings={"gateway": {"resume_window_s": 0.05, "latest_tick_ms": 20}},
    ),
    conversation(
        "latest",
        "A latest topic: its picture, then the keys that have changed. A resumed session goes on from the picture that "
        "the client has, a new one sends it whole.",
        happens("sets", "$latest", "a", "red"),
        *OPENING,
        watches_latest("$latest"),
        says("watch_latest", "$id.watch", "$latest"),
        hears("snapshot", "$id.watch", "$latest", "$cursor", [["a", "red"]]),
        tells("picture", "$latest", {"a": "red"}),
        happens("sets", "$latest", "b", "blue"),
        hears("latest", "$latest", "$cursor_2", False, [["b", "blue"]]),
        tells("picture", "$latest", {"a": "red", "b": "blue"}),
        breaks(),
        happens("sets", "$latest", "a", None),
        connects("$n1", *AGAIN_MS),
        hello("$id.again", "$token", "$resume", 0, ["$latest", "$cursor_2"]),
        welcome("$id.again", resume="$resume_2", recovered=True),
        tells("up", True),
        hears("latest", "$latest", "$cursor_3", False, [["a", None]]),
        tells("picture", "$latest", {"b": "blue"}),
        breaks(),
        happens("forgotten", "$player"),
        connects("$n1", 0, 200),
        hello("$id.anew", "$token", "$resume_2", 0, ["$latest", "$cursor_3"]),
        welcome("$id.anew", session="$session_2", resume="$resume_3"),
        tells("up", False),
        says("watch_latest", "$id.watch_2", "$latest"),
        hears("snapshot", "$id.watch_2", "$latest", "$cursor_4", [["b", "blue"]]),
        tells("picture", "$latest", {"b": "blue"}),
        leaves("$latest"),
        says("unwatch", "$id.leave", "$latest"),
        hears("done", "$id.leave"),
        settings={"gateway": {"resume_window_s": 0.05, "latest_tick_ms": 20}},
    ),
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
        opens(),
        connects("$n1"),
        hello("$id.hello", "$expired_token"),
        hears("error", "$id.hello", "token_expired", "$text.expired", None),
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
        opens(),
        connects("$n1"),
        hello("$id.hello", "$expired_token"),
        hears("error", "$id.hello", "token_expired", "$text.expired", None),
        tells("over", "token_expired", None),
        closed(4002),
        passes(60_000),
        tokens=("$expired_token",),
    ),
    conversation(
        "token_refused_by_one",
        "A node refuses the token. It may be the one that is wrong, so that the word is not final before another "
        "node has said it too.",
        opens(),
        connects("$n1"),
        hello("$id.hello", "$forged_token"),
        hears("error", "$id.hello", "bad_token", "$text.refused", None),
        closed(4001, connection=1),
        connects("$n2", *AGAIN_MS),
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
        opens(),
        connects("$n1"),
        hello("$id.hello", "$forged_token"),
        hears("error", "$id.hello", "bad_token", "$text.refused", None),
        closed(4001, connection=1),
        connects("$n2", *AGAIN_MS),
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
"""In the order of a session's life."""
