"""The rules of friends and blocks. Pure: a state and an occurrence in, a new state out.

About a pair each side has a word of its own and mirrors the other's; whatever they are follows from the two words, by
rules that do not ask whose word is whose. So both sides agree once each has heard the other's newest word.

    friends     one has said yes to the number of the other's *present* invite, or the invites have crossed; and
                neither blocks the other. An invite that is taken back and made again has another number, so that an
                older yes does not count.
    over        an invite that is answered with no, and a yes to an invite that is no more, are taken back by whoever
                said them, as soon as that is heard: words fall silent, and nothing but a command makes them speak.
    forgotten   a pair is dropped when both words are silent and the own one is stored on the other side. Nothing stays
                that could tell an older word that comes late, so the first word that is heard of somebody is not
                believed: its writer is asked for the present one (`Friends.hear`).
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from game.friends.messages import FriendChange, Friendship, FriendState
from game.friends.state import Dropped, FriendsState, Link, Word
from server.actors.facts import NEVER, Register, Stamp
from server.actors.pictures import Relations
from server.errors import Rejected, Unavailable

Act = Literal["invite", "accept", "decline", "remove", "block", "unblock"]
CODES: Final = {
    "self": "a player is no friend of itself",
    "blocking": "the player is blocked by oneself: unblock it first",
    "no_invite": "no invite of that player waits for an answer",
    "too_many_friends": "friends and open invites are as many as there may be",
    "too_many_invites": "as many invites wait for an answer as may",
    "too_many_blocks": "as many players are blocked as may be",
    "muted": "whoever is muted invites nobody",
}
SILENT: Final = Word()
NO_WORD: Final = Register[Word](NEVER, None)
MAX_UNTOLD: Final = 500
"""Words that wait to be heard, above which there are no new ones about further players."""


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one player's list. `friends` counts open invites of the player's own too, each of which may become a
    friend; `invited` and `inviting` count invites of and to the player that wait. `blocked_by` bounds the blocks of
    others that are mirrored: past it their blocks hold as they do, but they are not hidden."""

    friends: int = 1_000
    invited: int = 200
    inviting: int = 200
    blocked: int = 1_000
    blocked_by: int = 2_000

    @property
    def links(self) -> int:
        """Pairs in all, with room for those that are on their way out."""
        return self.friends + self.inviting + self.blocked + self.blocked_by + MAX_UNTOLD


class At(msgspec.Struct, frozen=True):
    """A turn: the number of what it writes, the wall time, and which versions of the row are stored."""

    stamp: Stamp
    wall_ms: int
    is_stored: Callable[[int], bool]


# ---- two words -------------------------------------------------------------------------------


def said(register: Register[Word]) -> Word:
    return register.value or SILENT


def is_silent(word: Word) -> bool:
    """Whether it says nothing; which invites it once answered does not matter."""
    return word.invite == NEVER and not word.yes and not word.blocks


def accepts(word: Word, other: Word) -> bool:
    """Whether `word` says yes to the present invite of the `other`."""
    return word.yes and word.answered == other.invite != NEVER


def is_open(word: Word, other: Word) -> bool:
    """Whether the invite of `word` waits for an answer of the `other`."""
    return word.invite != NEVER and other.answered < word.invite


def are_friends(word: Word, other: Word) -> bool:
    """See the module's head. The same whichever comes first."""
    if word.blocks or other.blocks:
        return False
    return accepts(word, other) or accepts(other, word) or (is_open(word, other) and is_open(other, word))


def state_of(mine: Word, theirs: Word) -> FriendChange:
    """The state of a pair in the list of who said `mine`. To somebody who is blocked it looks as if the other did not
    answer."""
    if mine.blocks:
        return "blocked"
    if are_friends(mine, theirs):
        return "friend"
    if is_open(mine, theirs):
        return "invited"
    return "inviting" if is_open(theirs, mine) and not theirs.blocks else "none"


def tidied(mine: Word, theirs: Word) -> Word:
    """The own word without what is over."""
    if mine.invite != NEVER and theirs.answered >= mine.invite and not accepts(theirs, mine):
        mine = replace(mine, invite=NEVER)
    if mine.yes and mine.answered != theirs.invite:
        mine = replace(mine, yes=False)
    return mine


