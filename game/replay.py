"""Replays of stored matches: states, totals, and lines of text. Pure.

    StoredLog -> steps(log) -> Step(record, state before, state after) … -> feed_line(step)
              -> verify(log) -> Verified, or `Corrupt` naming segment and event

The fold itself is the engine's (`server/eventlog/fold.py`); this file says what a match's log is made
of and how its events read. The pace of the terminal is the command's affair.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import UNSET

from game.careers.events import Rated
from game.match import board, rules, spectating
from game.match.events import (
    Described,
    HostChanged,
    Invited,
    Kicked,
    Named,
    PasswordSet,
    Reserved,
    RoundEnded,
    SuccessorNamed,
    Uninvited,
    Unkicked,
)
from game.match.hosting import host_name
from game.match.state import MatchState
from game.messages import (
    Assist,
    Countdown,
    Created,
    Death,
    Ended,
    Joined,
    Kill,
    Left,
    MatchEvent,
    Medal,
    Objective,
    PartyJoined,
    PlayerLine,
    Score,
    Scoreboard,
    Started,
)
from server.actors.actor import Caller
from server.actors.replaying import ReplayKind
from server.errors import BadInput, Corrupt
from server.eventlog import fold, segment
from server.eventlog.entry import decode_record
from server.eventlog.fold import LoggedKind
from server.eventlog.ports import StoredLog
from server.texts import escaped

MATCH: Final = LoggedKind("match", MatchState, MatchEvent, rules.evolve, rules.finished)
"""The log of a match as `server/eventlog/fold.py` reads it; `Match` in `game/match/actor.py` writes it."""

Step = fold.Step[MatchState]
SCENE: Final = board.Page(100)
"""Lines of the scoreboard that clients are shown of a replay."""


class Totals(msgspec.Struct, frozen=True):
    """Counts of one player, as a recording has them."""

    kills: int
    deaths: int
    medals: int


def steps(log: StoredLog, from_ms: int = 0) -> Iterator[Step]:
    """Every event from match clock `from_ms` on, with states. Raises `Corrupt`."""
    return fold.steps(MATCH, log, from_ms)


def readable(log: StoredLog, from_ms: int = 0, *, excerpt: bool = False) -> Iterator[Step | fold.LogGap]:
    """The same of a log, or of an `excerpt` of one, that may be damaged, with its gaps."""
    return fold.readable(MATCH, log, from_ms, excerpt=excerpt)


def unruled(log: StoredLog) -> Iterator[Step | fold.LogGap]:
    """The events of a match whose rules this program does not have, or a part of them: the state of each step is that
    of the keyframe before it, which is all that is known. With gaps, as `readable`."""
    state = MatchState()
    for chunk in log.chunks:
        try:
            entries = segment.decode(chunk.data, chunk.first_seq).entries
            found = newest_keyframe(StoredLog(log.next_seq, log.head, [chunk]))
            records = [decode_record(entry, MatchEvent) for entry in entries]
        except Corrupt as error:
            yield fold.LogGap(chunk.first_seq, chunk.last_seq, error.message)
            continue
        before, state = state, state if found is None else found[1]
        for record in records:
            yield Step(record, before, state)
            before = state


def at(log: StoredLog, *, seq: int | None = None, ms: int | None = None) -> fold.Fold[MatchState]:
    """The match after event `seq`, or at match clock `ms`, from the keyframe before it. Raises `Corrupt`."""
    return fold.at(MATCH, log, seq=seq, ms=ms)


def final_state(log: StoredLog) -> MatchState:
    """The state after the last event. Raises `Corrupt`."""
    return fold.final_state(MATCH, log)


def verify(log: StoredLog) -> fold.Verified[MatchState]:
    """Everything that is stored of a match, recomputed and compared. Raises `Corrupt`."""
    return fold.verify(MATCH, log)


def newest_keyframe(log: StoredLog) -> tuple[int, MatchState] | None:
    """The newest stored state of a match whose rules this program does not have, and the event that follows it."""
    return fold.newest_keyframe(MATCH, log)


# ---- to clients -----------------------------------------------------------------------------


def scene(match: str, state: MatchState, next_seq: int) -> Scoreboard:
    """The scoreboard of a match as it was before event `next_seq`, as `match.get` would have answered then."""
    return board.scoreboard(state, match, 0, next_seq, page=SCENE)


def players_in(event: MatchEvent) -> Iterator[str]:
    """The players whom an event names."""
    match event:
        case PartyJoined(members=members):
            yield from (place.player for place in members)
        case Kill(player=player, victim=victim):
            yield player
            if victim is not None:
                yield victim
        case Invited(players=players) | Uninvited(players=players) | Reserved(players=players):
            yield from players
        case (
            Joined(player=player)
            | Left(player=player)
            | Kicked(player=player)
            | Unkicked(player=player)
            | Named(player=player)
            | Death(player=player)
            | Assist(player=player)
            | Medal(player=player)
            | Objective(player=player)
            | Score(player=player)
        ):
            if player is not None:
                yield player


def public_until_ms(state: MatchState, caller: Caller, wall_ms: int) -> int | None:
    """The match clock up to which `caller` may see a match that is now in `state`; None: all that has happened."""
    if spectating.is_public(state) or caller.role in ("service", "node"):
        return None
    player = caller.subject if caller.role == "player" else None
    if not spectating.is_onlooker(state, player, host_name(caller.role, caller.subject)):
        return None
    delay_ms = spectating.delay_ms(state)
    return spectating.public_until_ms(delay_ms, state.started_wall_ms, wall_ms, state.live_from_ms or 0)


SHOWN: Final = ReplayKind(scene, players_in, public_until_ms)
"""How replays of matches are shown to clients."""


def totals(state: MatchState) -> dict[str, Totals]:
    """Kills, deaths and medals of each player, by name."""
    return {player: Totals(line.kills, line.deaths, line.medals) for player, line in sorted(state.players.items())}


def names(state: MatchState) -> dict[str, str]:
    """Display names by player, of an imported match."""
    return {player: line.name for player, line in sorted(state.players.items()) if line.name is not UNSET}


# ---- text -----------------------------------------------------------------------------------

COLUMNS: Final = ("player", "team", "score", "kills", "deaths", "assists", "medals", "objectives")


def parse_clock(text: str) -> int:
    """`MM:SS`, `H:MM:SS` or seconds, as ms of the match clock. Raises `BadInput`."""
    fields = text.split(":")
    if not 1 <= len(fields) <= 3 or not all(field.isascii() and field.isdigit() for field in fields):
        raise BadInput(f"not a match time (MM:SS): {text[:32]!r}")
    numbers = [int(field) for field in fields]
    if len(numbers) > 1 and any(number > 59 for number in numbers[1:]):
        raise BadInput(f"not a match time (MM:SS): {text[:32]!r}")
    seconds = 0
    for number in numbers:
        seconds = seconds * 60 + number
    return seconds * 1000


def clock(time_ms: int) -> str:
    """The match clock as `MM:SS.mmm`; minutes go on past 99."""
    seconds, ms = divmod(time_ms, 1000)
    return f"{seconds // 60:02d}:{seconds % 60:02d}.{ms:03d}"


def feed_line(step: Step) -> str:
    """The event of `step` as a line of the kill feed, in words. Text of clients (medals, maps) is escaped:
    a terminal would obey control characters."""
    event = step.record.event
    return f"{clock(event.time_ms)}  {escaped(_words(event, step))}"


def gap_line(gap: fold.LogGap) -> str:
    """The place of a gap in the feed."""
    events = f"event {gap.first_seq}" if gap.first_seq == gap.last_seq else f"events {gap.first_seq} to {gap.last_seq}"
    return f"--------   {events} cannot be read: {escaped(gap.why)}"


def _words(event: MatchEvent, step: Step) -> str:
    match event:
        case Created(host=host, options=options):
            where = f" on {options.map_name}" if options.map_name else ""
            return f"match created by {host}: {options.mode}{where}"
        case Joined(player=player, team=team):
            return f"{_called(step, player)} joined" + (f" team {team}" if team is not None else "")
        case Named(player=player, name=name):
            return f"{player} is called {name}" if name else f"{player} is known to this match only"
        case PasswordSet():
            return "a password lets in"
        case Described(properties=properties, tags=tags):
            told = [f"{each.name}{'' if each.value is None else f' = {each.value}'}" for each in properties]
            return f"searched by {', '.join([*told, *(f'#{tag}' for tag in tags or [])])}"
        case Invited(by=by, players=players):
            return f"{by or 'the host'} lets in {', '.join(players)}"
        case Uninvited(players=players):
            return f"no longer let in: {', '.join(players)}"
        case Reserved(players=players, party=party, places=places, until_wall_ms=until):
            whom = [*players, *([f"party {party} ({places})"] if party is not None else [])]
            return f"places are {'reserved for' if until else 'free again, of'} {', '.join(whom)}"
        case Kicked(player=player, reason=reason):
            return f"{player} was removed by the host" + (f": {reason}" if reason else "")
        case Unkicked(player=player):
            return f"{player} may come again"
        case SuccessorNamed(host=host):
            return f"{host} is to take over" if host is not None else "nobody is to take over"
        case HostChanged(host=host, reason=reason):
            return f"{host} hosts the match" + (" (the host was silent)" if reason == "silent" else "")
        case PartyJoined(party=party, members=members):
            return f"party {party} joined: {', '.join(_place(place.player, place.team) for place in members)}"
        case Left(player=player, reason=reason):
            return f"{_called(step, player)} {'left' if reason == 'left' else 'lost the connection'}"
        case Countdown(length_ms=length_ms):
            return f"the match starts in {length_ms / 1000:g} s"
        case Started():
            return "the match is live"
        case Kill(player=player, victim=None):
            return f"{_called(step, player)} kills ({step.after.players[player].kills})"
        case Kill(player=player, victim=victim):
            return f"{_called(step, player)} kills {_called(step, victim)}{_score(step)}"
        case Death(player=player):
            return f"{_called(step, player)} dies"
        case Assist(player=player):
            return f"{_called(step, player)} assists"
        case Medal(player=player, medal=medal):
            return f"{_called(step, player)} earns {medal}"
        case Objective(player=player, name=name):
            return f"{_called(step, player)}: {name or 'objective'}{_score(step)}"
        case Score(player=player, team=team, points=points):
            return f"{_called(step, player) if player is not None else f'team {team}'} scores {points:+d}{_score(step)}"
        case RoundEnded(number=number, winner=winner, team_scores=scores):
            return f"round {number} is over{f': {winner} wins it' if winner else ''}  [{' - '.join(map(str, scores))}]"
        case Rated(results=results, rating_group=group):
            return f"{len(results)} results" + (f", ratings of {group}" if group else "")
        case Ended(reason=reason, winner=winner):
            why = reason.replace("_", " ")
            return f"the match is over ({why})" + (f": {winner} wins" if winner else "")


def _called(step: Step, player: str | None) -> str:
    """The display name of a player, in matches that have them, else its key."""
    return "nobody" if player is None else _name(step.after, player)


def _name(state: MatchState, player: str) -> str:
    line = state.players.get(player)
    return player if line is None or line.name is UNSET or not line.name else line.name


def _place(player: str, team: int | None) -> str:
    return player if team is None else f"{player} (team {team})"


def _score(step: Step) -> str:
    """The team scores, where the event changed them."""
    if step.after.team_scores == step.before.team_scores:
        return ""
    return f"  [{' - '.join(map(str, step.after.team_scores))}]"


def scoreboard_lines(state: MatchState) -> list[str]:
    """The scoreboard as aligned text, a heading first."""
    rows = [COLUMNS, *(_row(line, _name(state, line.player)) for line in board.lines(state))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(line: PlayerLine, name: str) -> tuple[str, ...]:
    numbers = (line.score, line.kills, line.deaths, line.assists, line.medals, line.objectives)
    return (escaped(name), "-" if line.team is None else str(line.team), *map(str, numbers))
