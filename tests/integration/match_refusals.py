"""What a node says to each thing that a rule of private matches, of friends and of rich presence forbids."""

import itertools
from typing import Any


async def refusals_of_people(node: Any) -> dict[str, str]:
    """By the rule's code as the page has it, the code that came."""
    clients = [await node.enter("player") for _ in range(3)]
    host, (ann, bob, eve) = await node.enter("host"), clients
    names = [client.welcome[4] for client in clients]
    numbers = itertools.count(1)
    found: dict[str, str] = {}

    async def say(client: Any, kind: str, *fields: Any) -> Any:
        return await client.ask(kind, 5, "l", next(numbers), *fields)

    async def refused(code: str, client: Any, kind: str, *fields: Any) -> None:
        answer = await say(client, kind, *fields)
        found[code] = answer[2] if answer[0] == "error" else f"{kind}: {answer}"

    async def match(*options: bool, password: str = "") -> str:
        """The name of a new match: whether it refuses who is elsewhere, and whether it is private."""
        name = str(node.name("m"))
        made = await say(host, "match.create", name, ["slayer", "", 0, 8, 0, 0, True, 0, *options], password)
        assert made[0] == "accepted", made
        return name

    closed, shut, strict = await match(False, True), await match(False, True, password="pass"), await match(True)
    await refused("private", ann, "match.join", closed)
    for _ in range(5):
        await refused("wrong_password", ann, "match.join", shut, None, "word")
    await refused("too_many_guesses", ann, "match.join", shut, None, "word")
    await refused("bad_reservation", host, "match.reserve", closed, names[:1], None, 2)
    await say(host, "match.kick", strict, names[1])
    await refused("kicked", bob, "match.join", strict)
    await say(eve, "match.join", await match())
    await refused("in_another_match", eve, "match.join", strict)
    flags = str(node.name("m"))
    await say(host, "match.create", flags, ["capture_the_flag", "", 2, 8, 0, 0, True, 0])
    await say(host, "match.describe", flags, [[f"p{number}", number] for number in range(16)])
    await refused("too_many_properties", host, "match.describe", flags, [["more", True]])
    await say(ann, "match.join", flags)
    await say(host, "match.start", flags)
    await refused("unknown_objective", host, "match.report", flags, [["objective", 9, names[0], "flag_captred"]])
    await refused("self", ann, "friends.invite", names[0])
    await refused("no_invite", ann, "friends.accept", names[1])
    await say(ann, "friends.block", names[1])
    await refused("blocking", ann, "friends.invite", names[1])
    twice = ["", "", "", 0, 0, "", [["stage", "one"], ["stage", "two"]]]
    found["bad_presence"] = (await ann.ask("presence.set", 6, "online", "", twice))[2]
    for client in (host, *clients):
        await client.ws.close()
    return found
