"""Each condition of the rules (docs/guarantees.md) taken out of the running code, in the
simulation only, and the scenario that finds it.

A mutant is a rewrite of one or more functions: a piece of their source, which must be there exactly
once, is replaced, so that a mutant whose condition has moved fails instead of doing nothing.
`python -m tests.sim.mutants [--seeds N] [NAME ...]` looks for the first seed of each and prints the
table; `test_mutants.py` plays the recorded seeds.
"""

import argparse
import importlib
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any, Final

from tests.sim import (
    abandoned,
    admissions,
    board_plays,
    careers,
    clubs,
    countdowns,
    directed,
    dismissed,
    erasures,
    facts,
    friendships,
    gone,
    handovers,
    heirs,
    hidden,
    lagging,
    lapses,
    late_logins,
    logins,
    lost_logins,
    parties,
    pictures,
    presence_cores,
    presence_successions,
    presences,
    prunings,
    rosters,
    rotations,
    sanctions,
    shut_out,
    storm,
    strangers,
    successions,
    uninvited,
)
from tests.sim.board_mutations import MUTANTS as OF_BOARDS
from tests.sim.board_mutations import RECORDED as SEEDS_OF_BOARDS
from tests.sim.career_mutations import MUTANTS as OF_CAREERS
from tests.sim.erasure_mutations import MUTANTS as OF_ERASURES
from tests.sim.erasure_mutations import RECORDED as SEEDS_OF_ERASURES
from tests.sim.faults import Aim
from tests.sim.friend_mutations import MUTANTS as OF_FRIENDS
from tests.sim.friend_mutations import RECORDED as SEEDS_OF_FRIENDS
from tests.sim.heir_mutations import MUTANTS as OF_HEIRS
from tests.sim.heir_mutations import RECORDED as SEEDS_OF_HEIRS
from tests.sim.lag_mutations import MUTANTS as OF_LAGGING
from tests.sim.lag_mutations import RECORDED as SEEDS_OF_LAGGING
from tests.sim.login_mutations import MUTANTS as OF_LOGINS
from tests.sim.login_mutations import RECORDED as SEEDS_OF_LOGINS
from tests.sim.match_mutations import MUTANTS as OF_MATCHES
from tests.sim.match_mutations import RECORDED as SEEDS_OF_MATCHES
from tests.sim.moderation_mutations import MUTANTS as OF_MODERATION
from tests.sim.mutations import MUTANTS, RECORDED, WITHIN, Mutant
from tests.sim.party_mutations import MUTANTS as OF_PARTIES
from tests.sim.presence_mutations import MUTANTS as OF_PRESENCE
from tests.sim.presence_mutations import RECORDED as SEEDS_OF_PRESENCE
from tests.sim.prune_mutations import MUTANTS as OF_RETENTION
from tests.sim.prune_mutations import RECORDED as SEEDS_OF_RETENTION
from tests.sim.recorder_mutations import MUTANTS as OF_RECORDERS
from tests.sim.recorder_mutations import RECORDED as SEEDS_OF_RECORDERS
from tests.sim.seen_mutations import MUTANTS as OF_SEEN
from tests.sim.storm import Options
from tests.sim.succession_mutations import MUTANTS as OF_SUCCESSIONS
from tests.sim.succession_mutations import RECORDED as SEEDS_OF_SUCCESSIONS
from tests.sim.watch_mutations import MUTANTS as OF_WATCHING
from tests.sim.watch_mutations import RECORDED as SEEDS_OF_WATCHING

Scenario = Callable[[int], list[str]]


@contextmanager
def rewritten(where: str, old: str, new: str) -> Iterator[None]:
    """Replace `old` in a function's source while this lasts. Raises `LookupError` if it is not there
    exactly once."""
    module_name, _, path = where.partition(":")
    module = importlib.import_module(module_name)
    holder: Any = module
    *owners, name = path.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    original = inspect.getattr_static(holder, name)
    source = textwrap.dedent(inspect.getsource(getattr(original, "__func__", original)))
    if source.count(old) != 1:
        raise LookupError(f"{where} has {old!r} {source.count(old)} times")
    changed = source.replace(old, new)
    file = f"<mutant {len(linecache.cache)} of {where}>"
    linecache.cache[file] = (len(changed), None, changed.splitlines(keepends=True), file)
    made: dict[str, Any] = {}
    exec(compile(changed, file, "exec"), module.__dict__, made)
    places = [(holder, name), *([] if owners else _imports(module, original))]
    for place, known_as in places:
        setattr(place, known_as, made[name])
    try:
        yield
    finally:
        for place, known_as in places:
            setattr(place, known_as, original)
        del linecache.cache[file]