def decided(act: Act, mine: Word, theirs: Word, number: Stamp) -> Word:
    """The own word after a command; `number` is that of an invite which it makes. The same one where it changes
    nothing. Raises `Rejected`."""
    answered = max(mine.answered, theirs.invite)
    asked = is_open(theirs, mine) and not theirs.blocks and not mine.blocks
    match act:
        case "invite":
            if mine.blocks:
                raise _refused("blocking")
            if are_friends(mine, theirs) or is_open(mine, theirs):
                return mine
            return replace(mine, answered=answered, yes=True) if asked else replace(mine, invite=number)
        case "accept":
            if are_friends(mine, theirs):
                return mine
            if not asked:
                raise _refused("no_invite")
            return replace(mine, answered=answered, yes=True)
        case "decline":
            if not asked or are_friends(mine, theirs):
                raise _refused("no_invite")
            return replace(mine, answered=answered)
        case "remove":
            return replace(mine, invite=NEVER, answered=answered, yes=False)
        case "block":
            return Word(answered=answered, blocks=True)
        case "unblock":
            return replace(mine, answered=answered, blocks=False) if mine.blocks else mine


# ---- the list --------------------------------------------------------------------------------


def decide(state: FriendsState, act: Act, player: str, at: At, limits: Limits) -> FriendsState:
    """Carry a command out. Raises `Rejected`, and `Unavailable` while too many words wait to be heard."""
    link = state.links.get(player)
    mine, theirs = (said(link.mine), said(link.theirs)) if link is not None else (SILENT, SILENT)
    word = decided(act, mine, theirs, at.stamp)
    if word == mine:
        return state
    if link is None and is_silent(word):
        return state  # nothing to take back
    _check_room(state, state_of(mine, theirs), state_of(word, theirs), limits)
    if player not in state.untold and len(state.untold) >= MAX_UNTOLD and act in ("invite", "block"):
        raise Unavailable("too many changes wait to be told to others", retry_after_s=5.0)
    return _put(state, player, word, link.theirs if link is not None else NO_WORD, at)


def hear(state: FriendsState, player: str, word: Register[Word], at: At, limits: Limits) -> FriendsState:
    """Mirror the other's word, if it is newer than what is known of it. Raises `Rejected("full")`."""
    link = state.links.get(player)
    if link is not None and word.stamp <= link.theirs.stamp:
        return state
    mine, theirs = (said(link.mine), said(link.theirs)) if link is not None else (SILENT, SILENT)
    news = said(word)
    if link is None and is_silent(news):
        return state
    if state_of(mine, news) == "inviting" != state_of(mine, theirs) and count(state, "inviting") >= limits.inviting:
        raise Rejected("full", "no room for another one")
    if (
        news.blocks
        and not theirs.blocks
        and sum(said(it.theirs).blocks for it in state.links.values()) >= (limits.blocked_by)
    ):
        raise Rejected("full", "no room for another one")
    if link is None and len(state.links) >= limits.links:
        raise Rejected("full", "no room for another one")
    return _put(state, player, tidied(mine, news), word, at)


def has_heard(state: FriendsState, player: str) -> bool:
    """Whether a word of the other is kept, by which an older one is known as such."""
    link = state.links.get(player)
    return link is not None and link.theirs.stamp != NEVER


def heard(state: FriendsState, player: str, number: Stamp, refused: str, at: At) -> FriendsState:
    """Note that the other side has stored the own word of that number, or has `refused` it: an invite which it has no
    room for is over."""
    link = state.links.get(player)
    if link is None or link.mine.stamp != number:
        return state
    state = replace(state, untold=tuple(name for name in state.untold if name != player))
    mine = said(link.mine)
    if refused and mine.invite != NEVER:
        return _put(state, player, replace(mine, invite=NEVER), link.theirs, at)
    return _dropped(state, player, at)


def forget(state: FriendsState, player: str, at: At) -> FriendsState:
    """Keep nothing of a pair whose other side was erased, and tell nobody; the same where nothing is kept. The note
    that the pair's row is to go stays until it is gone: call it again."""
    link = state.links.get(player)
    if link is None:
        kept = tuple(it for it in state.dropped if it.player != player or not at.is_stored(it.version))
        return state if len(kept) == len(state.dropped) else replace(state, dropped=kept)
    close = _closeness(link) != _closeness(None)
    return replace(
        state,
        links={name: other for name, other in state.links.items() if name != player},
        untold=tuple(name for name in state.untold if name != player),
        relations=list_number(at.stamp) if close else state.relations,
        dropped=(*(it for it in _unstored(state, at) if it.player != player), Dropped(player, at.stamp.version)),
    )


