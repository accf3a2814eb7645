"""Mutants of a succession (docs/succession.md): each of its conditions taken out of both sides, of what goes over, and
of the store. Rule 2 is who may acknowledge, rule 12 who is the node."""

from typing import Final

from tests.sim.mutations import LEASE, STORE, Mutant

PREDECESSOR = "server.succession.predecessor:Predecessor"
REST = "server.succession.node_rest:NodeRest"
HEIR = "server.succession.heir:Heir"
COPIED = "server.succession.copying:CopiedActivations"
ARRIVED = "server.succession.copying:ArrivedActivations"
SYSTEM = "server.catalog.system:ActorSystem"
SESSIONS = "server.sessions.session_copies:SessionCopies"
PRESENCE = "server.presence.core:PresenceCore"

MUTANTS: Final = (
    # 2: who may acknowledge
    Mutant(
        "a predecessor does not surrender",
        2,
        "successions",
        ((f"{PREDECESSOR}._go", "self._node.surrender()", "pass"),),
    ),
    Mutant(
        "a lease that was surrendered holds",
        2,
        "successions",
        ((f"{LEASE}.surrender", 'self.safe_until = float("-inf")', "pass"),),
    ),
    Mutant(
        "an heir serves before the store has its generation",
        2,
        "successions",
        (
            (
                f"{HEIR}._serve",
                "if not await node.registration.succeed(node.system.me, node.generation):",
                "node.lease.granted(node.clock.boot())\n"
                "    loop = asyncio.get_running_loop()\n"
                "    self.late = loop.create_task(node.registration.succeed(node.system.me, node.generation))\n"
                "    if False:",
            ),
        ),
    ),
    Mutant(
        "an heir asks the store for nothing",
        12,
        "successions",
        (("server.liveness.registration:Registration.succeed", "taken = await", "taken = True or await"),),
    ),
    Mutant(
        "an heir that hears nothing any more serves",
        2,
        "successions",
        (
            (
                f"{HEIR}._receive",
                "        received = await self._channel.receive()\n",
                "        try:\n"
                "            received = await self._channel.receive()\n"
                "        except Unavailable:\n"
                "            if self.phase != 'ready':\n"
                "                raise\n"
                "            self._enter('serving')\n"
                "            return LastWord(self._node.clock.boot(), 1.0, 0)\n",
            ),
        ),
    ),
    Mutant(
        "a predecessor that goes on leaves the journal of its heir",
        12,
        "successions",
        ((f"{PREDECESSOR}.run", "await self._remove_heirs_journal()", "pass"),),
    ),
    Mutant(
        "a run that is over goes on in an heir",
        12,
        "late heirs",
        ((f"{STORE}.succeed_node", 'run.state != "up"', "False"),),
    ),
    Mutant(
        "a journal without its process ends a run that has another",
        12,
        "successions",
        ((f"{STORE}.bury", "journal not in (None, run.journal)", "False"),),
    ),
    # what goes over
    Mutant(
        "a change after the copy is not noted",
        2,
        "successions",
        (("server.runtime.barrier:Barrier.note", "if not self._ended:", "if False:"),),
    ),
    Mutant(
        "what is not stored is left behind",
        2,
        "successions",
        (
            (f"{REST}.under_way", "waiting := len(node.write_behind)", "waiting := 0"),
            (f"{REST}.come", "        await pipeline.write_behind.flush()\n", ""),
        ),
    ),
    Mutant(
        "an activation that has ended lives on in the heir",
        2,
        "successions",
        ((f"{ARRIVED}.take", "self._system.withdraw_copy(identity)", "pass"),),
    ),
    Mutant(
        "timers stay behind",
        2,
        "successions",
        ((f"{ARRIVED}._take", "arrival.timers = [", "arrival.timers = [] and ["),),
    ),
    Mutant(
        "timers ring in an heir before it is the node",
        2,
        "successions",
        ((f"{SYSTEM}.stand_by", "self.hold()", "pass"),),
    ),
    Mutant(
        "tokens of claims begin anew",
        3,
        "successions",
        ((f"{SYSTEM}.inherit", "self.claimer.go_on_after(it.token)", "pass"),),
    ),
    Mutant(
        "the words of presence begin anew",
        10,
        "successions",
        ((f"{PRESENCE}.inherit", "        peer.out.inherit(there.out, now)\n", ""),),
    ),
    Mutant(
        "an heir thinks that it is alone",
        12,
        "successions",
        (("server.node:Node.inherit_run", "View(members)", "View((me,))"),),
    ),
    # clients
    Mutant(
        "a session counts its pushes one too far",
        8,
        "successions",
        ((f"{SESSIONS}.pack", "outbox.acked, outbox.sent,", "outbox.acked + 1, outbox.sent + 1,"),),
    ),
    Mutant(
        "a session goes on a stream an event too early",
        8,
        "successions",
        (
            (
                "server.sessions.streams:Streams.inherit",
                "topic.watch(session, copy.next_seq)",
                "topic.watch(session, copy.next_seq - 1)",
            ),
        ),
    ),
    # calling it off
    Mutant(
        "a gateway stays at rest when it is called off",
        8,
        "successions",
        ((f"{REST}.come", "undone.callback(gateway.go_on)", "pass"),),
    ),
    Mutant(
        "timers stay at rest when it is called off",
        2,
        "successions",
        ((f"{REST}.come", "undone.callback(node.system.go_on)", "pass"),),
    ),
    Mutant(
        "links stay at rest when it is called off",
        12,
        "successions",
        ((f"{REST}.come", "undone.callback(drivers.transport.go_on)", "pass"),),
    ),
    Mutant(
        "nobody renews when it is called off",
        1,
        "successions",
        ((f"{REST}.come", "undone.callback(node.resume_renewing)", "pass"),),
    ),
    Mutant(
        "the heir goes whatever it holds",
        2,
        "successions",
        (
            (f"{PREDECESSOR}._freeze", "if holds != due:", "if False:"),
            (
                f"{ARRIVED}._take",
                "system.receive_copy(arrival)",
                "system.receive_copy(arrival) if len(self) % 5 else None",
            ),
        ),
    ),
)

RECORDED: Final = {
    "a lease that was surrendered holds": 21,
    "an heir serves before the store has its generation": 2,
    "an heir that hears nothing any more serves": 5,
    "what is not stored is left behind": 2,
    "an activation that has ended lives on in the heir": 9,
    "timers stay behind": 6,
    "timers ring in an heir before it is the node": 2,
    "the words of presence begin anew": 5,
    "a gateway stays at rest when it is called off": 2,
    "timers stay at rest when it is called off": 3,
    "links stay at rest when it is called off": 3,
    "nobody renews when it is called off": 2,
    "the heir goes whatever it holds": 8,
}
"""The first seed that finds it, where that is not 1."""
