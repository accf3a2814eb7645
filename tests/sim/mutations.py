"""The table of mutants (`mutants.py`): what is taken out of the code for each condition of the nine
ownership rules (docs/guarantees.md), and which scenario is to find it."""

from typing import Final, NamedTuple

Edit = tuple[str, str, str]
"""`module:Class.function` or `module:function`, a piece of its source, and what stands there instead."""


class Mutant(NamedTuple):
    """`unseen`: why no scenario can find it, where that is so."""

    name: str
    rule: int
    scenario: str
    edits: tuple[Edit, ...]
    unseen: str = ""


STORE = "server.storage.memory:MemoryStore"
LOGS = "server.storage.memory_logs:MemoryLogStore"
FOREIGN = "server.cluster.foreign"
AGREEMENT = "server.cluster.agreement"
LEASE = "server.liveness.lease:NodeLease"
WAITING = "server.storage.waiting:Waiting"
TAKEOVER = "server.storage.takeover:Takeover"
BEHIND = "server.storage.write_behind:WriteBehind"
GATE = "server.activations.timer_gate:TimerGate"
TURNS = "server.activations.turns:Turns"
PICTURE = "server.sessions.picture:Picture"
LOG = "server.activations.event_log:EventLog"
RULES = "game.match.rules"
FACTS = "server.activations.open_facts:OpenFacts"
UP = "if not self.database.is_up(me, generation):"
CHECK = "if self._boot() >= self._lease.safe_until or self._write_behind.refusal is not None:"
NO_CHECK = "if self._write_behind.refusal is not None:"
IN_WRITE = "if entity.epoch == change.epoch and entity.state_version < change.version:"

UNSEALED: Final = (
    "the lease check after the answer refuses what a late append would acknowledge: the seal is a second wall"
)
WHOLE: Final = "the epoch holds alone: a frozen log has no append under way, and a late one is of an older epoch"
SAME_HEAD: Final = "one epoch has one writer, and so one head at each number: the hash finds damage, not a rival"
TOLD_IS_STORED: Final = (
    "what is told is stored, and a version that is stored is not used again: the epoch is a second wall"
)
WITHIN: Final = 30
"""Seeds within which each mutant is found, or at the recorded one."""
RECORDED: Final = {
    "a pruned number is given out again": 4,
    "a newer word counts as told with the one before": 15,
    "a run is pruned before its journal is closed": 2,
    "a lease is renewed whatever the state": 3,
    "logged changes are answered at once": 20,
    "a fenced write counts as stored": 2,
    "a player does not know a command again": 2,
    "a grant that is over again releases what waited": 3,
    "an eviction needs no majority": 5,
    "safe until counts from the reply": 4,
    "a claim ignores its token": 9,
    "a claim ignores whose journal can be read": 2,
    "an overlay is not stored before the first turn": 7,
    "an older record is overlaid": 7,
    "the journal is truncated before the flush": 10,
    "the journal is truncated past the flush": 12,
    "a former owner sets reminders": 2,
    "a journal goes before all of it is stored": 2,
    "an append ignores where the log ends": 2,
    "streams run ahead of the store": 9,
    "a match does not know a command again": 11,
    "nobody wakes an orphan": 2,
    "an older difference overwrites a newer": 8,
    "a session that can be written to again is not told what it missed": 7,
    "of equal groups none gives way": 4,
    "a node that serves never gives way": 3,
    "keys that were read again are not told": 14,
    "a delayed leave takes out who has come back": 3,
    "a match that comes back tells nobody of its place": 4,
    "a living run is pruned": 2,
    "a flush cleans what has changed since": 2,
    "a reminder goes before its effect is stored": 4,
    "a client that is gone waits for its session": 4,
    "a session that ends on its way lives on where it arrives": 7,
    "a countdown begins anew where its match is brought back": 2,
    "a session goes where nobody waits for it any more": 4,
    "a missing difference is not noticed": 6,
}
"""The first seed that finds it, where that is not 1: `test_mutants.py` plays this one first."""

