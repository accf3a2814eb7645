"""How a journal's records are read back: torn tails, flipped bits, stale records."""

import random

import msgspec
import pytest

from server.ids import ActorId
from server.storage.journal.record import HEADER_BYTES, Part, encode_payload, frame, read_run, run_seed
from tests.support.journals import run

SEED = run_seed("test", run("node-1"))


def record(sequence: int, key: str = "a", state: object = None, seed: int = SEED, epoch: int = 1) -> bytes:
    return frame(encode_payload((ActorId(f"purse/{key}"), epoch, sequence, state or {"n": sequence})), sequence, seed)


def read(data: bytes, low: int = 1, high: int = 0, begin: int = 0) -> tuple[dict[str, int], list[str]]:
    recovered = read_run([Part("file", data, begin)], SEED, low, high)
    return {identity: found.version for identity, found in recovered.newest.items()}, recovered.damage


RUN = [record(n, "abc"[n % 3]) for n in range(1, 8)]


def test_a_run_is_read_whole() -> None:
    assert read(b"".join(RUN)) == ({"purse/a": 6, "purse/b": 7, "purse/c": 5}, [])
    assert read(b"") == ({}, [])
    assert read(bytes(4_096)) == ({}, [])


def test_a_torn_last_record_is_left_out() -> None:
    whole = b"".join(RUN[:-1])
    for length in range(len(RUN[-1])):
        for rest in (b"", bytes(200)):
            assert read(whole + RUN[-1][:length] + rest) == ({"purse/a": 6, "purse/b": 4, "purse/c": 5}, [])


def test_a_torn_record_that_was_acknowledged_is_damage() -> None:
    newest, damage = read(b"".join(RUN[:-1]) + RUN[-1][:-1], high=7)
    assert newest == {"purse/a": 6, "purse/b": 4, "purse/c": 5}
    assert damage == [f"file: bytes from {len(b''.join(RUN[:-1]))} on fail their check, record 7 is missing"]


def test_every_flipped_bit_is_named_or_is_in_the_last_record() -> None:
    data = b"".join(RUN)
    last = len(data) - len(RUN[-1])
    for offset in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[offset] ^= 1 << bit
            newest, damage = read(bytes(bad))
            if offset >= last:
                assert (newest, damage) == ({"purse/a": 6, "purse/b": 4, "purse/c": 5}, [])
            else:
                hit = next(n for n in range(1, 8) if offset < sum(map(len, RUN[:n])))
                assert len(damage) == 1
                assert f"record {hit} is missing" in damage[0]
                assert f"bytes from {sum(map(len, RUN[: hit - 1]))} on" in damage[0]


def test_reading_goes_on_behind_damage_of_any_length() -> None:
    for first in range(6):
        for last in range(first, 6):
            bad = [*RUN[:first], *(bytes(len(one)) for one in RUN[first : last + 1]), *RUN[last + 1 :]]
            newest, damage = read(b"".join(bad))
            assert newest["purse/b"] == 7
            assert len(damage) == 1
            wanted = f"record {first + 1} is" if first == last else f"records {first + 1} to {last + 1} are"
            assert wanted in damage[0]


def test_bytes_that_were_cut_out_or_moved_are_missed() -> None:
    assert "record 3 is missing" in read(b"".join(RUN[:2] + RUN[3:]))[1][0]
    swapped = read(b"".join([*RUN[:2], RUN[3], RUN[2], *RUN[4:]]))
    assert [text.rpartition(", ")[2] for text in swapped[1]] == ["record 3 is missing"]


def test_older_records_behind_the_end_are_the_end() -> None:
    old = b"".join(record(n, "old") for n in range(1, 40))
    new = b"".join(record(n) for n in range(40, 50))
    for cut in range(60):
        recovered = read_run([Part("file", new + old[len(new) + cut :], after=39)], SEED, 40, 49)
        assert (list(recovered.newest), recovered.damage) == (["purse/a"], [])


def test_records_of_another_run_are_none() -> None:
    foreign = b"".join(record(n, seed=run_seed("test", run("node-1", 2))) for n in range(1, 5))
    assert read(foreign) == ({}, [])
    newest, damage = read(RUN[0] + foreign + RUN[4])
    assert newest == {"purse/b": 1, "purse/c": 5}
    assert "records 2 to 4 are missing" in damage[0]


def test_parts_come_in_any_order() -> None:
    parts = [Part(f"file {n}", b"".join(RUN[n : n + 2]), after=n) for n in (0, 2, 4, 6)]
    for order in (parts, parts[::-1]):
        recovered = read_run(order, SEED, 1, 7)
        assert recovered.damage == []
        assert {i: r.version for i, r in recovered.newest.items()} == {"purse/a": 6, "purse/b": 7, "purse/c": 5}
    missing = read_run(parts[:1] + parts[2:], SEED, 1, 7)
    assert missing.damage == [
        f"file 0: bytes from {len(RUN[0] + RUN[1])} on fail their check, records 3 to 4 are missing"
    ]


@pytest.mark.parametrize("payload", [msgspec.msgpack.encode({"not": "a record"}), b"\x91\xa1\xff", b""])
def test_a_payload_that_is_no_record_is_named(payload: bytes) -> None:
    odd = frame(payload, 2, SEED)
    newest, damage = read(RUN[0] + odd + RUN[2])
    assert newest == {"purse/b": 1, "purse/a": 3}
    assert len(damage) == 1
    assert "record 2 is no journal record" in damage[0]


def test_random_bytes_are_never_a_record_and_never_an_error() -> None:
    rng = random.Random(5)
    magic = RUN[0][:4]
    for _ in range(300):
        noise = b"".join(rng.choice((magic, rng.randbytes(rng.randrange(30)))) for _ in range(20))
        newest, damage = read(RUN[0] + noise + RUN[1] + noise)
        assert newest == {"purse/b": 1, "purse/c": 2}
        assert damage == []  # nothing is missing


def test_a_file_full_of_magic_bytes_is_read_in_bounded_time() -> None:
    header = record(9, state="x" * 10)[:HEADER_BYTES]
    hostile = (header[:4] + (60_000).to_bytes(4, "little") + header[8:]) * 5_000
    newest, damage = read(RUN[0] + hostile, high=1)
    assert (newest, damage) == ({"purse/b": 1}, [])


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_seed_tells_runs_clusters_and_nodes_apart(order: tuple[int, int]) -> None:
    seeds = {run_seed(cluster, run(node, n)) for cluster in ("a", "b") for node in ("x", "y") for n in order}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**62 for seed in seeds)
