"""Pictures of a player: one presence made of what its devices say, as everybody, friends and itself see it. Pure.

The rule by which devices merge: the status is the player's, whichever device chose it last; only `away` is a device's
own, so that a player is away where every device that is here says so. The line of rich presence, with its parts, is the
newest that says anything, as long as the device that said it is here. A heartbeat repeats a device's word, so a word
counts when it is another than that device said before: two devices that say different words do not take turns.

To others an invisible player is an offline one, to the last byte: `last_seen_ms` of the state stands still meanwhile
(`game/player/rules.py`), and nothing of its doing is shown.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec
from msgspec.structs import astuple, replace

from game.player.messages import ChosenStatus, DeviceLine, PlayerPicture, Presence, RichPresence, Status
from game.player.state import PlayerState
from server.actors.pictures import MAX_PICTURE_BYTES, Pictures
from server.errors import Rejected

MAX_TEXT_BYTES: Final = 1_024
"""UTF-8 of a line and its parts together."""
CODES: Final = {"bad_presence": "rich presence over 1,024 bytes, or with two fields of one name"}

_encode = msgspec.msgpack.Encoder().encode
Word = ChosenStatus | Literal[""]


class Said(msgspec.Struct, array_like=True, frozen=True):
    """The newest of what a session said: the status that it chose, empty if none yet, and its line. `overruled`:
    another session has chosen a status since, so that this one's word counts only when it is a new one."""

    session: str
    word: Word = ""
    activity: str = ""
    rich: RichPresence | None = None
    overruled: bool = False


Sayings = tuple[Said, ...]
"""For each session that said anything one; those with the newest line come last."""


