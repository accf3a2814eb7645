"""The guard of a node's streams: watchers are asked about again once who may watch has narrowed.

An actor that may refuse watchers says with its events as of which guard (`server.actors.guard.Guard`) they are. A
watcher about whom it was not asked under that guard gets none of them: its cursor stays where it is, the actor is
asked, and the subscription goes on or ends. So nobody is shown an event that is newer than the one that shut it out,
whatever is lost on the way, also where its session came from another node. A stream whose actor lets everybody watch
has no guard, and costs a comparison for each run of events.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from server.actors.guard import OPEN, Guard, TurnedAway
from server.errors import GarrisonError
from server.sessions.ports import ClientCalls
from server.sessions.session import Session
from server.sessions.topic import Topic

ASKED_AT_ONCE: Final = 500
"""Watchers about whom one message asks an actor."""


class StreamGuard:
    """See the module's head. `end`: ends a subscription that is refused. `go_on`: serves those that are not."""

    def __init__(
        self,
        actors: ClientCalls,
        end: Callable[[Topic[Session], Session], None],
        go_on: Callable[[Topic[Session]], None],
    ) -> None:
        self._actors, self._end, self._go_on = actors, end, go_on

    def check(self, topic: Topic[Session]) -> None:
        """Ask about the watchers of whom the actor has said nothing under the newest guard, if there are any. A
        question that fails is asked anew when there is news of the topic, or at its next renewal."""
        if topic.guard == OPEN or topic.asking:
            return
        sessions = topic.unasked(ASKED_AT_ONCE)
        if not sessions:
            return
        try:
            found = self._actors.ask_now(topic.id, "turns_away", ([session.caller for session in sessions],))
        except GarrisonError:
            return
        if not isinstance(found, asyncio.Future):
            topic.asked = set(sessions)
            self._answered(topic, sessions, found, topic.guard)
            return
        topic.asking, topic.asked, under = True, set(sessions), topic.guard

        def answered(future: "asyncio.Future[TurnedAway]") -> None:
            topic.asking = False
            if future.cancelled() or future.exception() is not None:
                topic.asked.clear()
            else:
                self._answered(topic, sessions, future.result(), under)

        found.add_done_callback(answered)

    def _answered(self, topic: Topic[Session], sessions: Sequence[Session], answer: TurnedAway, under: Guard) -> None:
        """Take in whom the actor lets watch as of its guard. Where the topic's rose meanwhile, they are asked about
        again, but not at once where the answer is older than the guard `under` which it was asked for: it is that of an
        owner that was replaced."""
        guard, refused, late = (answer.epoch, answer.n), set(answer.refused), set(answer.late)
        asked, topic.asked = topic.asked, set()
        topic.raise_guard(guard)
        for place, session in enumerate(sessions):
            if session not in asked:
                continue
            if place in refused:
                self._end(topic, session)
            else:
                topic.clear(session, guard, place in late)
        if guard >= under:
            self._go_on(topic)
