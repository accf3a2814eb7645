"""All of a gateway that is no session's, on its way to the next process of its node; `gateway_bequest.py` says what
that is, and what is rebuilt.

What may be very much, pictures of watched players and of latest topics, is copied ahead in slices while the gateway
serves; what has changed since goes with the bequest. Sessions go over by themselves (`session_copies.py`).
"""

from typing import Final

from server.sessions.gateway_bequest import (
    GatewayAhead,
    GatewayBequest,
    GuessCopy,
    decode_ahead,
    decode_bequest,
    encode_bequest,
)
from server.sessions.greeter import Greeter
from server.sessions.guesses import GuessLimits
from server.sessions.latest import LatestTopics
from server.sessions.mover import Mover
from server.sessions.presence_copies import PresenceCopies
from server.sessions.pushes import Pushes
from server.sessions.streams import Streams
from server.sessions.table import SessionTable

AHEAD: Final = 500
"""Players and topics of a slice that is copied ahead."""


class GatewayGoingOver:
    """See the module's head. The same class gives and takes."""

    def __init__(
        self,
        table: SessionTable,
        greeter: Greeter,
        streams: Streams,
        latest: LatestTopics,
        people: PresenceCopies,
        pushes: Pushes,
        mover: Mover,
        guesses: GuessLimits,
    ) -> None:
        self._table, self._greeter, self._streams, self._latest = table, greeter, streams, latest
        self._people, self._pushes, self._mover, self._guesses = people, pushes, mover, guesses
        self._round: list[tuple[str, bool]] | None = None
        """Keys of this round of copying ahead that are not copied: players, and (True) latest topics."""

    # ---- here ----

    def copy_ahead(self) -> bytes:
        """The next slice of what is shown of players and latest topics, for `inherit_ahead` of the next process; empty
        where this round has none left. Changes after that are copied by the next round, or go with the bequest."""
        if self._round is None:
            self._round = [(player, False) for player in self._people.not_copied()]
            self._round += [(topic, True) for topic in self._latest.not_copied()]
        some, self._round = self._round[:AHEAD], self._round[AHEAD:]
        if not some:
            self._round = None
            return b""
        audiences = self._people.copy_ahead(key for key, is_topic in some if not is_topic)
        latest = self._latest.copy_ahead(key for key, is_topic in some if is_topic)
        return encode_bequest(GatewayAhead(audiences, latest))

    def end_copying(self) -> None:
        """Forget what was copied ahead: there is no next process."""
        self._round = None
        self._people.end_copying()
        self._latest.end_copying()

    def bequeath(self) -> bytes:
        """All that is no session's: see `gateway_bequest.py`."""
        pictures, latest = self._latest.bequeath()
        presence, revision, audiences = self._people.bequeath()
        departures, ended, reclaims = self._mover.bequeath()
        away, earlier = self._pushes.bequeath()
        bequest = GatewayBequest(
            self._greeter.hellos, pictures, presence, revision, self._streams.bequeath(), latest, audiences,
            departures, ended, reclaims, away, earlier, [GuessCopy(*level) for level in self._guesses.levels()],
            self._table.several(),
        )  # fmt: skip
        return encode_bequest(bequest)

    # ---- there ----

    def inherit_ahead(self, data: bytes) -> None:
        """Take in a slice of `copy_ahead`. Raises `BadInput`."""
        ahead = decode_ahead(data)
        self._people.inherit_ahead(ahead.audiences)
        self._latest.inherit_ahead(ahead.latest)

    def inherit(self, data: bytes) -> None:
        """Take in what the process before has bequeathed, once all of its sessions are unpacked. Raises `BadInput`;
        then nothing has changed."""
        bequest = decode_bequest(data)
        self._greeter.hellos = max(self._greeter.hellos, bequest.hellos)
        self._latest.learn(bequest.pictures, bequest.latest)
        self._people.learn(bequest.presence, bequest.revision, bequest.audiences)
        self._streams.learn(bequest.streams)
        self._mover.learn(bequest.departures, bequest.ended, bequest.reclaims)
        self._pushes.learn(bequest.away, bequest.earlier)
        self._guesses.learn((each.address, each.level, each.at) for each in bequest.guesses)
        self._table.put_in_order(bequest.several)
