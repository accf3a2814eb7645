"""Files of every version that was ever written, one sample each, read and recomputed by the program of today.

A new version of the file or of its segments gets a sample of its own; none is ever changed or taken away.
"""

import hashlib
import io

import pytest

from game import replay
from server.eventlog import portable, segment
from server.eventlog.entry import state_hash
from tests.golden import shelf

FILES = {
    "segments_1.garrison": (1, 1, "5e7d4b3209a5968b42588fd2b49e1b9468f35d4f9d5d1a5ab6b53c0c067beeb4"),
    "segments_2.garrison": (1, 2, "274c04b3acc16cbc7dac9a77cb962ae0b8aaddad42558e93cc0bad00d314098d"),
}
"""Version of the file, version of its segments, SHA-256."""
HEAD = "03d6f39f3a0efcc0aaa69c98e9834e02"
END = "996b7c4ae4212ec40d9b06acb72b9bb0"


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_each_version_verifies_to_the_match_of_then(name: str) -> None:
    version, segments, digest = FILES[name]
    data = (shelf.SAMPLES / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert data[8] == version
    found = portable.read(io.BytesIO(data))
    assert {chunk.data[4] for chunk in found.log.chunks} == {segments}
    assert (found.header.kind, found.header.key, found.header.metadata["map_name"]) == ("match", "golden-1", "Recharge")
    assert (found.log.next_seq, found.log.head.hex()) == (160, HEAD)
    report = replay.verify(found.log)
    assert (report.events, report.segments, report.end_hash) == (159, 3, True)
    assert state_hash(report.state).hex() == END
    assert (report.state.phase, report.state.team_scores) == ("ended", (45, 50))


def test_samples_of_all_versions_hold_the_same_entries() -> None:
    entries = []
    for name in FILES:
        found = portable.read(io.BytesIO((shelf.SAMPLES / name).read_bytes()))
        entries.append([entry for chunk in found.log.chunks for entry in segment.decode(chunk.data).entries])
    assert all(other == entries[0] for other in entries)


def test_the_newest_version_has_a_sample() -> None:
    assert max(version for version, _, _ in FILES.values()) == portable.VERSION
    assert max(segments for _, segments, _ in FILES.values()) == segment.VERSION
