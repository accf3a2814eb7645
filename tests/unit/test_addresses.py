"""Client addresses: the part of one customer, and the connections that each may have."""

import random

import pytest

from server.runtime.metrics import Metrics
from server.sessions.addresses import AddressLimit, prefix
from server.sessions.guesses import GuessLimits


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:5000", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:5000", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("[2001:db8:1:2:9::6]:5000", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::1", "::"),
        ("", ""),
        ("somewhere", "somewhere"),
        ("a:b", "a:b"),
    ],
)
def test_an_address_is_that_of_one_customer_without_a_port(remote: str, address: str) -> None:
    assert prefix(remote) == address


def test_guesses_from_other_ports_count_for_the_same_address() -> None:
    limits = GuessLimits(allowed=3, per_s=0.5)
    for port in range(5_000, 5_003):
        assert limits.wait_s(f"192.0.2.7:{port}", 100.0) == 0.0
        limits.wrong(f"192.0.2.7:{port}", 100.0)
    assert limits.wait_s("192.0.2.7:6000", 100.0) == 2.0
    assert limits.wait_s("192.0.2.8:6000", 100.0) == 0.0


def test_each_address_has_so_many_connections() -> None:
    metrics = Metrics()
    limit = AddressLimit(2, metrics)
    assert [limit.enter(f"2001:db8::{number}") for number in range(3)] == ["2001:db8::", "2001:db8::", None]
    assert limit.enter("192.0.2.7") == "192.0.2.7", "another address is not concerned"
    assert metrics.connections_refused_by_address_total == 1
    limit.leave("2001:db8::")
    assert limit.enter("2001:db8::9") == "2001:db8::"


def test_connections_without_a_limit_or_an_address_do_not_count() -> None:
    metrics = Metrics()
    for limit, remote in ((AddressLimit(0, metrics), "192.0.2.7"), (AddressLimit(1, metrics), "")):
        for _ in range(3):
            assert limit.enter(remote) == "" and len(limit) == 0
        limit.leave("")
    assert metrics.connections_refused_by_address_total == 0


@pytest.mark.parametrize("seed", range(10))
def test_the_table_has_an_entry_for_each_address_that_is_connected_and_no_other(seed: int) -> None:
    rng, limit, entered = random.Random(seed), AddressLimit(3, Metrics()), list[str]()
    for _ in range(2_000):
        if rng.random() < 0.5:
            remote = f"192.0.2.{rng.randrange(20)}"
            if (address := limit.enter(remote)) is None:
                assert entered.count(remote) == 3
            else:
                entered.append(address)
        elif entered:
            limit.leave(entered.pop(rng.randrange(len(entered))))
        assert len(limit) == len(set(entered))
        assert all(entered.count(address) <= 3 for address in set(entered))
