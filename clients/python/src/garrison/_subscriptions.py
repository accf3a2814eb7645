"""Subscriptions to topics: asked for, given up, taken up again in a new session, and left, whatever the connection
does. Streams and what else can be watched have this life in common. Pure.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from garrison._base import Message, Reply, Request
from garrison._frames import pack
from garrison._phases import SUBSCRIPTION, SubscriptionPhase, move
from garrison._requests import Call, Requests
from garrison._retry import Chance, repeatable
from garrison._timers import Timers
from garrison.errors import ConnectionLost, DeadlineExceeded, GarrisonError, OutcomeUnknown, Overloaded
from garrison.messages import Failed, Unwatch

ASK_AGAIN_S: Final = 0.5
"""Most that is added to the server's hint before a refused subscription is asked for again."""


class Subscription:
    """A topic that the program watches. Its phase is changed by `Subscriptions` only."""

    __slots__ = ("call", "error", "phase", "topic")

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.phase: SubscriptionPhase = "asking"
        self.error: GarrisonError | None = None
        """The reason of phase `failed`."""
        self.call: Call | None = None
        """The request under way that asks for it."""

    @property
    def wanted(self) -> bool:
        """News are to come."""
        return self.phase in ("asking", "live")

    def request(self) -> Request[Any]:
        """The request that asks for it, as it stands now."""
        raise NotImplementedError

    def answered(self, reply: Reply) -> bool:
        """Take the answer in. True if it brings the program something to read."""
        raise NotImplementedError

    def drop(self) -> None:
        """Forget what the program has not read."""
        raise NotImplementedError


class Subscriptions:
    """All subscriptions of a client, one a topic. `send` sends a message now, where a session is up, and says whether
    it did; `stir` hears of subscriptions that have something to read."""

    def __init__(
        self,
        requests: Requests,
        timers: Timers,
        chance: Chance,
        send: Callable[[Message], bool],
        take_id: Callable[[], int],
        stir: Callable[[Subscription], None],
    ) -> None:
        self.stir = stir
        self._requests = requests
        self._timers = timers
        self._chance = chance
        self._send = send
        self._take_id = take_id
        self._by_topic: dict[str, Subscription] = {}
        self._leaving: dict[str, int] = {}
        """Topics that the server may still send, with the id of the unwatch under way, 0 if none is."""

    def __iter__(self) -> Iterator[Subscription]:
        return iter(self._by_topic.values())

    # ---- the program's side -------------------------------------------------------------------

    def add(self, subscription: Subscription, now: float) -> None:
        """Subscribe. Raises `BadInput` for what cannot be sent, `ValueError` for a topic that is watched."""
        pack(subscription.request())
        if subscription.topic in self._by_topic:
            raise ValueError(f"{subscription.topic} is watched already")
        self._by_topic[subscription.topic] = subscription
        self._ask(subscription, now)

    def leave(self, subscription: Subscription) -> None:
        """End a subscription and drop what is not read."""
        if subscription.phase == "closed":
            return
        self._enter(subscription, "closed")
        subscription.drop()
        del self._by_topic[subscription.topic]
        self._give_up(subscription)
        self.stir(subscription)

    # ---- the server's side --------------------------------------------------------------------

    def wanted(self, topic: str) -> Subscription | None:
        """The subscription for which news of `topic` came. None if nobody wants them: then it is left."""
        subscription = self._by_topic.get(topic)
        if subscription is not None and subscription.wanted:
            return subscription
        if not self._leaving.get(topic):
            self._unwatch(topic)
        return None

    def on_welcome(self, recovered: bool, now: float) -> None:
        """A session is up. Recovered, it has its subscriptions, and those that were being left are left again;
        a new one has none."""
        leaving, self._leaving = self._leaving, {}
        for topic in leaving if recovered else ():
            self._unwatch(topic)
        for subscription in self._by_topic.values():
            if not recovered and subscription.phase == "live":
                self.ask_anew(subscription, now)

    def on_left(self, reply: Reply) -> None:
        """Take a reply that may answer an unwatch. Refused, as a session that moves does, it is sent again when
        news come or after resuming."""
        for topic, number in self._leaving.items():
            if number == reply.id:
                self._leaving[topic] = 0
                if not isinstance(reply, Failed):
                    del self._leaving[topic]
                return

    def ask_anew(self, subscription: Subscription, now: float) -> None:
        """Ask again for a subscription that was live or paused."""
        self._enter(subscription, "asking")
        self._ask(subscription, now)

    def pause(self, subscription: Subscription) -> None:
        """Give a subscription up for now."""
        self._enter(subscription, "paused")
        self._give_up(subscription)

    def ask_again(self, subscription: Subscription, now: float) -> None:
        """The wait before another request is over."""
        if subscription.phase == "asking" and subscription.call is None:
            self._ask(subscription, now)

    def ended(self, topic: str, error: GarrisonError) -> None:
        """The server has ended the subscription of `topic`. If it is asked for anew already, the answer decides."""
        subscription = self._by_topic.get(topic)
        if subscription is not None and subscription.phase == "live":
            self._fail(subscription, error)

    def fail_all(self, error: GarrisonError) -> None:
        """No news will come any more; readers get `error` after what is there to read."""
        for subscription in self._by_topic.values():
            if subscription.phase != "failed":
                self._fail(subscription, error)

    def _ask(self, subscription: Subscription, now: float) -> None:
        """Send the request of a subscription in phase `asking`."""
        self._leaving.pop(subscription.topic, None)
        try:
            subscription.call = self._requests.submit(
                subscription.request(),
                now,
                lambda call, reply, error, at: self._on_answer(subscription, call, reply, error, at),
            )
        except Overloaded:
            self._timers.at(now + self._chance() * ASK_AGAIN_S, "ask", subscription)

    def _on_answer(
        self, subscription: Subscription, call: Call, reply: Reply | None, error: GarrisonError | None, now: float
    ) -> None:
        """Note the answer to a request. Done here and not by a task of the program: news may follow at once."""
        if subscription.call is not call or subscription.phase != "asking":  # given up since, and perhaps wanted again
            heir = self._by_topic.get(subscription.topic)
            if (heir is None or not heir.wanted) and (error is None or isinstance(error, OutcomeUnknown)):
                self._unwatch(subscription.topic)
            return
        subscription.call = None
        if reply is not None:
            self._enter(subscription, "live")
            if subscription.answered(reply):
                self.stir(subscription)
        elif isinstance(error, ConnectionLost | DeadlineExceeded):
            self._ask(subscription, now)
        elif error is not None and repeatable(error):
            self._timers.at(now + (error.retry_after_s or 0) + self._chance() * ASK_AGAIN_S, "ask", subscription)
        elif error is not None:
            self._fail(subscription, error)

    def _fail(self, subscription: Subscription, error: GarrisonError) -> None:
        self._enter(subscription, "failed")
        subscription.error = error
        subscription.call = None
        self.stir(subscription)

    def _give_up(self, subscription: Subscription) -> None:
        """Take back a request that is not sent yet, and unwatch."""
        call, subscription.call = subscription.call, None
        if call is not None and not call.number:
            self._requests.cancel(call.order)
        self._unwatch(subscription.topic)

    def _unwatch(self, topic: str) -> None:
        """Nobody reads `topic`: unwatch it, now or after resuming, until the server has done so."""
        number = self._take_id()
        self._leaving[topic] = number if self._send(Unwatch(topic, id=number)) else 0

    def _enter(self, subscription: Subscription, phase: SubscriptionPhase) -> None:
        subscription.phase = move(SUBSCRIPTION, subscription.phase, phase)
