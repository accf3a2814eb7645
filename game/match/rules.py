"""The rules of a match. Pure: a state, a command and the time in, events out.

    command -> rule -> [event, …] -> evolve(state, record) -> state
    after each command: `endings.due(state, clock) -> Ended | RoundEnded | None`

`evolve` is the only way a state changes, live and in replay. A rule raises `Rejected` with one of
the codes of `CODES` (`game/match/codes.py`); then nothing happened. A mode's rules say how kills and objectives
count, and when it ends (`game/modes/mode.py`, `game/match/endings.py`).

In every mode `Score` adjusts a team, or a player and its team. Killing one's own team is a death, but no kill.
A player that has been in a match may come back to it, on the same team. Events that the server makes carry the match
clock of the newest event: the clock is the host's alone, and a report that is retried late is never behind a tick.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import UNSET
from msgspec.structs import astuple, replace

from game.careers.events import Outcome, Rated
from game.match import describing, endings, guests, hosting, spectating
from game.match.answered import Answer, Answered, Answers
from game.match.codes import reject, single_line
from game.match.events import (
    Described,
    Kicked,
    Named,
    RoundEnded,
)
from game.match.hosting import must_host
from game.match.state import OPEN, EntryOptions, Line, Lines, MatchState, Origin, PartyEntry
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
    MatchOptions,
    Medal,
    Objective,
    PartyJoined,
    PlayOptions,
    Report,
    Score,
    Started,
)
from game.modes.mode import MAX_POINTS, ModeRules
from game.modes.registry import FIRST_VERSION, MODES, mode_of
from server.errors import OutcomeUnknown
from server.eventlog.entry import Record

LATEST: Final = "latest"
"""The word for the newest match where a match is named, in commands. No new match is called so, nor by what
commands take for an option, or addresses for a step upwards: nobody could name it."""
MAX_COMMANDS: Final = 64
"""Answers that are remembered of one lineage: at least as many as a session may have in flight."""
MAX_LINEAGES: Final = 512
"""Lineages that are remembered; past that, the one that was silent for longest is forgotten."""
MAX_PARTIES: Final = 256
"""Parties whose newest coming is remembered; past that, the one that came first is forgotten."""


# ---- duplicates -----------------------------------------------------------------------------


def scoped(role: str, subject: str, command: str, lineage: str) -> str:
    """The key of the commands of one kind (`match.join`) of a caller's lineage: callers cannot answer for, or use up,
    each other's, also where a host and a player have the same name."""
    return f"{subject}/{role} {command}/{lineage}"


def scoped_before(subject: str, lineage: str) -> str:
    """The same as earlier versions have logged it, without role and kind."""
    return f"{subject}/{lineage}"


def answer_to(state: MatchState, lineage: str, command: int) -> Answer | None:
    """The answer that scoped `lineage` got for `command`; None if it is new. Raises
    `OutcomeUnknown` where that is no longer known."""
    answers = state.answered.get(lineage)
    if answers is None:
        return None
    for answer in reversed(answers.recent):
        if answer.command == command:
            return answer
    if command <= answers.floor:
        raise OutcomeUnknown(f"command {command} is older than the last {MAX_COMMANDS}")
    return None


def _remember(answered: Answered, record: Record) -> Answered:
    """`answered` with the event of `record` as part of its command's answer."""
    lineage, command, seq = record.lineage or "", record.command, record.seq
    before = answered.get(lineage, Answers())
    place = len(before.recent)
    while place and before.recent[place - 1].command > command:
        place -= 1
    if place and before.recent[place - 1].command == command:
        first_seq, place = before.recent[place - 1].first_seq, place - 1
        rest = before.recent[place + 1 :]
    else:
        first_seq, rest = seq, before.recent[place:]
    recent = (*before.recent[:place], Answer(command, first_seq, seq + 1), *rest)
    floor = before.floor
    if len(recent) > MAX_COMMANDS:
        floor, recent = max(floor, recent[0].command), recent[1:]
    after = answered.set(lineage, Answers(floor, recent))
    return after.without_the_least_missed() if len(after) > MAX_LINEAGES else after


# ---- commands -------------------------------------------------------------------------------


