"""What a node says to each thing that a rule of parties forbids."""

import itertools
from typing import Any

from tests.support.waiting import until


async def refusals_of_parties(node: Any) -> dict[str, str]:
    """By the rule's code as the page has it, the code that came."""
    clients = [await node.enter("player") for _ in range(4)]
    ann, bob, cyd, eve = clients
    names = [client.welcome[4] for client in clients]
    service = await node.enter("service")
    numbers = itertools.count(1)
    found: dict[str, str] = {}

    async def say(client: Any, kind: str, *fields: Any) -> Any:
        return await client.ask(kind, 5, "l", next(numbers), *fields)

    async def refused(code: str, client: Any, kind: str, *fields: Any) -> None:
        answer = await say(client, kind, *fields)
        found[code] = answer[2] if answer[0] == "error" else f"{kind}: {answer}"

    party = (await say(ann, "party.create", 2))[2].partition("/")[2]
    await refused("not_invited", bob, "party.join", party)
    await refused("not_in_party", bob, "party.ready", party)
    await refused("no_such_code", bob, "party.join_code", "AAA-AAA-AAA")
    for name in names[1:3]:
        await say(ann, "party.invite", party, name)
    await say(bob, "party.join", party)
    await refused("party_full", cyd, "party.join", party)
    await refused("in_party", ann, "party.invite", party, names[1])
    await refused("not_leader", bob, "party.disband", party)
    for _ in range(31):
        await say(ann, "party.invite", party, node.name("p"))
    await refused("too_many_invited", ann, "party.invite", party, node.name("p"))
    await say(service, "moderation.mute", names[3])

    async def mute_has_arrived() -> bool:
        return bool((await say(eve, "party.invite", party, "x"))[2] == "muted")

    await until(mute_has_arrived)
    await refused("muted", eve, "party.invite", party, "x")
    assert await bob.ask("close", 9) == ["done", 9]

    async def bob_is_away() -> bool:
        return not (await ann.ask("party.get", 5, party))[7][1][2]

    await until(bob_is_away)
    await refused("member_away", ann, "party.promote", party, names[1])
    await say(ann, "party.disband", party)
    await refused("party_over", ann, "party.leave", party)
    for client in (ann, cyd, eve, service):
        await client.ws.close()
    return found