def _imports(module: Any, function: Any) -> list[tuple[Any, str]]:
    """Other modules of the running code that know a function of `module` by a name of their own."""
    return [
        (other, known_as)
        for other in list(sys.modules.values())
        if other is not module and other.__name__.startswith(("server.", "game."))
        for known_as, value in list(vars(other).items())
        if value is function
    ]


def play(mutant: Mutant, seed: int) -> list[str]:
    """The violations that the mutant's scenario shows on `seed`."""
    with ExitStack() as stack:
        for edit in mutant.edits:
            stack.enter_context(rewritten(*edit))
        return SCENARIOS[mutant.scenario](seed)


def _storm(seed: int, options: Options) -> list[str]:
    return storm.play(seed, options).outcome.violations


def _aimed(*aims: Aim, **more: Any) -> Scenario:
    known: dict[str, Any] = {"journal": "none", "faults": 6, "length_s": 8.0, "aims": aims}
    return partial(_storm, options=Options(**known | more))


ALL: Final = (
    *MUTANTS,
    *OF_BOARDS,
    *OF_CAREERS,
    *OF_ERASURES,
    *OF_FRIENDS,
    *OF_LAGGING,
    *OF_LOGINS,
    *OF_MATCHES,
    *OF_MODERATION,
    *OF_PARTIES,
    *OF_PRESENCE,
    *OF_RETENTION,
    *OF_HEIRS,
    *OF_RECORDERS,
    *OF_SEEN,
    *OF_SUCCESSIONS,
    *OF_WATCHING,
)
"""Mutants of the engine and of the game."""
SEEDS: Final = {
    **RECORDED,
    **SEEDS_OF_BOARDS,
    **SEEDS_OF_ERASURES,
    **SEEDS_OF_FRIENDS,
    **SEEDS_OF_LAGGING,
    **SEEDS_OF_LOGINS,
    **SEEDS_OF_MATCHES,
    **SEEDS_OF_PRESENCE,
    **SEEDS_OF_RECORDERS,
    **SEEDS_OF_RETENTION,
    **SEEDS_OF_SUCCESSIONS,
    **SEEDS_OF_HEIRS,
    **SEEDS_OF_WATCHING,
}
LATE: Final = tuple(Aim("statements", (1, 4), name, "late") for name in ("claim", "write", "append", "migrate"))
MOVES: Final = (Aim("drain", (0.3, 1)), Aim("stop", (0.3, 1)), Aim("join"))
SCENARIOS: Final[dict[str, Scenario]] = {
    "storm": partial(_storm, options=Options()),
    "storm watched": partial(_storm, options=Options(watches=True)),
    "split": _aimed(Aim("split", (4, 6)), faults=2),
    "pause": _aimed(Aim("pause", (3, 6)), Aim("pause", (3, 6)), Aim("answer", (3, 5), "write"), faults=4),
    "pause local": _aimed(Aim("pause", (3, 6)), Aim("append", (3, 5)), journal="local", faults=4),
    "renewal": _aimed(Aim("answer", (3, 6), "renew_lease"), faults=5),
    "append": _aimed(Aim("append", (3, 5)), journal="local", faults=6, length_s=12.0),
    "append redis": _aimed(Aim("append", (3, 5)), Aim("pause", (3, 5)), journal="redis", length_s=12.0),
    "outage": _aimed(Aim("outage", (2, 5)), Aim("split", (2, 5)), Aim("silence", (2, 5)), length_s=5.0),
    "late": _aimed(*LATE, Aim("crash", (0.3, 1)), Aim("crash", (0.3, 1)), Aim("pause", (2, 4)), faults=8),
    "late claims": _aimed(Aim("statements", (2, 4), "claim", "late"), Aim("crash"), journal="local", faults=8),
    "late writes": _aimed(Aim("statements", (1, 3), "write", "late"), faults=5),
    "lost answers": _aimed(Aim("statements", (1, 3), "", "forget"), faults=4, fences=False),
    "crash": _aimed(Aim("crash", (0.3, 3)), faults=4),
    "crash ahead": _aimed(
        Aim("crash", (0.3, 3)),
        Aim("statements", (2, 4), "append", "refuse"),
        Aim("statements", (2, 4), "append", "refuse"),
        faults=9,
    ),
    "crash pruned": _aimed(Aim("crash", (0.3, 3)), Aim("crash", (1, 4)), faults=4, prunes=True),
    "crash pruned far": _aimed(Aim("crash", (0.3, 3)), journal="local", faults=4, shared=False, prunes=True),
    "crash local": _aimed(Aim("crash", (0.3, 3)), journal="local", faults=4),
    "crash redis": _aimed(Aim("crash", (0.3, 3)), journal="redis", faults=4),
    "crash far": _aimed(Aim("crash", (0.3, 3)), journal="local", faults=4, shared=False),
    "crash locks": _aimed(
        Aim("crash", (0.3, 2)),
        Aim("locks", (3, 5)),
        Aim("statements", (2, 4), "write", "slow"),
        journal="local",
        faults=9,
    ),
    "moves": _aimed(*MOVES, faults=5),
    "moves late": _aimed(
        *MOVES, Aim("statements", (2, 4), "migrate", "forget"), Aim("statements", (2, 4), "migrate", "late"), faults=9
    ),
    "isolated": directed.isolated,
    "isolated local": partial(directed.isolated, journal="local"),
    "isolated redis": partial(directed.isolated, journal="redis"),
    "stopped": directed.stopped,
    "halves": directed.halves,
    "turns": directed.turns,
    "bells": directed.bells,
    "rewound": directed.rewound,
    "orphans": directed.orphans,
    "rooms": directed.rooms,
    "evicted": directed.evicted,
    "stale": directed.stale,
    "inherited": directed.inherited,
    "given": directed.given,
    "forgetful": directed.forgetful,
    "pictures": pictures.pictures,
    "presences": presences.presences,
    "presence cores": presence_cores.presence_cores,
    "presence views": presence_cores.presence_views,
    "presence successions": presence_successions.presence_successions,
    "clubs": clubs.clubs,
    "shut out": shut_out.shut_out,
    "late reads": shut_out.late_reads,
    "lagging": lagging.lagging,
    "hidden": hidden.hidden,
    "forgotten word": hidden.forgotten_word,
    "busy": lapses.busy,
    "wedged": lapses.wedged,
    "lapse": lapses.lapse,
    "facts": facts.facts,
    "rosters": rosters.rosters,
    "sanctions": sanctions.sanctions,
    "parties": parties.parties,
    "late words": parties.late_words,
    "uninvited": uninvited.uninvited,
    "logins": logins.logins,
    "late logins": late_logins.late_logins,
    "unheard": lost_logins.unheard,
    "unseen": lost_logins.unseen,
    "overtaken": lost_logins.overtaken,
    "erasures": erasures.erasures,
    "friendships": friendships.friendships,
    "crossings": friendships.crossings,
    "admissions": admissions.admissions,
    "crossings of matches": admissions.crossings,
    "handovers": handovers.handovers,
    "vaults": directed.vaults,
    "countdowns": countdowns.countdowns,
    "abandoned": abandoned.abandoned,
    "dismissed": dismissed.dismissed,
    "strangers": strangers.strangers,
    "copied": strangers.copied,
    "cloned": strangers.cloned,
    "forgotten": gone.forgotten,
    "vanished": gone.vanished,
    "results": gone.results,
    "boards": board_plays.boards,
    "careers": careers.careers,
    "late careers": careers.late_careers,
    "prunings": prunings.prunings,
    "heirs": heirs.heirs,
    "rotations": rotations.play,
    "successions": successions.successions,
    "late heirs": successions.late_heirs,
}


