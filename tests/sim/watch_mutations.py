"""Mutants of the rules by which whoever may watch no more sees nothing newer (`server/sessions/stream_guard.py` for
streams, `server/sessions/latest.py` for latest topics), and the scenario that is to find each (`shut_out.py`,
`clubs.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

GUARD = "server.sessions.stream_guard:StreamGuard"
TOPIC = "server.sessions.topic:Topic"
STREAMS = "server.sessions.streams:Streams"
LOG = "server.activations.event_log:EventLog"
LATEST = "server.sessions.latest:LatestTopics"


def of(name: str, where: str, old: str, new: str, scenario: str = "shut out", unseen: str = "") -> Mutant:
    return Mutant(name, 14, scenario, ((where, old, new),), unseen)


BY_ITSELF: Final = (
    "each run of events comes with its guard, and is judged by it: that the newest counts is a second wall"
)
BY_READS: Final = (
    "what is missing is read, and a read tells the guard: by attaching it is known earlier, if no event comes"
)

RECORDED: Final = {
    "an answer about watchers counts for a newer guard": 10,
    "an answer about watchers lets what is newer out": 5,
    "a latest topic asks once": 18,
    "a first picture is as new as it may be": 5,
}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    of("watchers of a stream are not asked about again", f"{TOPIC}.is_clear", ">= self.guard", ">= OPEN"),
    of("who was asked about once may watch for good", f"{TOPIC}.is_clear", ">= self.guard", "> OPEN"),
    of(
        "an answer about watchers counts for a newer guard",
        f"{GUARD}._answered",
        "clear(session, guard,",
        "clear(session, topic.guard,",
    ),
    of("a guard may fall", f"{TOPIC}.raise_guard", "max(self.guard, guard)", "guard", unseen=BY_ITSELF),
    of("events do not tell their guard", f"{LOG}._publish", "events, self.guard,", "events, OPEN,"),
    of(
        "events that are read do not tell their guard",
        f"{LOG}._batch",
        "events, self.guard,",
        "events, OPEN,",
        "late reads",
    ),
    of(
        "attaching does not tell the guard",
        f"{LOG}.attach",
        "finished, self.guard,",
        "finished, OPEN,",
        unseen=BY_READS,
    ),
    of("a guard does not rise", f"{LOG}.narrow", "next(narrowings)", "self.narrowed"),
    of("who is refused goes on watching", f"{GUARD}._answered", "if place in refused:", "if False:"),
    of(
        "who is refused is not told",
        f"{STREAMS}._refuse",
        "session.push(Broadcast(WatchEnded(0, topic.id, Forbidden.code)))",
        "pass",
    ),
    of(
        "a question about watchers that failed was asked",
        f"{GUARD}.check",
        "topic.asking = False",
        "topic.asking = future.exception() is not None",
    ),
    of(
        "watchers of a latest topic are not asked about again",
        f"{LATEST}._topic",
        "is_guarded(self._kind(identity))",
        "False",
        "clubs",
    ),
    of(
        "an answer about watchers lets what is newer out",
        f"{LATEST}._checked",
        "(answer.epoch, answer.n) < topic.picture.newest",
        "False",
        "clubs",
    ),
    of("a latest topic asks once", f"{LATEST}._attached", "if topic.unsure:", "if False:", "clubs"),
    of(
        "who is refused keeps its picture",
        f"{LATEST}._send",
        "session.send(_encoder(session.format)(Latest(topic.id, topic.cursor, True, [])))",
        "pass",
        "clubs",
    ),
    of("a first picture is as new as it may be", f"{LATEST}._first", "if not topic.guarded:", "if True:", "clubs"),
)
