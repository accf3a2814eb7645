"""Mutants of the rules by which watchers see what is true, or that nobody knows (`server/presence/core.py`)."""

from typing import Final

from tests.sim.mutations import Mutant

CORE = "server.presence.core:PresenceCore"
HOME = "server.presence.home_players:HomePlayers"
OUT = "server.presence.outgoing:Outgoing"
SEEN = "server.presence.watching:WatchedPlayers"
HEARD = "server.presence.heard:Heard"
SHOWN = "server.activations.showing:ShowingTurns"
SECOND: Final = "who speaks in another view has not told all in this one, so that nobody is sure: a second wall"


SUCCEEDS: Final = "presence successions"


def of(name: str, where: str, old: str, new: str, scenario: str = "presence cores") -> Mutant:
    return Mutant(name, 13, scenario, ((where, old, new),))


RECORDED: Final = {
    "one version stands for several values": 3,
    "a player who never comes back is unknown for ever": 3,
    "who is not sure answers in replies": 3,
    "answers that came too late are asked for in replies again": 2,
}
"""The first seed that finds it, where that is not 1."""
MUTANTS: Final = (
    of(
        "one version stands for several values",
        "server.sessions.presence_pictures:version_of",
        "blake2b(value,",
        "blake2b(value[:2],",
        "storm watched",
    ),
    of(
        "of several homes the last one counts",
        f"{CORE}.answer",
        "(there.epoch, there.n) > (best.epoch, best.n)",
        "True",
    ),
    of("nothing sorts after what was shown", f"{CORE}.answer", "(there.epoch, there.n) <= floor", "False"),
    of("a home tells once", f"{OUT}._with", "{**told, **self.truth}", "self.truth"),
    of(
        "an owner answers once",
        f"{OUT}._with",
        "answers = {**{item.player: None for item in word.answers}, **self.answers}",
        "answers = self.answers",
    ),
    of(
        "a node asks once",
        f"{OUT}._with",
        "interest = {**dict.fromkeys(word.watched), **dict.fromkeys(word.unwatched), **self.interest}",
        "interest = self.interest",
    ),
    of("an owner is sure whoever has told it all", f"{CORE}.weigh", "peer.heard.complete == digest and ", ""),
    of(
        "an owner is sure whoever has fallen silent",
        f"{CORE}.weigh",
        " and peer.heard.at >= latest",
        "",
        "presence views",
    ),
    of("an owner is sure whoever has vanished", f"{CORE}._is_whole", " and not self.missing", ""),
    of("who begins is alone if it has heard nobody", f"{CORE}.begin", "address != self.me", "False"),
    of("a run that is over is waited for", f"{CORE}.are_over", "self.missing.pop(address, None)", "pass"),
    of(
        "who is not known is not known for ever",
        f"{SEEN}._enter",
        "if entry.state == state:",
        'if entry.state in (state, "unknown"):',
    ),
    Mutant(
        "a player who never comes back is unknown for ever",
        13,
        "vanished",
        (("game.player.actor:Player.absent", "self.show_gone()", "self.show_itself()"),),
    ),
    Mutant(
        "words count under unequal digests",
        13,
        "presence views",
        ((f"{CORE}.receive", " or word.digest != self.view.digest", ""),),
        SECOND,
    ),
    of("interest that was dropped is not told of", f"{CORE}.receive", "not word.first or ", "False and "),
    of(
        "answers in replies count in any order",
        f"{CORE}._take_answers",
        "(reply.stint, reply.number) == (heard.stint, heard.number)",
        "True",
        "presence views",
    ),
    of(
        "answers in replies that came too late are not asked for again",
        f"{CORE}._take_answers",
        "self._ask(entry)",
        "pass",
        "presence views",
    ),
    of(
        "answers that came too late are asked for in replies again",
        f"{OUT}.compose",
        "not self.overtaken",
        "True",
        "presence views",
    ),
    Mutant(
        "answers in replies count in any view",
        13,
        "presence views",
        ((f"{CORE}._take_answers", "word.digest == self.view.digest and ", ""),),
        "an owner that is the same in both views would say the same, and another one is asked: a second wall",
    ),
    of("who is not sure answers in replies", f"{CORE}.receive", "self.sure and word.watched", "word.watched"),
    of("late words count", f"{CORE}.receive", "word.number <= heard.number", "False"),
    of(
        "all has been told before all is told",
        f"{OUT}.compose",
        "(self.completed or not self.truth)",
        "True",
        "presence views",
    ),
    of(
        "a former owner keeps what it heard",
        f"{CORE}._take_home",
        "for player in word.untold:",
        "for player in ():",
        "presence views",
    ),
    of("a new owner is not asked", f"{CORE}._ask_new_owners", "self._ask(entry)", "pass"),
    of("a new owner is not told", f"{CORE}._tell_new_owners", "there.out.truth.setdefault(player, (0, 0))", "pass"),
    of(
        "an entry that moved is believed for ever",
        f"{CORE}._ask_new_owners",
        "self.watching.moved(entry, now)",
        "pass",
        "presence views",
    ),
    of("a silent owner is believed", f"{SEEN}.doubt", "now - source.good_at > self._limits.hold_s", "False"),
    of(
        "only who is online becomes unknown",
        f"{SEEN}.doubt",
        "if entry.source is source:",
        "if entry.source is source and not entry.offline:",
    ),
    of(
        "answers stay with those who were answered before",
        f"{CORE}._changed",
        "peer.out.answers[player] = None",
        "pass",
    ),
    of(
        "a new owner is not told who has ended",
        f"{HOME}.withdraw",
        "self.ended.raise_to(player, order)",
        "pass",
        "presence views",
    ),
    of(
        "a home that vanishes leaves the one before as it was",
        f"{CORE}._supersede",
        "self._floors.raise_to(here.player, (here.epoch - 1, CLOSED))",
        "pass",
        "presence views",
    ),
    of(
        "a home that is behind has told all",
        f"{OUT}.compose",
        "self._truth_backlog.told_to < latest",
        "False",
        "presence views",
    ),
    of(
        "an owner that is behind is sure",
        f"{OUT}.compose",
        "self._answer_backlog.told_to < latest",
        "False",
        "presence views",
    ),
    of("who has moved is gone for a moment", f"{HOME}.hide", "if moved:", "if False:"),
    of(
        "looks that somebody has seen are not told of again",
        f"{SHOWN}.showing",
        "self._looks_new = False",
        "pass",
        "presences",
    ),
    of(
        "an heir forgets the word that was under way",
        f"{OUT}.bequeath",
        "if self.flight is not None:",
        "if False:",
        SUCCEEDS,
    ),
    of(
        "an heir's words have numbers that were used",
        f"{OUT}.inherit",
        "self.stint, self.number, self.acknowledged = bequest.stint, bequest.number, bequest.acknowledged",
        "self.stint, self.acknowledged = bequest.stint, bequest.acknowledged",
        SUCCEEDS,
    ),
    of("an heir has heard no words", f"{HEARD}.inherit", "bequest.number", "0", SUCCEEDS),
    of(
        "an heir knows no ends",
        f"{CORE}.inherit",
        "self._floors.inherit(it.floors, now)",
        "pass",
        SUCCEEDS,
    ),
    of(
        "an heir does not tell what has ended",
        f"{HOME}.inherit",
        "self.ended.inherit(ended, now)",
        "pass",
        SUCCEEDS,
    ),
    of("an heir shows nobody who has moved", f"{CORE}.inherit", "it.lingering", "()", SUCCEEDS),
    of("an heir's stints begin anew", f"{CORE}.inherit", "it.stints", "0", SUCCEEDS),
    of(
        "an heir waits for nobody",
        f"{CORE}.inherit",
        "for run, _ in it.missing",
        "for run, _ in ()",
        SUCCEEDS,
    ),
    of(
        "who was hidden after it was copied is shown",
        f"{HEARD}.hide",
        "self.ahead.note(player)",
        "pass",
        SUCCEEDS,
    ),
    of(
        "whom a peer watches since it was copied is not known",
        f"{HEARD}.watch",
        "self.ahead.note(player)",
        "pass",
        SUCCEEDS,
    ),
    of(
        "looks that changed after they were copied are old",
        f"{SEEN}._note",
        "self.ahead.note(entry.player)",
        "pass",
        SUCCEEDS,
    ),
    of(
        "an entry that waits does not go over",
        f"{SEEN}.bequeath",
        "if entry in waits:",
        "if False:",
        SUCCEEDS,
    ),
)
