"""The application of the samples: the game and two kinds without tables of their own. States, events and
messages are those of `maker/old_app.py`, which made what is stored, and never change."""

import msgspec
from msgspec.structs import replace

from game.app import App as Game
from server.actors.actor import Actor, Caller, LoggedActor, Record, existing, read_only, reminder, remote
from server.actors.app import Route
from server.wire.bounds import Int64
from server.wire.messages import Reply, Request


class PurseState(msgspec.Struct, frozen=True):
    coins: int = 0
    note: str = ""
    rung: tuple[int, ...] = ()
    reminded: dict[str, int] = {}


class TallyState(msgspec.Struct, frozen=True):
    total: int = 0


class Counted(msgspec.Struct, tag="counted", array_like=True, frozen=True):
    time_ms: int
    n: int


class PurseAdd(Request, tag="purse.add", frozen=True):
    key: str
    coins: Int64
    note: str = ""


class PurseRemind(Request, tag="purse.remind", frozen=True):
    key: str
    due_ms: Int64


class PurseGet(Request, tag="purse.get", frozen=True):
    key: str


class PurseIs(Reply, tag="purse", frozen=True):
    key: str
    coins: int
    note: str
    rung: list[int]


class TallyAdd(Request, tag="tally.add", frozen=True):
    key: str
    n: Int64


class TallyGet(Request, tag="tally.get", frozen=True):
    key: str


class TallyIs(Reply, tag="tally", frozen=True):
    key: str
    total: int
    next_seq: int


class Purse(Actor[PurseState]):
    kind = "purse"
    durability = "write_behind"
    State = PurseState

    @remote
    def add(self, caller: Caller, message: PurseAdd) -> PurseIs:
        self.state = replace(self.state, coins=self.state.coins + message.coins, note=message.note)
        return self._told(message.id)

    @remote
    async def remind_at(self, caller: Caller, message: PurseRemind) -> PurseIs:
        await self.remind(self.ring, message.due_ms)
        return self._told(message.id)

    @reminder
    def ring(self, due_ms: int) -> None:
        self.state = replace(self.state, rung=(*self.state.rung, due_ms))

    @read_only
    def get(self, caller: Caller, message: PurseGet) -> PurseIs:
        return self._told(message.id)

    def _told(self, number: int) -> PurseIs:
        return PurseIs(number, self.key, self.state.coins, self.state.note, list(self.state.rung))


class Tally(LoggedActor[TallyState]):
    """Finished at 1,000 or more."""

    kind = "tally"
    State = TallyState
    Event = Counted

    @staticmethod
    def evolve(state: TallyState, record: Record) -> TallyState:
        return TallyState(state.total + record.event.n)

    @staticmethod
    def finished(state: TallyState) -> bool:
        return state.total >= 1_000

    @remote
    def add(self, caller: Caller, message: TallyAdd) -> TallyIs:
        self.emit(Counted(self.next_seq, message.n))
        return TallyIs(message.id, self.key, self.state.total, self.next_seq)

    @existing
    def get(self, caller: Caller, message: TallyGet) -> TallyIs:
        return TallyIs(message.id, self.key, self.state.total, self.next_seq)


App = replace(
    Game,
    name="golden",
    actors=(*Game.actors, Purse, Tally),
    requests=(*Game.requests, PurseAdd, PurseRemind, PurseGet, TallyAdd, TallyGet),
    answers=(*Game.answers, PurseIs, TallyIs),
    events=(*Game.events, Counted),
    routes={
        **Game.routes,
        PurseAdd: Route(Purse, Purse.add, lambda caller, message: message.key),
        PurseRemind: Route(Purse, Purse.remind_at, lambda caller, message: message.key),
        PurseGet: Route(Purse, Purse.get, lambda caller, message: message.key),
        TallyAdd: Route(Tally, Tally.add, lambda caller, message: message.key),
        TallyGet: Route(Tally, Tally.get, lambda caller, message: message.key),
    },
)