MUTANTS: Final = (
    # 1: leases
    Mutant("a lease is renewed whatever the state", 1, "split", ((f"{STORE}.renew_lease", UP, "if False:"),)),
    Mutant(
        "the dead come back by renewing",
        1,
        "pause",
        ((f"{STORE}.renew_lease", "return False", "self.database.nodes[me].state = 'up'"),),
    ),
    Mutant(
        "a node is buried before its lease ends",
        1,
        "split",
        ((f"{STORE}.bury_expired", "<= now - more_s", "<= now + 1.9"),),
    ),
    Mutant(
        "an eviction needs no majority",
        1,
        "split",
        ((f"{STORE}.evict", "if not holds_majority(side, live):", "if False:"),),
    ),
    Mutant(
        "an exact half may evict without its lowest",
        1,
        "halves",
        (
            (
                "server.storage.memory:MemoryStore.evict",
                "not holds_majority(side, live)",
                "2 * sum(n in side for n in live) < len(live)",
            ),
        ),
    ),
    Mutant(
        "who was expired judges at once",
        1,
        "outage",
        ((f"{LEASE}.held_for", "now >= since + self._settings.lease_period_s", "True"),),
    ),
    Mutant(
        "a name is registered beside its live run",
        1,
        "crash",
        ((f"{STORE}.register_node", "now < run.lease_until < inf", "False"),),
    ),
    Mutant(
        "an incarnation is issued twice",
        1,
        "crash",
        (
            (
                f"{STORE}.register_node",
                "database.last_incarnation += 1",
                "runs = [run.incarnation for run in database.nodes if run.node == node]\n"
                "    database.last_incarnation = max(runs, default=database.last_incarnation + 1)",
            ),
        ),
    ),
    Mutant(
        "a thread renews for a loop that stands still",
        1,
        "wedged",
        ((f"{LEASE}._stands_still", "still_s > self._settings.lease_stall_s", "False"),),
    ),
    Mutant(
        "a busy loop is not renewed for",
        1,
        "busy",
        ((f"{LEASE}._stands_still", "still_s > self._settings.lease_stall_s", "still_s > 0.5"),),
    ),
    Mutant(
        "timers that waited for the lease go on waiting",
        1,
        "lapse",
        ((f"{GATE}._granted", "not self._parked or", "True or"),),
    ),
    Mutant(
        "timers do not wait for the lease",
        1,
        "lapse",
        (
            (f"{GATE}.admit", "timers.needs_lease and not self._lease.holds()", "False"),
            (f"{GATE}.put_off", "return wait_s * self._rng.uniform(1.0, 2.0)", "return 0.5"),
        ),
    ),
    Mutant(
        "a pruned number is given out again",
        1,
        "crash pruned",
        (
            (
                f"{STORE}.register_node",
                "database.last_incarnation += 1",
                "database.last_incarnation = max((run.incarnation for run in database.nodes), default=0) + 1",
            ),
        ),
    ),
    Mutant(
        "a run is pruned before its journal is closed",
        5,
        "crash pruned far",
        ((f"{STORE}.prune_nodes", "if run.is_over and not run.journal", "if run.is_over"),),
    ),
    Mutant(
        "a living run is pruned",
        1,
        "crash pruned",
        ((f"{STORE}.prune_nodes", "if run.is_over and not run.journal", "if not run.journal"),),
    ),
    Mutant(
        "an entity of a pruned owner cannot be claimed",
        3,
        "crash pruned",
        ((f"{STORE}._holds", "return not self.database.is_pruned(owner)", "return True"),),
    ),
    # 2: acknowledging
    Mutant(
        "safe until counts from the reply",
        2,
        "renewal",
        ((f"{LEASE}._ask", "self.granted(sent_at)", "self.granted(self._clock.boot())"),),
    ),
    Mutant("safe until the whole period", 2, "isolated", ((f"{LEASE}.granted", "SAFE_SHARE * ", ""),)),
    Mutant(
        "the lease is not checked before outputs",
        2,
        "isolated",
        (("server.storage.durability:MemoryFirst.accept", CHECK, NO_CHECK),),
    ),
    Mutant(
        "the lease is not checked, with a local journal",
        2,
        "isolated local",
        (
            ("server.storage.durability:JournalFirst.accept", CHECK, NO_CHECK),
            (
                "server.storage.durability:JournalFirst.accept",
                "if durable and self._boot() >= self._lease.safe_until:",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "the lease is not checked after the append",
        2,
        "append",
        (
            (
                "server.storage.durability:JournalFirst.accept",
                "if durable and self._boot() >= self._lease.safe_until:",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "the lease is not checked when a distant journal answers",
        2,
        "append redis",
        (("server.storage.durability:JournalFirst._durable", "self._unleased or not self._lease.holds()", "False"),),
    ),
    Mutant(
        "a grant that is over again releases what waited",
        2,
        "stopped",
        (("server.storage.durability:JournalFirst._granted", "if not self._lease.holds():", "if False:"),),
    ),
    Mutant(
        "a refused renewal counts as granted",
        2,
        "pause",
        ((f"{LEASE}._ask", "if granted:", "granted = True\n    if granted:"),),
    ),
    Mutant(
        "an answer leaves before the change is written through",
        2,
        "vaults",
        (
            (
                f"{TURNS}._finish",
                "accept_through(self)\n                    held = True",
                "accept_through(self)",
            ),
        ),
    ),
    Mutant(
        "a write that fails releases what is written through",
        2,
        "vaults",
        (
            (
                f"{BEHIND}._write_kind",
                "self._metrics.flush_failures_total += 1\n        raise",
                "self._metrics.flush_failures_total += 1\n        for entity in entities:\n"
                "            entity.released(entity.version)\n        raise",
            ),
        ),
    ),
    # 3: claims
    Mutant("a claim takes from a live owner", 3, "storm", ((f"{STORE}._holds", "not run.is_over", "False"),)),
    Mutant(
        "a claim takes from an evicting owner",
        3,
        "split",
        ((f"{STORE}._holds", "not run.is_over", "run.state == 'up'"),),
    ),
    Mutant(
        "a claim ignores its token",
        3,
        "late claims",
        ((f"{STORE}._claim", "run == me.incarnation and token >= claim.token", "False"),),
    ),
    Mutant(
        "whoever is not up may claim",
        3,
        "evicted",
        ((f"{STORE}.claim", "claims and not self.database.is_up(me, generation)", "False"),),
    ),
    Mutant(
        "a claim leaves the epoch as it is",
        3,
        "crash",
        (
            (
                f"{STORE}._claim",
                "entity.epoch = self.database.next_epoch(entity)",
                "entity.epoch = max(entity.epoch, 1)",
            ),
        ),
    ),
    Mutant(
        "a release resets the epoch",
        3,
        "moves",
        ((f"{STORE}.release", "entity.owner = None", "entity.owner, entity.epoch = None, 0"),),
    ),
    Mutant(
        "a claim ignores whose journal can be read",
        3,
        "crash far",
        (
            (
                f"{STORE}._holds",
                'return journals is not None and run.journal != "" and run.journal not in journals',
                "return False",
            ),
        ),
    ),
    # 4: writes
    Mutant(
        "a write ignores the epoch",
        4,
        "stale",
        ((f"{STORE}._write", IN_WRITE, "if entity.state_version < change.version:"),),
    ),
    Mutant(
        "a write ignores the version",
        4,
        "late writes",
        ((f"{STORE}._write", IN_WRITE, "if entity.epoch == change.epoch:"),),
    ),
    Mutant(
        "what is stored already counts as fenced",
        4,
        "lost answers",
        ((f"{STORE}._write", '"written" if already else "fenced"', '"fenced"'),),
    ),
    Mutant(
        "a flush cleans what has changed since",
        4,
        "inherited",
        ((f"{BEHIND}._write_kind", "entity.version == change.version", "True"),),
    ),
    Mutant(
        "a fenced write counts as stored",
        4,
        "pause",
        (
            (
                f"{BEHIND}._write_kind",
                'fenced = {identity for identity, result in results.items() if result == "fenced"}',
                "fenced = set()",
            ),
        ),
    ),
    Mutant(
        "a turn that fails is not undone",
        4,
        "turns",
        ((f"{TURNS}._undo", "self.actor.state = self.boundary", "pass"),),
    ),
    Mutant("a flush sees half a turn", 4, "turns", ((f"{BEHIND}._write_kind", "it.boundary, ", "it.actor.state, "),)),
    Mutant(
        "a former owner sets reminders",
        4,
        "rewound",
        ((f"{STORE}._is_at", "entity.epoch == epoch", "True"),),
    ),
    Mutant(
        "an older statement moves a reminder",
        4,
        "rewound",
        ((f"{STORE}.set_reminder", " or _is_older(kept, reminder)", " or True"),),
    ),
    Mutant(
        "an older statement takes a reminder back",
        4,
        "rewound",
        ((f"{STORE}.unset_reminder", " and _is_older(kept, reminder)", ""),),
    ),
    # 5: recovery
    Mutant(
        "what a journal holds is not overlaid",
        5,
        "crash local",
        ((f"{TAKEOVER}.adopt", "newest = await self._newest(unclean)", "newest = {}"),),
    ),
    Mutant(
        "an overlay is not stored before the first turn",
        5,
        "inherited",
        ((f"{TAKEOVER}.adopt", "refused = await self._write(kind, changes)", "refused = {}"),),
    ),
    Mutant(
        "an older record is overlaid",
        5,
        "inherited",
        ((f"{TAKEOVER}._newest", "(record.epoch, record.version) > at_least", "True"),),
    ),
    Mutant(
        "the journal is truncated before the flush",
        5,
        "inherited",
        (
            (
                f"{BEHIND}.flush",
                "left = len(self._dirty)",
                "left = len(self._dirty)\n        self._retention.flushed(position, (), owner_unknown=False)",
            ),
        ),
    ),
    Mutant(
        "the journal is truncated past the flush",
        5,
        "inherited",
        ((f"{BEHIND}.flush", ".flushed(position, stuck", ".flushed(self._retention.position, stuck"),),
    ),
    Mutant(
        "a journal goes before all of it is stored",
        5,
        "crash local",
        ((f"{TAKEOVER}._may_close", "left = opened.stuck\n", "return True\n"),),
    ),
    Mutant(
        "a living process is taken for dead",
        5,
        "given",
        (("server.storage.journal.memory:MemoryJournal.is_dead", "not run.locked", "True"),),
    ),
    Mutant(
        "a distant journal is not sealed",
        5,
        "append redis",
        (
            (
                "server.storage.journal.memory:MemoryJournal.recover",
                'run.sealed = run.sealed or self._journals.kind == "redis"',
                "pass",
            ),
        ),
        UNSEALED,
    ),
    # 6: migration
    Mutant(
        "a migration ignores the epoch",
        6,
        "moves late",
        ((f"{STORE}._migrate", "entity.epoch == move.epoch and ", ""),),
    ),
    Mutant(
        "a migration ignores whether its target is up",
        6,
        "given",
        ((f"{STORE}._migrate", " and self.database.is_up(move.to)", ""),),
    ),
    Mutant(
        "a migration leaves the epoch as it is", 6, "moves", ((f"{STORE}._migrate", "move.epoch + 1", "move.epoch"),)
    ),
    Mutant(
        "a migration ignores the end of the log",
        6,
        "moves late",
        ((f"{STORE}._migrate", "move.next_seq in (0, entity.next_seq)", "True"),),
        WHOLE,
    ),
    Mutant(
        "a migration without an answer thaws",
        6,
        "moves late",
        (
            (
                "server.catalog.migration:Migrator._resolve",
                "moved: list[_Load] = []",
                "moved: list[_Load] = []\n"
                "    for load in doubtful:\n"
                "        if not load.activation.dropped:\n"
                "            if not load.activation.has_log:\n"
                "                self._write_behind.put_back(load.activation)\n"
                "            load.activation.thaw()\n"
                "    return moved",
            ),
        ),
    ),
    # 7: logs
    Mutant(
        "an append ignores the epoch",
        7,
        "stale",
        (
            (
                f"{LOGS}._append",
                "(entity.epoch, entity.next_seq, entity.head) != (append.epoch, append.first_seq, append.prev_head)",
                "(entity.next_seq, entity.head) != (append.first_seq, append.prev_head)",
            ),
        ),
    ),
    Mutant(
        "an append ignores where the log ends",
        7,
        "late",
        (
            (
                f"{LOGS}._append",
                "(entity.epoch, entity.next_seq, entity.head) != (append.epoch, append.first_seq, append.prev_head)",
                "entity.epoch != append.epoch",
            ),
        ),
    ),
    Mutant(
        "an append ignores the hash",
        7,
        "late",
        (
            (
                f"{LOGS}._append",
                "(entity.epoch, entity.next_seq, entity.head) != (append.epoch, append.first_seq, append.prev_head)",
                "(entity.epoch, entity.next_seq) != (append.epoch, append.first_seq)",
            ),
        ),
        SAME_HEAD,
    ),
    Mutant(
        "the same append again is refused",
        7,
        "lost answers",
        ((f"{LOGS}._append", '"written" if again else "fenced"', '"fenced"'),),
    ),
    Mutant(
        "an append without an answer grows", 7, "forgetful", ((f"{LOG}.take", "if self._sent is None:", "if True:"),)
    ),
    Mutant(
        "streams run ahead of the store",
        7,
        "crash ahead",
        (
            (
                f"{LOG}.end_turn",
                "entries = self.next_seq - self._boundary_seq",
                "entries = self.next_seq - self._boundary_seq\n"
                "    self._publish(self._boundary_seq, self._pending[-entries:])",
            ),
        ),
    ),
    Mutant(
        "logged changes are answered at once",
        7,
        "crash",
        ((f"{TURNS}._finish", "self.version + 1)\n                    held = True", "self.version + 1)"),),
    ),
    # 8: duplicates
    Mutant(
        "a match does not know a command again",
        8,
        "crash redis",
        (("game.match.rules:answer_to", "if answers is None:", "if True:"),),
    ),
    Mutant(
        "a player does not know a command again",
        8,
        "crash local",
        (("game.player.rules:answer_to", "saved_commands.answer_to(state.answered, lineage, command)", "None"),),
    ),
    Mutant(
        "a result is counted again",
        8,
        "results",
        (
            (
                "game.player.rules:settled",
                "(done.match, done.ended_wall_ms) == (match, ended_wall_ms)",
                "False",
            ),
        ),
    ),
    Mutant(
        "a reminder is not known again",
        8,
        "bells",
        (("server.activations.reminding:Reminding.deliver", "if _handled(actor, name) >= due_ms:", "if False:"),),
    ),
    Mutant(
        "a reminder goes before its effect is stored",
        8,
        "bells",
        (("server.activations.reminding:Reminding._record", "return False", "return True"),),
    ),
    Mutant(
        "nobody wakes an orphan",
        8,
        "orphans",
        (("server.catalog.orphans:Orphans._consider", "if not self._current.is_mine(identity)", "if True"),),
    ),
    Mutant(
        "a living run can be forgotten",
        5,
        "forgotten",
        ((f"{STORE}.forget_estate", "not run.is_over", "False"),),
    ),
    Mutant(
        "entities that wait for a journal are claimed without a pause",
        5,
        "forgotten",
        ((f"{WAITING}.refuse", "if away is None:", "if True:"),),
    ),
    Mutant(
        "nobody looks for the players of a dead node",
        8,
        "vanished",
        (
            (
                "server.catalog.strays:Strays._find",
                "return await self._services.store.strays(kind, self.limits.page, after)",
                "return []",
            ),
        ),
    ),
    Mutant(
        "a player who vanished was seen when that was noticed",
        8,
        "vanished",
        (
            (
                "game.player.actor:Player.absent",
                "rules.vanished(self.state)",
                "rules.departed(self.state, self.wall_ms())",
            ),
        ),
    ),
    # 9: volatile actors
    Mutant(
        "both copies of a volatile actor stay",
        9,
        "rooms",
        (
            (
                "server.catalog.catalog:Catalog.drop_duplicate",
                "activation is not None and",
                "False and activation is not None and",
            ),
        ),
    ),
    # 10: what clients see: latest topics, sessions that actors end, deadlines
    Mutant(
        "a countdown begins anew where its match is brought back",
        10,
        "countdowns",
        ((f"{RULES}:countdown_left_ms", "if state.countdown_wall_ms is UNSET:", "if True:"),),
    ),
    Mutant(
        "a countdown believes any clock",
        10,
        "countdowns",
        ((f"{RULES}:countdown_left_ms", "return min(left_ms, length_ms)", "return left_ms"),),
    ),
    Mutant(
        "a session goes where nobody waits for it any more",
        10,
        "abandoned",
        (
            (
                "server.sessions.arrivals:SessionArrivals._install",
                "abandoned=packed.pulled and not sought",
                "abandoned=False",
            ),
        ),
    ),
    Mutant(
        "a client that is gone waits for its session",
        10,
        "abandoned",
        (("server.sessions.seeker:Seeker.seeks", "sought is not None and sought.awaited", "sought is not None"),),
    ),
    Mutant(
        "the end of a player's sessions is said once",
        10,
        "dismissed",
        (
            (
                "server.sessions.dismissals:Dismissals._tell_until_heard",
                "await asyncio.sleep(backoff_s(attempt, self._rng))",
                "return",
            ),
        ),
    ),
    Mutant(
        "a session that ends on its way lives on where it arrives",
        10,
        "dismissed",
        (
            ("server.sessions.transfer:Transfer.session_ended", "return _forget(self.to, ending)", "return ()"),
            (
                "server.sessions.transfer:Transfer.arrived",
                "return (departed, *_forget(at, self.over))",
                "return (departed,)",
            ),
        ),
    ),
    Mutant(
        "a client whose session is asked for elsewhere is told to stop",
        10,
        "abandoned",
        (("server.sessions.transfer:Transfer.arrived", "CloseCode.MOVED", "CloseCode.REPLACED"),),
    ),
    Mutant(
        "an older difference overwrites a newer",
        10,
        "pictures",
        ((f"{PICTURE}._set", "if order <= (item.order if item is not None else self._base):", "if False:"),),
    ),
    Mutant(
        "a missing difference is not noticed",
        10,
        "pictures",
        (
            (
                f"{PICTURE}.learn",
                "if self.is_known and (epoch, n - 1) == self.known:",
                "if True:",
            ),
        ),
    ),
    Mutant(
        "a session that can be written to again is not told what it missed",
        10,
        "pictures",
        (("server.sessions.latest:LatestTopics.catch_up", "if session.latest:", "if False:"),),
    ),
    # 11: two-sided facts
    Mutant(
        "a fact is told before it is stored",
        11,
        "facts",
        ((f"{FACTS}.stored", "and self._unstored[0][0] <= version", ""),),
    ),
    Mutant(
        "a fact is done before the other side has stored it",
        11,
        "facts",
        (
            (
                "server.activations.activation:Activation.when_stored",
                "(self.stored_version >= self.version or not self.durable)",
                "True",
            ),
            (
                "server.activations.activation:Activation._stored",
                "if self.stored_version < self.version and self.durable:",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "the number of a word is ignored",
        11,
        "facts",
        (("server.actors.facts:newest", "kept.stamp < word.stamp", "True"),),
    ),
    Mutant(
        "a word that was taken back leaves no trace",
        11,
        "facts",
        (("server.actors.facts:newest", "kept is None or", "kept is None or kept.value is None or"),),
    ),
    Mutant(
        "a version is a number without its epoch",
        11,
        "facts",
        (("server.actors.actor:Actor.stamp", "self.context.epoch", "0"),),
        TOLD_IS_STORED,
    ),
    Mutant(
        "nobody looks for rows with open facts",
        11,
        "facts",
        (("server.catalog.orphans:Orphans.__init__", " or tells_facts(cls)", ""),),
    ),
    Mutant(
        "the row does not say that facts are open",
        11,
        "facts",
        (("server.storage.memory:MemoryDatabase.has_open_facts", "is_open(identity, state)", "False"),),
    ),
    Mutant(
        "a release says that all is told, whatever is",
        11,
        "facts",
        (("server.catalog.catalog:Catalog._release", "if activation.has_told_all", "if activation.has_log"),),
    ),
    Mutant(
        "a fact that was not answered is not told again",
        11,
        "facts",
        (("server.catalog.telling:Telling._again", "if not activation.dropped:", "if False:"),),
    ),
    Mutant(
        "a fact is over when it was told",
        11,
        "facts",
        (
            (
                "server.catalog.telling:Telling._tell",
                "self._failed(activation, facts, fact, error)",
                "facts.over(FactDone(name))\n        self._report(activation, facts)",
            ),
        ),
    ),
    Mutant(
        "a delayed leave takes out who has come back",
        11,
        "rosters",
        (("game.match.admission:gone", "line.member > number", "False"),),
    ),
    Mutant(
        "a place that was left is entered again",
        11,
        "rosters",
        (("game.places:entered", "place.number <= _left_up_to(places, place)", "False"),),
    ),
    Mutant(
        "a player who changes its match tells the former nothing",
        11,
        "rosters",
        (("game.places:depart", "leaving=(*places.leaving, place)", "leaving=places.leaving"),),
    ),
    Mutant(
        "a match that comes back tells nobody of its place",
        11,
        "rosters",
        (("game.match.actor:Match.activated", "self.unsaid = dict.fromkeys(members)", "pass"),),
    ),
    # 12: one cluster, one database
    Mutant(
        "members take a foreign node in",
        12,
        "strangers",
        ((f"{FOREIGN}:stand", "heard if not differences(me.terms, member.terms))", "heard)"),),
    ),
    Mutant(
        "a newcomer counts as one that serves",
        12,
        "strangers",
        ((f"{FOREIGN}:_rank", 'member.state != "joining" and ', ""),),
    ),
    Mutant(
        "of equal groups none gives way",
        12,
        "strangers",
        (
            (
                f"{FOREIGN}:_rank",
                "min((member.since_ms or inf for member in serving), default=inf), terms",
                "0.0, Terms()",
            ),
        ),
    ),
    Mutant(
        "a newcomer whose keys fit nobody serves",
        12,
        "rotations",
        (("server.cluster.belonging:Belonging.may_serve", " and not self.refused_newcomer()", ""),),
    ),
    Mutant(
        "a newcomer needs keys that fit everybody",
        12,
        "rotations",
        ((f"{AGREEMENT}:newcomer_refused", "any(_shared", "all(_shared"),),
    ),
    Mutant(
        "a key in common is not enough",
        12,
        "rotations",
        (
            (
                f"{AGREEMENT}:_shared",
                'not set(mine.tokens.split(".")).isdisjoint(theirs.tokens.split("."))',
                "mine.tokens == theirs.tokens",
            ),
        ),
    ),
    Mutant(
        "keys that were read again are not told",
        12,
        "rotations",
        (
            (
                "server.node:Node._tell_gossip",
                "self.me.terms if self.gateway.token_rules is self._told_rules else self._terms()",
                "self.me.terms",
            ),
        ),
    ),
    Mutant(
        "a newcomer serves whatever it hears",
        12,
        "strangers",
        (("server.cluster.belonging:Belonging.may_serve", "not self._stand.refused and ", ""),),
    ),
    Mutant(
        "a node that serves never gives way",
        12,
        "strangers",
        (("server.cluster.belonging:Belonging.is_over", "self._refused_at + FOREIGN_S", "float('inf')"),),
    ),
    Mutant(
        "adoption ignores the database, and the live mark behind it",
        12,
        "copied",
        (
            (f"{STORE}.estates", " and run.database in known", ""),
            ("server.storage.journal.memory:MemoryJournal.reads", 'database not in ("", self.database)', "False"),
            ("server.storage.journal.memory:MemoryJournal.recover", "self._is_alive(run)", "False"),
        ),
    ),
    Mutant(
        "adoption ignores the live mark",
        12,
        "cloned",
        (("server.storage.journal.memory:MemoryJournal.recover", "self._is_alive(run)", "False"),),
    ),
)
