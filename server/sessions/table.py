"""The sessions of a node, and the verbs that add and remove them.

A player has one session on a node where the newest login wins: a newer one that does not resume it replaces it (4004).
Under another login policy it may have several, and the session's actor says which, as it does for sessions on other
nodes (`server/actors/devices.py`). A host or service subject may have many. Newer is the session of the later hello,
whichever is answered first.
"""

from collections.abc import Callable, Sequence

from server.actors.devices import NEWEST_WINS
from server.runtime.metrics import Metrics
from server.sessions.binding import SessionActors
from server.sessions.end_reasons import ENDED_EXPIRED, ENDED_MOVED, ENDED_REPLACED, TOOK_OVER, Ending
from server.sessions.session import Session
from server.sessions.session_phases import Phase
from server.sessions.ticks import TickClock
from server.settings import GatewaySettings
from server.wire.messages import CloseCode

Told = Callable[[Session, Phase, Ending], None]
"""`told(session, before, ending)`: a session has ended; `before`: its phase until then."""


class SessionTable:
    """See the module's head. `sessions` by resume token, attached and detached; `players` by subject, the one that came
    last of each; `detached`, the one that is detached longest first."""

    def __init__(self, settings: GatewaySettings, ticks: TickClock, metrics: Metrics, actors: SessionActors) -> None:
        self._settings, self._ticks, self._metrics, self._actors = settings, ticks, metrics, actors
        self.sessions: dict[str, Session] = {}
        self.players: dict[str, Session] = {}
        self._others: dict[str, dict[Session, None]] = {}
        """Sessions of hosts and services by subject, and further ones of players."""
        self._one_each = settings.login_policy == NEWEST_WINS
        self.detached: dict[Session, None] = {}
        self._told: list[Told] = []
        self._added: list[Callable[[Session], None]] = []
        self._gone: list[Callable[[Session], None]] = []

    def on_end(self, told: Told) -> None:
        """Call `told` for each session that ends, before it leaves the table."""
        self._told.append(told)

    def on_add(self, told: Callable[[Session], None]) -> None:
        """Call `told` for each session that begins here or comes from another node, before its client is welcomed."""
        self._added.append(told)

    def on_release(self, told: Callable[[Session], None]) -> None:
        """Call `told` for each session that lives on another node now."""
        self._gone.append(told)

    # ---- questions ----

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def full(self) -> bool:
        """True if another session needs the place of an old one."""
        return len(self.sessions) >= self._settings.max_connections

    def of_client(self, resume: str | None, role: str, subject: str) -> Session | None:
        """The session that a client would resume, if it is here and the client's."""
        session = self.sessions.get(resume) if resume else None
        if session is None or (session.caller.subject, session.caller.role) != (subject, role):
            return None
        return session

    def of_subject(self, subject: str) -> list[Session]:
        """Every session of `subject`, of whatever role."""
        player = self.players.get(subject)
        return [*([player] if player is not None else ()), *self._others.get(subject, ())]

    def of_player(self, subject: str) -> list[Session]:
        """Every session of player `subject`, the one that came last first."""
        player = self.players.get(subject)
        if player is None:
            return []
        others = self._others.get(subject, ())
        return [player, *(session for session in others if session.caller.role == "player")]

    def rival(self, role: str, subject: str, earlier: Session | None) -> Session | None:
        """The session that a new or resumed one takes the place of; `earlier`: the one of the same client."""
        one_each = self._one_each and role == "player"
        rival = self.players.get(subject, earlier) if one_each else earlier
        return None if rival is None or rival.ended else rival

    # ---- sessions that come ----

    def add(self, session: Session, rival: Session | None) -> None:
        """Take in a session that begins here or comes from another node, in place of its player's `rival`."""
        assert session.resume not in self.sessions, f"{session} is here already"
        self.sessions[session.resume] = session
        subject, another = session.caller.subject, session
        if session.caller.role == "player":
            before = self.players.get(subject)
            self.players[subject] = session
            another = before if before is not None and before is not rival else session
        if another is not self.players.get(subject):
            self._others.setdefault(subject, {})[another] = None
        if rival is not None:
            rival.end(ENDED_REPLACED, CloseCode.REPLACED, TOOK_OVER)
        self._ticks.after(self._settings.heartbeat_interval_s, session.check)
        if session.phase == "arrived":
            self._await_client(session)
        for told in self._added:
            told(session)

    def inherit(self, session: Session) -> None:
        """Take in a session that was here in the process before; nobody is told."""
        assert session.resume not in self.sessions, f"{session} is here already"
        self.sessions[session.resume] = session
        subject, role = session.caller.subject, session.caller.role
        if role == "player" and subject not in self.players:
            self.players[subject] = session
        else:
            self._others.setdefault(subject, {})[session] = None

    def withdraw(self, session: Session) -> None:
        """Take back a session of which a newer copy comes."""
        self._remove(session)

    def several(self) -> list[list[str]]:
        """The sessions of each subject that has more than one, by resume token, in the order of `of_subject`."""
        found = [self.of_subject(subject) for subject in self._others]
        return [[session.resume for session in sessions] for sessions in found if len(sessions) > 1]

    def put_in_order(self, several: Sequence[Sequence[str]]) -> None:
        """Give sessions the order that they had in the process before."""
        for resumes in several:
            sessions = [session for resume in resumes if (session := self.sessions.get(resume)) is not None]
            if sessions:
                subject = sessions[0].caller.subject
                if sessions[0].caller.role == "player":
                    self.players[subject] = sessions.pop(0)
                self._others[subject] = dict.fromkeys(sessions)
        self.sessions = dict(sorted(self.sessions.items(), key=lambda entry: entry[1].began))

    def session_waits(self, session: Session) -> None:
        """An inherited session waits for its client as long as it has to yet."""
        self.detached[session] = None
        self._ticks.wheel.add(session.detached_at + self._settings.resume_window_s, session.expire)

    def attached(self, session: Session) -> None:
        """A client is about to resume the session: it is not waited for any more."""
        self.detached.pop(session, None)

    def session_detached(self, session: Session) -> None:
        """The connection is gone; the session waits for its client."""
        assert session.phase == "detached" and session.connection is None
        self._await_client(session)

    def _await_client(self, session: Session) -> None:
        self.detached[session] = None
        self._ticks.after(self._settings.resume_window_s, session.expire)

    # ---- sessions that go ----

    def session_ended(self, session: Session, before: Phase, ending: Ending) -> None:
        """Forget a session and take leave of its actor, unless it lives on elsewhere."""
        for told in self._told:
            told(session, before, ending)
        if before != "transferred":
            self._remove(session)
            self._actors.farewell_soon(session, ending.why)

    def make_room(self) -> bool:
        """End the session that is detached longest. False: there is none."""
        oldest = next(iter(self.detached), None)
        if oldest is not None:
            oldest.end(ENDED_EXPIRED)
        return oldest is not None

    def release(self, session: Session) -> None:
        """Let go of a session that lives on another node now; its actor is told nothing, since nothing has ended."""
        session.enter("transferred")
        for told in self._gone:
            told(session)
        self._remove(session)
        self._actors.release(session)

    def supersede(self, session: Session) -> None:
        """End a copy whose sender never learnt that it had arrived, and went on with the session."""
        self.release(session)
        session.end(ENDED_MOVED)

    def _remove(self, session: Session) -> None:
        if self.sessions.get(session.resume) is session:
            del self.sessions[session.resume]
        self.detached.pop(session, None)
        subject = session.caller.subject
        others = self._others.get(subject, {})
        leaves = session
        if self.players.get(subject) is session:
            del self.players[subject]
            further = [other for other in others if other.caller.role == "player"]
            if further:
                leaves = self.players[subject] = further[-1]
        if others.pop(leaves, self) is None and not others:
            del self._others[subject]
