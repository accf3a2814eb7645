"""The samples themselves: they are those that commit 7cd968a made, small, and of no machine in particular."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tests.golden import shelf

SUMS = dict(reversed(line.split()) for line in (shelf.SAMPLES / "SHA256SUMS").read_text("utf-8").splitlines())


@pytest.mark.parametrize("name", SUMS)
def test_a_sample_is_as_it_was_made(name: str) -> None:
    assert hashlib.sha256((shelf.SAMPLES / name).read_bytes()).hexdigest() == SUMS[name]


def test_all_samples_are_there_and_small() -> None:
    found = {file.name: file.stat().st_size for file in shelf.SAMPLES.iterdir() if file.suffix == ".zip"}
    assert found.keys() == SUMS.keys()
    assert len(found) == 10
    assert sum(found.values()) < 1_500_000


@pytest.mark.parametrize("name", SUMS)
def test_a_sample_is_whole_and_of_no_machine(name: str) -> None:
    with zipfile.ZipFile(shelf.SAMPLES / name) as packed:
        assert packed.testzip() is None
        for member in packed.namelist():
            data = packed.read(member)
            for word in (b"/root/", b"/home/", b"site-packages", str(Path.home()).encode() + b"/"):
                assert word not in data, (member, word)
