"""Golden conversations between players: invites to matches and to be friends. See `server/cli/conversations.py`."""

from typing import Final

from server.cli.conversation_steps import Step, conversation, happens, hears, says, tells, wants
from server.cli.conversations import OPENING, PRIVATE

BETWEEN_PLAYERS: Final[tuple[Step, ...]] = (
    conversation(
        "private_match",
        "A match takes in only whom its host invites, and the host may remove them again.",
        happens("says", "$token_of_host", ["match.create", "$n", "film", 1, "m1", PRIVATE]),
        *OPENING,
        wants("join", "match.join", "m1", None),
        says("match.join", "$id.join", "$lineage", 1, "m1", None),
        hears("error", "$id.join", "private", "$text.private", None),
        tells("error", "join", "private"),
        happens("says", "$token_of_host", ["match.invite", "$n", "film", 2, "m1", ["$player"]]),
        hears("match.invited", 1, "m1", "referee"),
        tells("push", ["match.invited", 1, "m1", "referee"]),
        wants("again", "match.join", "m1", None),
        says("match.join", "$id.again", "$lineage", 2, "m1", None),
        hears("match.assigned", 2, "m1"),
        tells("push", ["match.assigned", 2, "m1"]),
        hears("accepted", "$id.again", "m1", 3, 4),
        tells("answer", "again", ["accepted", "$id.again", "m1", 3, 4]),
        happens("says", "$token_of_host", ["match.kick", "$n", "film", 3, "m1", "$player", "afk"]),
        hears("match.kicked", 3, "m1", "afk"),
        tells("push", ["match.kicked", 3, "m1", "afk"]),
        wants("back", "match.join", "m1", None),
        says("match.join", "$id.back", "$lineage", 3, "m1", None),
        hears("error", "$id.back", "kicked", "$text.kicked", None),
        tells("error", "back", "kicked"),
    ),
    conversation(
        "befriended",
        "Somebody asks to be a friend and is accepted; the list shows it, and that it is over.",
        *OPENING,
        happens("says", "$token_of_friend", ["friends.invite", "$n", "red", 1, "$player"]),
        hears("friends.changed", 1, "emile", "inviting", "$time.asked"),
        tells("push", ["friends.changed", 1, "emile", "inviting", "$time.asked"]),
        wants("accept", "friends.accept", "emile"),
        says("friends.accept", "$id.accept", "$lineage", 1, "emile"),
        hears("friends.changed", 2, "emile", "friend", "$time.friends"),
        tells("push", ["friends.changed", 2, "emile", "friend", "$time.friends"]),
        hears("saved", "$id.accept", "$entity", "$version"),
        tells("answer", "accept", ["saved", "$id.accept", "$entity", "$version"]),
        wants("list", "friends.list", 100, "", None),
        says("friends.list", "$id.list", 100, "", None),
        hears("friends", "$id.list", [["emile", "friend", "$time.friends"]], None),
        tells("answer", "list", ["friends", "$id.list", [["emile", "friend", "$time.friends"]], None]),
        happens("says", "$token_of_friend", ["friends.remove", "$n", "red", 2, "$player"]),
        hears("friends.changed", 3, "emile", "none", "$time.gone"),
        tells("push", ["friends.changed", 3, "emile", "none", "$time.gone"]),
    ),
)