class Device(Protocol):
    """A session that is here, with the kind of its device and the program that it named: a login has these."""

    @property
    def session(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def client(self) -> str: ...


class Party(NamedTuple):
    """Members of the player's party, and how many it has room for."""

    size: int
    room: int


# ---- what devices say -----------------------------------------------------------------------


def check(activity: str, rich: RichPresence | None) -> None:
    """Raises `Rejected("bad_presence")` for what is more than others are to be shown."""
    texts = [activity]
    if rich is not None:
        names = [field.name for field in rich.fields]
        if len(set(names)) < len(names):
            raise Rejected("bad_presence", "two fields of rich presence have one name")
        texts += [rich.mode, rich.map_name, rich.score, rich.join, *names, *(field.value for field in rich.fields)]
    length = sum(len(text.encode()) for text in texts)
    if length > MAX_TEXT_BYTES:
        raise Rejected("bad_presence", f"rich presence has {length} bytes, at most {MAX_TEXT_BYTES} are shown")


def say(said: Sayings, line: Said) -> Sayings:
    """Note what a session says; its line is the newest."""
    others = tuple(other for other in said if other.session != line.session)
    return (*_overruled(others, line.word), line)


def choose(said: Sayings, session: str, word: ChosenStatus) -> Sayings:
    """Note the status that a session chose; its line stays what it was, as old as it was. The same object where the
    session says only again what another one has overruled, or what was noted already."""
    if len(said) == 1 and said[0].session == session:  # the only one that says anything, as almost always
        only = said[0]
        return said if only.word == word else (Said(session, word, only.activity, only.rich),)
    before = next((line for line in said if line.session == session), None)
    if before is not None and before.word == word:
        return said
    if before is None:
        return (Said(session, word), *_overruled(said, word))
    after = replace(before, word=word, overruled=False)
    return tuple(after if line is before else other for line, other in zip(said, _overruled(said, word), strict=True))


def has_said(said: Sayings, session: str, word: str) -> bool:
    """Tell whether this is the status that a session chose last."""
    if len(said) == 1:
        return said[0].word == word and said[0].session == session
    return any(line.session == session and line.word == word for line in said)


def takes(said: Sayings, session: str, sessions: Collection[str]) -> bool:
    """Tell whether the player takes on the status that `session`, one of `sessions`, says."""
    if len(said) == 1 == len(sessions):  # the only one that is here
        return not said[0].overruled
    line = next(line for line in said if line.session == session)
    return not line.overruled and (line.word != "away" or are_away(said, sessions))


def _overruled(said: Sayings, word: str) -> Sayings:
    """Sayings after another session chose `word`: to be away is its own affair."""
    if word == "away":
        return said
    return tuple(line if line.overruled or not line.word else replace(line, overruled=True) for line in said)


def kept(said: Sayings, sessions: Iterable[str]) -> Sayings:
    """Sayings of those sessions that are here."""
    here = set(sessions)
    return tuple(line for line in said if line.session in here)


def are_away(said: Sayings, sessions: Iterable[str]) -> bool:
    """Tell whether each of `sessions`, of which there is one, says that it is away."""
    away = {line.session for line in said if line.word == "away"}
    return bool(away) and away.issuperset(sessions)


def newest(said: Sayings) -> Said | None:
    """The line that the player is shown with."""
    for line in reversed(said):
        if line.activity or line.rich is not None:
            return line
    return None


# ---- pictures -------------------------------------------------------------------------------


def pictures(
    state: PlayerState,
    said: Sayings = (),
    devices: Sequence[Device] = (),
    party: Party | None = None,
    muted: bool = False,
) -> Pictures:
    """The three pictures of a player. `muted`: the player's own lines and fields are hidden from others."""
    if len(devices) == 1 and party is None and not state.match and state.status in _SEEN and newest(said) is None:
        device = devices[0]
        for line in said:
            if line.session == device.session:
                return _plain(state.status, device.kind, device.client, line.word)
        return _plain(state.status, device.kind, device.client, "")
    everybody = packed(_for_everybody(state))
    friends = packed(for_friends(state, said, party, muted))
    own = for_operator(state, said, devices, party)
    lines = own.devices
    while len(whole := packed(replace(own, devices=lines))) > MAX_PICTURE_BYTES:
        lines = lines[:-1]
    return Pictures(everybody, everybody if friends == everybody else friends, whole)


@lru_cache(maxsize=1_000)
def _plain(status: Status, kind: str, client: str, word: Word) -> Pictures:
    """The pictures of a player with one device of whom there is no more to see than a status: of most, at most times.
    So they are in memory once for all who look the same, and a heartbeat that changes the status finds them made."""
    seen = packed(PlayerPicture(status))
    return Pictures(seen, seen, packed(PlayerPicture(status, devices=[DeviceLine(kind, client, word)])))


def for_operator(state: PlayerState, said: Sayings, devices: Sequence[Device], party: Party | None) -> PlayerPicture:
    """The picture with all there is, a line for each device: as the player itself sees it, and an operator."""
    return replace(_for_itself(state, said, party), devices=_device_lines(said, devices))


def gone(row: Mapping[str, Any] | None) -> Pictures:
    """The pictures of somebody of whom no node knows, by the row of the store. Where that says that somebody is here,
    the player's node has died: nobody can say yet whether the player comes back at another one. The row of an invisible
    player says no more than that of an offline one."""
    if row is None:
        return _offline(0)
    if row["status"] in ("offline", "invisible"):
        return _offline(row["last_seen_ms"])
    return Pictures(UNKNOWN, UNKNOWN, UNKNOWN)


def _offline(last_seen_ms: int) -> Pictures:
    offline = packed(PlayerPicture("offline", last_seen_ms))
    return Pictures(offline, offline, offline)


def for_friends(state: PlayerState, said: Sayings, party: Party | None, muted: bool) -> PlayerPicture:
    """The picture that friends see, and host, of a player that is here and visible; as everybody's otherwise."""
    if state.status in ("invisible", "offline"):
        return _for_everybody(state)
    return _whole(state, () if muted else said, party)


def view(
    state: PlayerState,
    player: str,
    request_id: int,
    said: Sayings,
    party: Party | None,
    muted: bool,
    own: bool,
    known: bool = True,
) -> Presence:
    """The answer to `presence.get`: as the player itself (`own`) or a friend sees it. Not `known`: the state says that
    somebody is here, and none of its sessions was heard of since its node died."""
    if not known and state.status not in ("invisible", "offline"):
        return Presence(request_id, player, "unknown", "", None, state.last_seen_ms)
    seen = _for_itself(state, said, party) if own else for_friends(state, said, party, muted)
    return Presence(request_id, player, seen.status, seen.activity, seen.match, state.last_seen_ms, seen.rich)


def packed(picture: PlayerPicture) -> bytes:
    """A picture as an array that ends with its last field that is told."""
    values = list(astuple(picture))
    if picture.rich is not None:
        values[_RICH] = _trimmed(astuple(picture.rich), _NO_RICH)
    values[_DEVICES] = [_trimmed(astuple(line), _NO_LINE) for line in picture.devices]
    return _encode(_trimmed(values, _NOBODY))


def _trimmed(values: Sequence[Any], defaults: Sequence[Any]) -> Sequence[Any]:
    """Leave out what is told by default, at the end; there is a first value in any case."""
    last = len(values) - 1
    while last and values[last] == defaults[last]:
        last -= 1
    return values[: last + 1]


_RICH: Final = PlayerPicture.__struct_fields__.index("rich")
_DEVICES: Final = PlayerPicture.__struct_fields__.index("devices")
_NOBODY: Final = astuple(PlayerPicture())
_NO_RICH: Final = astuple(RichPresence())
_NO_LINE: Final = astuple(DeviceLine())
_SEEN: Final = ("online", "away", "busy")
"""The status of a player who is here and visible."""
UNKNOWN: Final = packed(PlayerPicture("unknown"))
HIDDEN: Final = packed(PlayerPicture("offline"))
"""The picture for somebody who is blocked."""


def _for_everybody(state: PlayerState) -> PlayerPicture:
    if state.status in ("invisible", "offline"):
        return PlayerPicture("offline", state.last_seen_ms)
    return PlayerPicture(state.status)


def _for_itself(state: PlayerState, said: Sayings, party: Party | None) -> PlayerPicture:
    return _for_everybody(state) if state.status == "offline" else _whole(state, said, party)


def _whole(state: PlayerState, said: Sayings, party: Party | None) -> PlayerPicture:
    line = newest(said)
    rich = None if line is None else line.rich
    if party is not None:
        rich = replace(rich or RichPresence(), party_size=party.size, party_room=party.room)
    return PlayerPicture(state.status, 0, "" if line is None else line.activity, state.match or None, rich)


def _device_lines(said: Sayings, devices: Sequence[Device]) -> list[DeviceLine]:
    """A line for each device, those that spoke last first."""
    lines = {line.session: line for line in said}
    order = {line.session: place for place, line in enumerate(said)}
    first = sorted(devices, key=lambda device: -order.get(device.session, -1))
    return [_device_line(device, lines.get(device.session, _SILENT)) for device in first]


_SILENT: Final = Said("")


def _device_line(device: Device, line: Said) -> DeviceLine:
    return DeviceLine(device.kind, device.client, line.word, line.activity)
