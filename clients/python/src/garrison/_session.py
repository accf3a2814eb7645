"""The session as the client knows it: its resume token, the count of its pushes, and its heartbeats. Pure."""

from garrison._stats import Stats
from garrison.errors import BadFrame
from garrison.messages import Hello, Seen, Welcome
from garrison.options import Options


class Session:
    """Numbers that outlive a connection. Pushes are counted here and acknowledged up to `last_push`."""

    def __init__(self, options: Options, stats: Stats) -> None:
        self.welcome: Welcome | None = None
        """The latest welcome."""
        self.last_push = 0
        """The number of the last push of this session that was taken in."""
        self._resume: str | None = None
        self._acked = 0
        self._unacked_bytes = 0
        self._beats_before = 0
        self._beats = 0
        self._single_beats = 0
        self._ack_every = options.ack_every
        self._device = options.device
        self._ack_bytes = options.ack_bytes
        self._stats = stats

    def hello(self, token: str, name: str, seen: list[Seen], presence: str | None, number: int) -> Hello:
        """The first message of a connection, which resumes the session if there is one to resume. `seen`: the
        pictures to go on from; `presence`: the cursor of watched players."""
        resume = self._resume or None
        if not resume:
            seen, presence = [], None
        return Hello(token, resume, self.last_push, name, True, seen, presence, self._device, id=number)

    def welcomed(self, welcome: Welcome) -> None:
        """Go on with the session, or begin to count a new one."""
        self._stats.connects += 1
        if welcome.recovered:
            self._stats.recovered += 1
        else:
            self.last_push = self._acked = self._unacked_bytes = 0
            self._beats_before, self._beats = self._beats_before + self._beats, 0
        self.welcome = welcome
        self._resume = welcome.resume

    def abandon(self) -> None:
        """Do not resume: the server might only send again what cannot be read."""
        self._resume = None

    def take_in(self, seq: object, size: int) -> bool:
        """Count a push of `size` bytes. False for one that was here before; raises `BadFrame` for a gap."""
        if not isinstance(seq, int) or seq <= self.last_push:
            return False
        if seq != self.last_push + 1:
            self._stats.push_gaps += 1
            raise BadFrame(f"push {seq} after {self.last_push}")
        self.last_push = seq
        self._stats.pushes += 1
        self._unacked_bytes += size
        return True

    @property
    def ack_due(self) -> bool:
        """So much is unacknowledged that an `ack` goes out without waiting for the heartbeat."""
        return self.last_push - self._acked >= self._ack_every or self._unacked_bytes >= self._ack_bytes

    def acknowledge(self) -> int:
        """The number to acknowledge, noted as acknowledged."""
        self._acked, self._unacked_bytes = self.last_push, 0
        return self.last_push

    def beats(self, count: int) -> None:
        """Heartbeats without an id that took effect since the session began."""
        self._beats = count
        self._count_beats()

    def beat(self) -> None:
        """A heartbeat with an id was answered."""
        self._single_beats += 1
        self._count_beats()

    def _count_beats(self) -> None:
        self._stats.heartbeats_acknowledged = self._beats_before + self._beats + self._single_beats
