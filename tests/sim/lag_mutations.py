"""Mutants of the rules by which those who lag see nothing before it is public (`server/activations/public_end.py`), and
the scenario that is to find each (`lagging.py`, `careers.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

END = "server.activations.public_end:PublicEnd"
LOG = "server.activations.event_log:EventLog"
TOPIC = "server.sessions.topic:Topic"
GUARD = "server.sessions.stream_guard:StreamGuard"
STREAMS = "server.sessions.streams:Streams"
ACTOR = "server.actors.actor:LoggedActor"


def of(name: str, where: str, old: str, new: str, unseen: str = "", scenario: str = "lagging") -> Mutant:
    return Mutant(name, 14, scenario, ((where, old, new),), unseen)


BY_ATTACHING: Final = "a node hears of the public end again when it attaches, and whoever lags may wait that long"
BY_THE_NEXT: Final = "a public end that falls comes back with the next word of it: whoever lags waits longer, no more"

RECORDED: Final = {"what is loaded is never public": 2}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    of("nobody lags", f"{ACTOR}.turns_away", "[] if log.public_seq < 0 else", "[] if True else"),
    of("who lags is not noted", f"{TOPIC}.clear", "if late:", "if False:"),
    of("who comes in goes on lagging", f"{TOPIC}.clear", "self.late.discard(watcher)", "pass"),
    of("an answer says of the wrong ones that they lag", f"{GUARD}._answered", "place in late", "place not in late"),
    of("a run of events is for those who lag too", f"{TOPIC}.is_prompt", "watcher not in self.late", "True"),
    of(
        "a run is given past the public end",
        f"{STREAMS}._deliver_late",
        "events[: max(0, topic.public_seq - first_seq)]",
        "events",
    ),
    of("what is loaded is public", f"{LOG}.delay", "PublicEnd(delay_s)", "PublicEnd(delay_s, self.durable_seq)"),
    of("what is loaded is never public", f"{LOG}.delay", "if self.durable_seq > 1:", "if False:"),
    of("what moves is public at once", f"{END}.parts", "group.due - now", "0.0"),
    of("what moves is never public", f"{END}.parts", "for group in self._groups", "for group in ()"),
    of("a group counts from its first event", f"{END}.note", "+ self.delay_s + GROUP_S", "+ GROUP_S"),
    of("a group is public before it is due", f"{END}.move", "due <= now", "due - self.delay_s <= now"),
    of("no more is made public after the first time", f"{LOG}._make_public", "self._await_public()", "pass"),
    of(
        "a public end is not told when it moves",
        f"{LOG}._make_public",
        'self._publish(self.durable_seq, [], "")',
        "pass",
        unseen=BY_ATTACHING,
    ),
    of("a public end may fall", f"{TOPIC}.make_public", "max(self.public_seq, ", "max(0, ", unseen=BY_THE_NEXT),
    of("events do not tell the public end", f"{LOG}._publish", "mark, self.public_seq)", "mark)"),
    of("events that are read do not tell the public end", f"{LOG}._batch", "mark, self.public_seq)", "mark)"),
    of("attaching does not tell the public end", f"{LOG}.attach", "self.guard, self.public_seq)", "self.guard)"),
    of(
        "results are made before the end is public",
        "game.match.results:ResultsPart.rate",
        "if held_back_s > 0:",
        "if False:",
        scenario="late careers",
    ),
)