def create(
    state: MatchState, name: str, host: str, options: MatchOptions, wall_ms: int, password: str = "", salt: str = ""
) -> list[MatchEvent]:
    """A new match in its lobby. `salt`: hexadecimal, for the password where there is one."""
    if state.host:
        raise reject("match_exists")
    if name == LATEST or name.startswith("-") or not name.strip("."):
        raise reject("bad_name", f"{name}: it is no `{LATEST}`, begins with no `-`, and is more than dots")
    single_line(options.map_name)
    if options.source or options.counts:
        raise reject("bad_options", "source and counts are an import's")
    mode = MODES.newest(options.mode)
    if mode is None:
        raise reject("unknown_mode", f"{options.mode}; there are {', '.join(MODES.names())}")
    options = mode.filled(options)
    play = _play(options)
    if not mode.recording and (play.max_players < 1 or play.teams > play.max_players):
        raise reject("bad_options", f"{play.teams} teams, {play.max_players} players")
    if not mode.fewest_teams <= play.teams <= mode.most_teams:
        raise reject("bad_options", f"{play.teams} teams; {mode.name} has {mode.fewest_teams} to {mode.most_teams}")
    return [Created(0, host, options, wall_ms, mode.version), *guests.password_event(_entry(options), password, salt)]


def _play(options: MatchOptions) -> PlayOptions:
    """The part of options that are filled in which is kept as `MatchState.options`."""
    return PlayOptions(*astuple(options)[: len(PlayOptions.__struct_fields__)])


def _entry(options: MatchOptions) -> EntryOptions:
    return EntryOptions(*(getattr(options, name) for name in EntryOptions.__struct_fields__))


def start(state: MatchState, caller: str, time_ms: int, wall_ms: int, term: int = 1) -> list[MatchEvent]:
    """Begin the countdown, or go live at once."""
    must_host(state, caller, term)
    if state.phase != "lobby":
        raise reject("already_started")
    now_ms = max(state.time_ms, time_ms)
    if mode_of(state).recording:
        return [Started(now_ms, wall_ms)]
    if not state.players.present:
        raise reject("no_players")
    if state.options.countdown_ms == 0:
        return [Started(now_ms, wall_ms)]
    return [Countdown(now_ms, state.options.countdown_ms, wall_ms)]


def countdown_left_ms(state: MatchState, wall_ms: int) -> int:
    """The rest of the countdown under way at Unix time `wall_ms`, by whichever node's clock that is: one that is
    ahead of the clock at which it began ends it early, one that is behind makes it no longer than its length."""
    length_ms = state.options.countdown_ms
    if state.countdown_wall_ms is UNSET:
        return length_ms
    left_ms = max(0, state.countdown_wall_ms + length_ms - wall_ms)
    return min(left_ms, length_ms)


def countdown_over(state: MatchState, wall_ms: int) -> list[MatchEvent]:
    """Go live because the server's own timer of the countdown has run out, whatever the host's clock says."""
    return [Started(state.time_ms, wall_ms)] if state.phase == "countdown" else []


def report(state: MatchState, caller: str, events: Sequence[Report], wall_ms: int, term: int = 1) -> list[MatchEvent]:
    """Accept the host's events, all or none."""
    must_host(state, caller, term)
    begun = _begun_by(state, events[0].time_ms, wall_ms)
    if state.phase != "live" and not begun:
        raise reject("not_live")
    now_ms, mode = state.time_ms, mode_of(state)
    for event in events:
        if event.time_ms < now_ms:
            raise reject("clock_backwards", f"{event.time_ms} after {now_ms}")
        now_ms = event.time_ms
        _check(state, mode, event)
    return [*begun, *events]


def tick(state: MatchState, caller: str, time_ms: int, wall_ms: int, term: int = 1) -> list[MatchEvent]:
    """Go live if the countdown is over by the host's clock `time_ms`."""
    must_host(state, caller, term)
    return _begun_by(state, time_ms, wall_ms)


def end(state: MatchState, caller: str, time_ms: int, wall_ms: int, term: int = 1) -> list[MatchEvent]:
    """End the match at the host's word."""
    must_host(state, caller, term)
    return [endings.ended(state, time_ms, "host_ended", wall_ms)]


def host_vanished(state: MatchState, wall_ms: int, number: int = 0) -> list[MatchEvent]:
    """Let the successor take over, by event `number`, because the host has been silent for too long; end the match
    where nobody was named."""
    taken_over = hosting.taken_over(state, number, wall_ms)
    if taken_over:
        return taken_over
    if not state.host or state.phase == "ended":
        return []
    return [endings.ended(state, state.time_ms, "host_vanished", wall_ms)]


# ---- conditions of commands -----------------------------------------------------------------


def _begun_by(state: MatchState, time_ms: int, wall_ms: int) -> list[MatchEvent]:
    """`Started`, where the countdown is over by the host's clock."""
    if state.phase != "countdown":
        return []
    over_ms = (state.countdown_from_ms or 0) + state.options.countdown_ms
    return [Started(max(over_ms, state.time_ms), wall_ms)] if time_ms >= over_ms else []


