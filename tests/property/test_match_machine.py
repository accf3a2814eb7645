"""Any sequence of commands keeps the invariants of a match, its records replay to the same state,
and no command takes effect twice. A planted fault per invariant shows that the checks can fail."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import UNSET
from msgspec.structs import replace

from game.match import admission, describing, rules
from game.match.answered import Answer, Answered, Answers
from game.match.events import Described, Property, RoundEnded
from game.match.messages import AdmitParty
from game.match.state import MatchState
from game.messages import Assist, Death, Kill, MatchEvent, MatchOptions, Medal, Objective, Report, Score
from game.modes import custom, oddball, slayer
from game.modes.mode import ModeRules
from game.modes.registry import BUILT_IN, mode_of
from game.replay import final_state, verify
from server.errors import OutcomeUnknown, Rejected
from server.eventlog.entry import Record, state_hash
from tests.support.matches import Played

PLAYERS = ("ann", "bob", "cyd", "dee", "eve")
players = st.sampled_from(PLAYERS)
lineages = st.sampled_from(["host/a", "host/b"])
STEP_COUNT = 40

MODE_RULES = tuple(versions[-1] for versions in BUILT_IN)


def options_of(mode: ModeRules) -> st.SearchStrategy[MatchOptions]:
    return st.builds(
        MatchOptions,
        mode=st.just(mode.name),
        teams=st.integers(mode.fewest_teams, min(3, mode.most_teams)),
        max_players=st.integers(3, 5),
        score_limit=st.sampled_from([0, 3, 20]),
        time_limit_ms=st.sampled_from([0, 30_000]),
        join_in_progress=st.booleans(),
        countdown_ms=st.sampled_from([0, 2_000]),
    )


names = st.sampled_from(["region", "rank", "ranked"])
properties = st.lists(st.builds(Property, names, st.sampled_from([None, "eu", 1, True])), max_size=3)


def one_report(time_ms: int, objectives: tuple[str, ...]) -> st.SearchStrategy[Report]:
    now = st.just(time_ms)
    return st.one_of(
        st.builds(Kill, now, players, st.one_of(st.none(), players)),
        st.builds(Death, now, players),
        st.builds(Assist, now, players),
        st.builds(Medal, now, players, st.just("Snipe")),
        st.builds(Objective, now, players, st.sampled_from(objectives or ("flag",)), st.integers(-3, 5)),
        st.builds(Score, now, st.integers(-3, 5), team=st.one_of(st.none(), st.integers(0, 2))),
        st.builds(Score, now, st.integers(-3, 5), player=players),
    )


class MatchMachine(RuleBasedStateMachine):
    """`evolve` is what a planted fault replaces, `modes` those in which it shows."""

    modes: tuple[ModeRules, ...] = MODE_RULES
    evolve: Callable[[MatchState, Record], MatchState] = staticmethod(rules.evolve)

    def __init__(self) -> None:
        super().__init__()
        self.played = Played()
        self.done: dict[tuple[str, int], tuple[int, int]] = {}
        self.next_command = 1

    # ---- what the actor does ----

    def command(self, lineage: str, number: int, events: Callable[[], list[MatchEvent]]) -> None:
        played = self.played
        try:
            known = rules.answer_to(played.state, lineage, number)
            if known is not None:
                assert self.done[lineage, number] == (known.first_seq, known.next_seq)
                return
            before = played.state
            made = events()
        except (Rejected, OutcomeUnknown):
            return
        assert played.state is before
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rules, "evolve", type(self).evolve)
            first_seq, next_seq = played.emit(made, lineage, number)
        if next_seq > first_seq:
            assert (lineage, number) not in self.done, "took effect twice"
            self.done[lineage, number] = (first_seq, next_seq)

    def new_command(self) -> int:
        self.next_command += 1
        return self.next_command - 1

    # ---- commands ----

    @initialize(data=st.data(), begun=st.booleans())
    def create(self, data: st.DataObject, begun: bool) -> None:
        """Half of the matches are live, or counting, from the first step."""
        options = data.draw(st.sampled_from(type(self).modes).flatmap(options_of))
        state, wall_ms = self.played.state, self.played.wall_ms
        self.command("host/a", self.new_command(), lambda: rules.create(state, "m", "host", options, wall_ms))
        if begun:
            for player in PLAYERS[:3]:
                self.join(player, None)
            self.start("host")

    @rule(player=players, team=st.one_of(st.none(), st.integers(0, 3)))
    def join(self, player: str, team: int | None) -> None:
        self.command(f"{player}/x", self.new_command(), lambda: admission.join(self.played.state, player, team))

    @rule(
        members=st.lists(players, min_size=1, max_size=4), number=st.integers(1, 3), team=st.sampled_from([None, 0, 1])
    )
    def admit_party(self, members: list[str], number: int, team: int | None) -> None:
        state, command = self.played.state, self.new_command()
        message = AdmitParty("red", number, members, "l", command, team)
        self.command("ann/p", command, lambda: admission.admit_party(state, message, self.played.next_seq))

    @rule(player=players, reason=st.sampled_from(["left", "disconnected"]))
    def leave(self, player: str, reason: str) -> None:
        self.command(f"{player}/x", self.new_command(), lambda: admission.leave(self.played.state, player, reason))

    @rule(caller=st.sampled_from(["host", "host", "ann"]))
    def start(self, caller: str) -> None:
        state, wall_ms = self.played.state, self.played.wall_ms
        self.command("host/a", self.new_command(), lambda: rules.start(state, caller, state.time_ms, wall_ms))

    @rule(
        data=st.data(),
        after_ms=st.integers(-1, 3_000),
        lineage=lineages,
        caller=st.sampled_from(["host"] * 5 + ["bob"]),
    )
    def report(self, data: st.DataObject, after_ms: int, lineage: str, caller: str) -> None:
        state, wall_ms = self.played.state, self.played.wall_ms
        time_ms = max(0, state.time_ms + after_ms)
        events = data.draw(st.lists(one_report(time_ms, mode_of(state).objectives), min_size=1, max_size=4))
        self.command(lineage, self.new_command(), lambda: rules.report(state, caller, events, wall_ms))

    @precondition(lambda self: self.played.state.phase == "live" and bool(_present(self.played.state)))
    @rule(data=st.data(), after_ms=st.integers(0, 3_000))
    def kill(self, data: st.DataObject, after_ms: int) -> None:
        """A kill among those who are there: of what is reported at random most is refused with all that came along."""
        state, wall_ms = self.played.state, self.played.wall_ms
        there = st.sampled_from(_present(state))
        event = Kill(state.time_ms + after_ms, data.draw(there), data.draw(there))
        self.command("host/a", self.new_command(), lambda: rules.report(state, "host", [event], wall_ms))

    @rule(after_ms=st.integers(0, 5_000))
    def tick(self, after_ms: int) -> None:
        try:
            self.played.tick(self.played.state.time_ms + after_ms)
        except Rejected:
            return

    @rule(properties=properties, tags=st.sampled_from([None, [], ["a"], ["a", "b"]]))
    def describe(self, properties: list[Property], tags: list[str] | None) -> None:
        state = self.played.state
        self.command("host/a", self.new_command(), lambda: [*describing.describe(state, "host", 1, properties, tags)])

    @rule()
    def countdown_timer(self) -> None:
        self.played.emit(rules.countdown_over(self.played.state, self.played.wall_ms))

    @precondition(lambda self: len(self.played.records) > 25)
    @rule(how=st.sampled_from(["host", "vanished"]))
    def end(self, how: str) -> None:
        state, wall_ms = self.played.state, self.played.wall_ms
        if how == "vanished":
            self.played.emit(rules.host_vanished(state, wall_ms))
            return
        self.command("host/b", self.new_command(), lambda: rules.end(state, "host", state.time_ms, wall_ms))

    @precondition(lambda self: bool(self.done))
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A client that lost the answer asks again: the same answer, or that it is not known."""
        lineage, number = data.draw(st.sampled_from(sorted(self.done)))
        before = self.played.next_seq

        def never() -> list[MatchEvent]:
            raise AssertionError("a command that took effect is new again")

        self.command(lineage, number, never)
        assert self.played.next_seq == before

    # ---- invariants ----

    @invariant()
    def points_add_up(self) -> None:
        state, events = self.played.state, [record.event for record in self.played.records]
        lines = state.players.values()
        kills = [event for event in events if isinstance(event, Kill)]
        assert sum(line.medals for line in lines) == sum(isinstance(event, Medal) for event in events)
        assert sum(line.assists for line in lines) == sum(isinstance(event, Assist) for event in events)
        assert sum(line.objectives for line in lines) == sum(isinstance(event, Objective) for event in events)
        deaths = sum(isinstance(event, Death) for event in events)
        if state.options.mode == "recorded":
            assert sum(line.kills for line in lines) == len(kills)
            assert sum(line.deaths for line in lines) == deaths
        else:
            assert sum(line.kills for line in lines) <= len(kills)
            assert sum(line.deaths for line in lines) == deaths + len(kills)
        if state.options.teams and state.options.mode != "recorded":
            given_to_teams = sum(
                event.points for event in events if isinstance(event, Score) and event.team is not None
            )
            before = sum(sum(event.team_scores) for event in events if isinstance(event, RoundEnded))
            assert sum(state.team_scores) + before == sum(line.score for line in lines) + given_to_teams
        if state.options.mode == "slayer":
            given = sum(event.points for event in events if isinstance(event, Score) and event.player is not None)
            assert sum(line.score for line in lines) == sum(line.kills for line in lines) + given

    @invariant()
    def rounds_are_within_the_mode(self) -> None:
        state, events = self.played.state, [record.event for record in self.played.records]
        mode, ended = mode_of(state), [event for event in events if isinstance(event, RoundEnded)]
        assert [event.number for event in ended] == list(range(1, len(ended) + 1))
        assert len(ended) <= (mode.rounds if mode.rounds > 1 else 0)
        if state.rounds is not UNSET:
            assert (state.rounds.played, sum(state.rounds.won)) == (
                len(ended),
                sum(event.winner is not None for event in ended),
            )
            over = len(ended) == mode.rounds or 2 * max(state.rounds.won) > mode.rounds
            assert not over or state.phase == "ended"

    @invariant()
    def a_description_is_what_was_said_last(self) -> None:
        known: dict[str, Any] = {}
        for record in self.played.records:
            if isinstance(record.event, Described):
                known |= {each.name: each.value for each in record.event.properties}
        told, _ = describing.as_told(self.played.state)
        assert told == [Property(name, known[name]) for name in sorted(known) if known[name] is not None]

    @invariant()
    def the_roster_is_lawful(self) -> None:
        state = self.played.state
        present = [line for line in state.players.values() if line.present]
        if state.options.mode != "recorded":
            assert len(present) <= state.options.max_players
            assert all((line.team is not None) == (state.options.teams > 0) for line in state.players.values())
        assert len(state.team_scores) == (state.options.teams if state.host else 0)

    @invariant()
    def the_clock_never_runs_back(self) -> None:
        times = [record.event.time_ms for record in self.played.records]
        assert times == sorted(times)
        assert self.played.state.time_ms == (times[-1] if times else 0)

    @invariant()
    def phases_follow_each_other(self) -> None:
        names = [type(record.event).__name__ for record in self.played.records]
        for once in ("Created", "Countdown", "Started", "Ended"):
            assert names.count(once) <= 1
        assert "Ended" not in names[:-1]
        assert (self.played.state.phase == "ended") == ("Ended" in names)
        limit = self.played.state.options.score_limit
        if self.played.state.phase == "live" and limit and self.played.state.options.mode != "recorded":
            assert _best(self.played.state) < limit

    @invariant()
    def answers_are_those_given(self) -> None:
        for (lineage, number), given in self.done.items():
            try:
                answer = rules.answer_to(self.played.state, lineage, number)
            except OutcomeUnknown:
                continue
            assert answer is not None and (answer.first_seq, answer.next_seq) == given

    @invariant()
    def a_replay_is_the_match(self) -> None:
        state = MatchState()
        for record in self.played.records:
            state = rules.evolve(state, record)
        assert state == self.played.state

    def teardown(self) -> None:
        log = self.played.stored(segment_entries=7, open_entries=2)
        if log.chunks:
            assert state_hash(verify(log).state) == state_hash(self.played.state) == state_hash(final_state(log))


MatchMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=STEP_COUNT, deadline=None)
TestMatch = MatchMachine.TestCase


def _present(state: MatchState) -> list[str]:
    return sorted(player for player, line in state.players.items() if line.present)


def _best(state: MatchState) -> int:
    if state.options.teams:
        return max(state.team_scores)
    return max((line.score for line in state.players.values()), default=0)


# ---- planted faults ----------------------------------------------------------------------------


def _kill_scores_nobody(state: MatchState, record: Record) -> MatchState:
    after = rules_evolve(state, record)
    return replace(after, players=state.players) if isinstance(record.event, Kill) else after


def _answers_forgotten(state: MatchState, record: Record) -> MatchState:
    return replace(rules_evolve(state, record), answered=Answered())


def _answers_misplaced(state: MatchState, record: Record) -> MatchState:
    after = rules_evolve(state, record)
    if record.lineage is None:
        return after
    wrong = Answers(0, (Answer(record.command, record.seq + 1, record.seq + 2),))
    return replace(after, answered=after.answered.set(record.lineage, wrong))


def _rounds_are_not_counted(state: MatchState, record: Record) -> MatchState:
    after = rules_evolve(state, record)
    return replace(after, rounds=state.rounds) if isinstance(record.event, RoundEnded) else after


def _properties_are_replaced(state: MatchState, record: Record) -> MatchState:
    return rules_evolve(replace(state, properties=UNSET) if isinstance(record.event, Described) else state, record)


def _clock_stands(state: MatchState, record: Record) -> MatchState:
    return replace(rules_evolve(state, record), time_ms=state.time_ms)


def _depends_on_the_past(state: MatchState, record: Record) -> MatchState:
    """Not a function of state and record: live play and replay part."""
    after = rules_evolve(state, record)
    _seen.append(record.seq)
    return replace(after, started_wall_ms=len(_seen))


rules_evolve = rules.evolve
_seen: list[int] = []


@pytest.mark.parametrize(
    ("fault", "mode"),
    [
        (_kill_scores_nobody, slayer),
        (_answers_forgotten, slayer),
        (_answers_misplaced, slayer),
        (_clock_stands, slayer),
        (_depends_on_the_past, slayer),
        (_rounds_are_not_counted, oddball),
        (_properties_are_replaced, custom),
    ],
)
def test_a_planted_fault_is_caught(fault: Any, mode: Any) -> None:
    planted = type("Planted", (MatchMachine,), {"evolve": staticmethod(fault), "modes": mode.VERSIONS})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            planted,
            settings=settings(
                max_examples=200,
                stateful_step_count=STEP_COUNT,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                derandomize=True,  # the same plays each time: a search that is lucky nearly always fails now and then
            ),
        )
