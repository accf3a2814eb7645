"""A process that is a member in gossip: `python -m tests.support.gossip_process ARGUMENTS`, with the arguments in JSON.

It says on a line of its output that it has joined, with its endpoint; a line of input asks for its bequest. An heir
says `ready` first, and joins after a line with its predecessor's bequest, in hexadecimal digits."""

import asyncio
import json
import sys

import msgspec

from server.cluster.membership import KinshipMembership
from server.cluster.view import Member
from server.runtime.metrics import Metrics
from server.runtime.supervisor import Supervisor
from server.settings import GossipSettings
from tests.support.memberships import KEY


class GossipArguments(msgspec.Struct):
    me: Member
    settings: GossipSettings


async def main(arguments: GossipArguments) -> None:
    membership = KinshipMembership(arguments.settings, "test", KEY, Metrics(), Supervisor("member"))
    if arguments.me.generation:
        print("ready", flush=True)
        membership.inherit(bytes.fromhex(await asyncio.to_thread(sys.stdin.readline)))
    await membership.start(arguments.me, lambda: None)
    first = [str(member.address) for member in membership.members()]
    print(json.dumps({"endpoint": membership.endpoint, "members": first}), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(membership.bequeath().hex(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=GossipArguments)))