def _check(state: MatchState, mode: ModeRules, event: Report) -> None:
    """Raise `Rejected` unless `event` fits roster and mode."""
    if isinstance(event, Medal):
        single_line(event.medal)
    elif isinstance(event, Objective):
        single_line(event.name)
        if mode.objectives and event.name not in mode.objectives:
            raise reject("unknown_objective", f"{event.name}; {mode.name} has {', '.join(mode.objectives)}")
    if isinstance(event, Score):
        if (event.team is None) == (event.player is None):
            raise reject("no_target", "exactly one of the two")
        if event.team is not None and event.team >= state.options.teams:
            raise reject("bad_team", str(event.team))
    if mode.recording:
        return
    if event.player is not None:
        _playing(state, event.player)
    if isinstance(event, Kill):
        if event.victim is None:
            raise reject("victim_required")
        if event.victim == event.player:
            raise reject("same_player", event.player)
        _playing(state, event.victim)


def _playing(state: MatchState, player: str) -> None:
    """Raise `Rejected` unless `player` is in the match now."""
    line = state.players.get(player)
    if line is None:
        raise reject("unknown_player", player)
    if not line.present:
        raise reject("not_present", player)


# ---- evolve ---------------------------------------------------------------------------------


def evolve(state: MatchState, record: Record) -> MatchState:
    """The state after `record`. Total and pure: any event of the log fits any state. Raises `UnknownRules` where the
    match is played by rules that this program does not have."""
    event = record.event
    changes = _EVOLVE[type(event)](state, event)
    changes["time_ms"] = max(state.time_ms, event.time_ms)
    if record.lineage is not None:
        changes["answered"] = _remember(state.answered, record)
    return replace(state, **changes)


def list_order(state: MatchState) -> int | None:
    """The place of a match among those that have not ended, as far as everybody may know, newest first by when it was
    made."""
    lives = state.phase != "ended" or not spectating.is_public(state)
    return -state.created_wall_ms if state.host and lives else None


def finished(state: MatchState) -> bool:
    """Whether the log is complete with this state: no event follows the match's end, and its results where it has
    them."""
    return state.phase == "ended" and (state.outcome is UNSET or state.outcome.whole)


Changes = dict[str, Any]
_ABSENT: Final = Line(present=False)


def _with_line(state: MatchState, player: str, **more: int) -> Lines:
    """All lines, with numbers of one player's raised."""
    line = state.players.get(player, _ABSENT)
    return state.players.set(player, replace(line, **{name: getattr(line, name) + n for name, n in more.items()}))


def _with_points(state: MatchState, team: int | None, points: int) -> tuple[int, ...]:
    scores = state.team_scores
    if team is None or team >= len(scores):
        return scores
    return (*scores[:team], scores[team] + points, *scores[team + 1 :])


def _team_of(state: MatchState, player: str) -> int | None:
    return state.players.get(player, _ABSENT).team


def _created(state: MatchState, event: Created) -> Changes:
    entry = _entry(event.options)
    play = _play(MODES.find(event.options.mode, event.rules).filled(event.options))
    return {
        "host": event.host,
        "options": play,
        "rules": UNSET if event.rules == FIRST_VERSION else event.rules,
        "entry": UNSET if entry == OPEN else entry,
        "origin": Origin(event.options.source, event.options.counts) if event.options.source else UNSET,
        "created_wall_ms": event.wall_ms,
        "team_scores": (0,) * play.teams,
        "spectator_delay_ms": event.options.spectator_delay_ms or UNSET,
    }


def _joined(state: MatchState, event: Joined) -> Changes:
    member = event.number or UNSET
    line = replace(state.players.get(event.player, _ABSENT), present=True, team=event.team, member=member)
    return {"players": state.players.set(event.player, line)}


def _party_joined(state: MatchState, event: PartyJoined) -> Changes:
    players = state.players
    for place in event.members:
        line = replace(players.get(place.player, _ABSENT), present=True, team=place.team, member=place.number)
        players = players.set(place.player, line)
    parties = {} if state.parties is UNSET else {**state.parties}
    parties[event.party] = PartyEntry(event.number, event.members[0].number)
    if len(parties) > MAX_PARTIES:
        del parties[min(parties, key=lambda party: parties[party].first_seq)]
    changes: Changes = {"players": players, "parties": parties}
    if state.reserved is not UNSET:
        changes["reserved"] = {name: kept for name, kept in state.reserved.items() if name != f"party/{event.party}"}
    return changes


