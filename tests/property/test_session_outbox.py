"""Resuming gives everything after the client's number, in order, or nothing: never a part."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.sessions.outbox import Outbox

MAX_MESSAGES, MAX_BYTES = 12, 60


class OutboxMachine(RuleBasedStateMachine):
    """A server's outbox, a lossy connection, and a client that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(MAX_MESSAGES, MAX_BYTES)
        self.made: list[bytes] = []
        self.flight: list[bytes] = []
        self.client: list[bytes] = []
        self.connected = True
        self.over = False

    @precondition(lambda self: not self.over)
    @rule(size=st.integers(1, 30))
    def push(self, size: int) -> None:
        frame = b"%04d" % (len(self.made) + 1) + b"." * size
        room = len(self.outbox) < MAX_MESSAGES and self.outbox.bytes + len(frame) <= MAX_BYTES
        assert self.outbox.add(frame) == room
        if room:
            self.made.append(frame)
        else:
            self.over = True

    @precondition(lambda self: self.connected)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        wanted = data.draw(st.integers(1, 5))
        for frame in self.outbox.unsent():
            self.flight.append(frame)
            wanted -= 1
            if not wanted:
                break

    @precondition(lambda self: self.connected)
    @rule()
    def arrive(self) -> None:
        self.client += self.flight
        self.flight = []

    @precondition(lambda self: self.connected and not self.over)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        """Acknowledgements may be late or repeated."""
        assert self.outbox.ack(data.draw(st.integers(0, len(self.client))))

    @rule()
    def claim_too_much(self) -> None:
        assert not self.outbox.ack(self.outbox.sent + 1)
        assert not self.outbox.rewind(self.outbox.sent + 1)

    @precondition(lambda self: self.connected)
    @rule()
    def cut(self) -> None:
        self.connected = False
        self.flight = []

    @precondition(lambda self: not self.connected)
    @rule()
    def resume(self) -> None:
        recovered = self.outbox.rewind(len(self.client))
        assert recovered == (not self.over)
        if recovered:
            self.connected = True

    @precondition(lambda self: not self.connected)
    @rule(data=st.data())
    def forgetful_client(self, data: st.DataObject) -> None:
        """A client that has less than it once acknowledged cannot be served from here."""
        if self.outbox.acked and not self.over:
            before = (self.outbox.acked, self.outbox.sent, len(self.outbox))
            assert not self.outbox.rewind(data.draw(st.integers(-1, self.outbox.acked - 1)))
            assert before == (self.outbox.acked, self.outbox.sent, len(self.outbox))

    @invariant()
    def the_client_has_a_beginning_without_gap_or_repeat(self) -> None:
        assert self.client == self.made[: len(self.client)]

    @invariant()
    def bounded(self) -> None:
        assert len(self.outbox) <= MAX_MESSAGES
        assert self.outbox.bytes <= MAX_BYTES
        assert self.outbox.acked <= self.outbox.sent <= self.outbox.last
        if self.over:
            assert self.outbox.bytes == 0

    def teardown(self) -> None:
        """Whoever resumes and reads on ends with everything."""
        if not self.over:
            assert self.outbox.rewind(len(self.client))
            self.client += self.outbox.unsent()
            assert self.client == self.made


TestOutbox = OutboxMachine.TestCase
TestOutbox.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