@cache
def sound(scenario: str, seed: int) -> list[str]:
    """The violations without any mutant: there must be none."""
    return SCENARIOS[scenario](seed)


def first_seed(mutant: Mutant, seeds: Iterable[int]) -> tuple[int | None, str]:
    """The first of `seeds` that finds it, and how."""
    for seed in seeds:
        wrong = play(mutant, seed)
        if wrong and not sound(mutant.scenario, seed):
            return seed, next((line for line in reversed(wrong[0].splitlines()) if line.strip(" |+-")), "").strip(" |")
    return None, ""


def in_order(mutant: Mutant) -> list[int]:
    """All seeds that may find it, the recorded one first."""
    first = SEEDS.get(mutant.name, 1)
    return [first, *(seed for seed in range(1, WITHIN + 1) if seed != first)]


def main() -> int:
    parser = argparse.ArgumentParser(description="look for the mutants of the ownership rules")
    parser.add_argument("--seeds", type=int, default=WITHIN)
    parser.add_argument("names", nargs="*", help="parts of names; all without")
    options = parser.parse_args()
    missed = 0
    for mutant in ALL:
        if options.names and not any(name in mutant.name for name in options.names):
            continue
        recorded = SEEDS.get(mutant.name, 1)
        seed, how = first_seed(
            mutant, [*range(1, options.seeds + 1), *([recorded] if recorded > options.seeds else [])]
        )
        missed += seed is None and not mutant.unseen
        found = f"seed {seed}" if seed is not None else f"not in {options.seeds}"
        print(
            f"{mutant.rule}  {mutant.name:58} {mutant.scenario:16} {found:12} {how[:110] or mutant.unseen}", flush=True
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