def _left(state: MatchState, event: Left) -> Changes:
    line = replace(state.players.get(event.player, _ABSENT), present=False)
    return {"players": state.players.set(event.player, line)}


def _kicked(state: MatchState, event: Kicked) -> Changes:
    changes = guests.EVOLVE[Kicked](state, event)
    line = state.players.get(event.player)
    if line is not None and line.present:
        changes["players"] = state.players.set(event.player, replace(line, present=False))
    return changes


def _named(state: MatchState, event: Named) -> Changes:
    local = event.local or UNSET
    line = replace(state.players.get(event.player, _ABSENT), name=event.name, local=local)
    return {"players": state.players.set(event.player, line)}


def _counting(state: MatchState, event: Countdown) -> Changes:
    began = event.wall_ms or UNSET
    return {"phase": "countdown", "countdown_from_ms": event.time_ms, "countdown_wall_ms": began}


def _started(state: MatchState, event: Started) -> Changes:
    counted_ms = event.time_ms
    if state.countdown_from_ms is not None:
        counted_ms = max(counted_ms, state.countdown_from_ms + state.options.countdown_ms)
    return {
        "phase": "live",
        "live_from_ms": counted_ms,
        "started_wall_ms": event.wall_ms,
        "countdown_wall_ms": UNSET,
    }


def _over(state: MatchState, event: Ended) -> Changes:
    return {
        "phase": "ended",
        "end_reason": event.reason,
        "winner": event.winner,
        "ended_wall_ms": event.wall_ms,
        "countdown_wall_ms": UNSET,
        "outcome": Outcome() if event.rated else UNSET,
    }


def _rated(state: MatchState, event: Rated) -> Changes:
    before = () if state.outcome is UNSET else state.outcome.results
    return {"outcome": Outcome(event.season, event.rating_group, (*before, *event.results), not event.more)}


def _killed(state: MatchState, event: Kill) -> Changes:
    mode, victim = mode_of(state), event.victim
    if mode.recording or victim is None:
        return {"players": _with_line(state, event.player, kills=1)}
    team = _team_of(state, event.player)
    fallen = replace(state, players=_with_line(state, victim, deaths=1))
    if team is not None and team == _team_of(state, victim):
        kills, points = 0, mode.betrayal_points
    else:
        kills, points = 1, _worth(mode, state, event)
    if not (kills or points):
        return {"players": fallen.players}
    return {
        "players": _with_line(fallen, event.player, kills=kills, score=points),
        "team_scores": _with_points(state, team, points),
    }


def _worth(mode: ModeRules, state: MatchState, event: Kill | Objective) -> int:
    """The points that the mode gives, within its bounds, and whole."""
    points = mode.points(state, event)
    if type(points) is int and -MAX_POINTS <= points <= MAX_POINTS:
        return points
    return int(max(-MAX_POINTS, min(MAX_POINTS, points)))


def _died(state: MatchState, event: Death) -> Changes:
    return {"players": _with_line(state, event.player, deaths=1)}


def _assisted(state: MatchState, event: Assist) -> Changes:
    return {"players": _with_line(state, event.player, assists=1)}


def _decorated(state: MatchState, event: Medal) -> Changes:
    return {"players": _with_line(state, event.player, medals=1)}


def _objective(state: MatchState, event: Objective) -> Changes:
    points = _worth(mode_of(state), state, event)
    return {
        "players": _with_line(state, event.player, objectives=1, score=points),
        "team_scores": _with_points(state, _team_of(state, event.player), points),
    }


def _scored(state: MatchState, event: Score) -> Changes:
    if event.player is None:
        return {"team_scores": _with_points(state, event.team, event.points)}
    return {
        "players": _with_line(state, event.player, score=event.points),
        "team_scores": _with_points(state, _team_of(state, event.player), event.points),
    }


_EVOLVE: Final[dict[type, Callable[[MatchState, Any], Changes]]] = {
    Created: _created,
    Joined: _joined,
    Left: _left,
    Countdown: _counting,
    Started: _started,
    Ended: _over,
    Kill: _killed,
    Death: _died,
    Assist: _assisted,
    Medal: _decorated,
    Objective: _objective,
    Score: _scored,
    PartyJoined: _party_joined,
    RoundEnded: endings.round_ended,
    Described: describing.evolve,
    Rated: _rated,
    **guests.EVOLVE,
    **hosting.EVOLVE,
    Kicked: _kicked,
    Named: _named,
}