def erased(state: FriendsState) -> FriendsState:
    """The list of a player who is erased: empty, with nothing left to tell."""
    return FriendsState(relations=state.relations, told=state.relations)


def count(state: FriendsState, wanted: FriendChange) -> int:
    return sum(link.state == wanted for link in state.links.values())


def page(
    state: FriendsState, wanted: FriendState | None, after: str, limit: int
) -> tuple[list[Friendship], str | None]:
    """Entries by name, and the cursor of the next page."""
    names = sorted(
        name
        for name, link in state.links.items()
        if name > after and link.state != "none" and wanted in (None, link.state)
    )
    shown = [
        Friendship(name, link.state, link.since_ms)
        for name in names[:limit]
        if (link := state.links[name]).state != "none"
    ]
    return shown, names[limit - 1] if len(names) > limit else None


def relations(state: FriendsState) -> Relations:
    """Friends, and who is hidden."""
    friends = [name for name, link in state.links.items() if link.state == "friend"]
    hidden = [name for name, link in state.links.items() if is_hidden(link)]
    return Relations(state.relations, sorted(friends), sorted(hidden))


def is_hidden(link: Link) -> bool:
    """Whether one of the two blocks the other."""
    return said(link.mine).blocks or said(link.theirs).blocks


def list_number(stamp: Stamp) -> int:
    """A stamp as one number in the same order. Epochs count claims, so that it stays below 2^53 for two million."""
    return (stamp.epoch << 32) | (stamp.version & 0xFFFF_FFFF)


def _check_room(state: FriendsState, before: FriendChange, after: FriendChange, limits: Limits) -> None:
    if after == before:
        return
    invited = count(state, "invited")
    if after in ("friend", "invited") and before not in ("friend", "invited"):
        if count(state, "friend") + invited >= limits.friends:
            raise _refused("too_many_friends")
        if after == "invited" and invited >= limits.invited:
            raise _refused("too_many_invites")
    if after == "blocked" and count(state, "blocked") >= limits.blocked:
        raise _refused("too_many_blocks")


def _put(state: FriendsState, player: str, mine: Word, theirs: Register[Word], at: At) -> FriendsState:
    """Keep both words of a pair; the own one is told where it has changed."""
    before = state.links.get(player)
    own = before.mine if before is not None else NO_WORD
    untold = state.untold
    if mine != said(own):
        own = Register[Word](at.stamp, mine)
        untold = (*(name for name in untold if name != player), player)
    link = Link(own, theirs, state_of(mine, said(theirs)))
    if before is not None and before.state == link.state:
        link = replace(link, since_ms=before.since_ms, version=before.version)
    else:
        link = replace(link, since_ms=at.wall_ms, version=at.stamp.version)
    close = _closeness(before) != _closeness(link)
    return _dropped(
        replace(
            state,
            links={**state.links, player: link},
            untold=untold,
            relations=list_number(at.stamp) if close else state.relations,
            dropped=tuple(it for it in _unstored(state, at) if it.player != player),
        ),
        player,
        at,
    )


def _closeness(link: Link | None) -> tuple[bool, bool]:
    """Whether the other is a friend, and whether hidden."""
    return (False, False) if link is None else (link.state == "friend", is_hidden(link))


def _dropped(state: FriendsState, player: str, at: At) -> FriendsState:
    """The state without that pair, if it is to be forgotten: see the module's head."""
    link = state.links[player]
    if player in state.untold or not (is_silent(said(link.mine)) and is_silent(said(link.theirs))):
        return state
    links = {name: other for name, other in state.links.items() if name != player}
    return replace(state, links=links, dropped=(*_unstored(state, at), Dropped(player, at.stamp.version)))


def _unstored(state: FriendsState, at: At) -> tuple[Dropped, ...]:
    return tuple(it for it in state.dropped if not at.is_stored(it.version))


def _refused(code: str) -> Rejected:
    return Rejected(code, CODES[code])
