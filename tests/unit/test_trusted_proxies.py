"""The client that is meant by what trusted proxies say, and that nobody else is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadSetting
from server.runtime.proxies import MAX_HOPS, Client, TrustedProxies, Via, peer_of
from server.settings import from_tree, load

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8", "192.0.2.1"])
PROXY = Client("10.0.0.1", 4000)


def of(*lines: str) -> Via:
    return Via(forwarded_for=lines)


def rfc(*lines: str) -> Via:
    return Via(forwarded=lines)


BELIEVED: dict[str, tuple[Via, str]] = {
    "one address": (of("198.51.100.7"), "198.51.100.7"),
    "with a port": (of("198.51.100.7:80"), "198.51.100.7:80"),
    "IPv6": (of("2001:db8::7"), "2001:db8::7"),
    "IPv6 in brackets": (of("[2001:db8::7]"), "2001:db8::7"),
    "IPv6 with a port": (of("[2001:db8::7]:80"), "[2001:db8::7]:80"),
    "IPv4 within IPv6": (of("::ffff:198.51.100.7"), "198.51.100.7"),
    "the rightmost that is no proxy": (of("6.6.6.6, 198.51.100.7, 10.0.0.2, fd00::3"), "198.51.100.7"),
    "over several lines": (of("6.6.6.6", "198.51.100.7,10.0.0.2", "192.0.2.1"), "198.51.100.7"),
    "all are proxies: the leftmost": (of("10.0.0.3, 10.0.0.2"), "10.0.0.3"),
    "an unknown hop ends the walk": (of("198.51.100.7, unknown, 10.0.0.2"), "10.0.0.2"),
    "no address": (of("play.example"), "10.0.0.1:4000"),
    "a port that is none": (of("198.51.100.7:99999"), "10.0.0.1:4000"),
    "nothing": (of(""), "10.0.0.1:4000"),
    "no header": (Via(), "10.0.0.1:4000"),
    "Forwarded": (rfc("for=198.51.100.7"), "198.51.100.7"),
    "Forwarded, quoted": (rfc('For="[2001:db8::7]:4711"'), "[2001:db8::7]:4711"),
    "Forwarded, all that may stand there": (
        rfc("for=6.6.6.6", 'for=198.51.100.7;proto=https;by="_x";host=a, for=10.0.0.2;proto=http'), "198.51.100.7"
    ),
    "Forwarded, hidden": (rfc("for=_hidden, for=10.0.0.2"), "10.0.0.2"),
    "Forwarded, without for": (rfc("proto=https"), "10.0.0.1:4000"),
    "Forwarded, twice": (rfc("for=6.6.6.6;for=6.6.6.7"), "10.0.0.1:4000"),
    "Forwarded, a quote that a client left open": (rfc('for="6.6.6.6, for=198.51.100.7'), "198.51.100.7"),
    "Forwarded, rubbish of a client's": (rfc(";;=,\x00, for=198.51.100.7"), "198.51.100.7"),
    "both headers, and they agree": (
        Via(["for=198.51.100.7"], ["198.51.100.7"]), "198.51.100.7"
    ),
    "both headers, and one is the client's": (Via(["for=6.6.6.6"], ["198.51.100.7"]), "10.0.0.1:4000"),
}  # fmt: skip


@pytest.mark.parametrize("what", BELIEVED)
def test_client_behind_a_trusted_proxy(what: str) -> None:
    via, client = BELIEVED[what]
    assert str(PROXIES.client(PROXY, via)) == client


@pytest.mark.parametrize("what", BELIEVED)
def test_headers_of_strangers_are_ignored(what: str) -> None:
    stranger = Client("198.51.100.200", 7)
    assert PROXIES.client(stranger, BELIEVED[what][0]) == stranger
    assert TrustedProxies().client(PROXY, BELIEVED[what][0]) == PROXY


def test_scheme_is_the_one_that_the_same_hop_tells() -> None:
    told = Via(forwarded=["for=198.51.100.7;proto=https, for=10.0.0.2;proto=http"])
    assert PROXIES.client(PROXY, told).scheme == "https"
    assert PROXIES.client(PROXY, Via((), ["198.51.100.7"], ["http, HTTPS"])).scheme == "https"
    assert PROXIES.client(PROXY, Via((), (), ["https"])) == Client("10.0.0.1", 4000, "https")
    assert PROXIES.client(PROXY, Via((), (), ["javascript"])).scheme == ""


def test_networks_hold_addresses_of_both_families_in_each_spelling() -> None:
    assert all(host in PROXIES for host in ("10.255.0.1", "::ffff:10.0.0.1", "::FFFF:10.0.0.1", "fd12::1%eth0"))
    assert not any(host in PROXIES for host in ("11.0.0.1", "fe80::1", "192.0.2.2", "", "localhost", "::ffff:x"))
    assert peer_of(("::ffff:10.0.0.1", 5, 0, 0)) == Client("10.0.0.1", 5)
    assert peer_of(("fe80::1%eth0", 5, 0, 3)) == Client("fe80::1", 5)
    assert peer_of("/run/a.sock") == peer_of(None) == Client("")


HOSTS = st.ip_addresses().map(str)
TEXTS = st.text(st.characters(codec="latin-1"), max_size=80)


@given(invented=st.lists(st.one_of(HOSTS, TEXTS), max_size=5), client=HOSTS.filter(lambda host: host not in PROXIES))
def test_a_client_cannot_invent_another_address(invented: list[str], client: str) -> None:
    """Fuzzed: whatever a client sends, the address that the proxy adds behind it counts."""
    plain = str(PROXIES.client(PROXY, of(*invented, client)).address)
    assert PROXIES.client(PROXY, of(", ".join([*invented, client]))).address == plain == peer_of((client, 1)).address
    quoted = f'for="[{client}]"' if ":" in client else f"for={client}"
    for line in (", ".join([*invented, quoted]), f'for="{"".join(invented)}, {quoted}'):
        assert PROXIES.client(PROXY, rfc(line)).address == plain
    other = PROXIES.client(PROXY, Via([", ".join(invented)], [client]))
    assert other.address in (plain, PROXY.address)


def test_a_way_of_many_hops_is_bounded() -> None:
    hops = ", ".join(["198.51.100.7", *["10.0.0.2"] * MAX_HOPS])
    assert PROXIES.client(PROXY, of(hops)).address == "10.0.0.2"


def test_networks_are_settings() -> None:
    assert load(environ={"GARRISON_PROXIES__TRUSTED": "10.0.0.0/8, fd00::1"}).proxies.trusted == [
        "10.0.0.0/8",
        "fd00::1",
    ]
    for wrong in ("10.0.0.1/8", "proxy.example", "10.0.0.0/33", ""):
        with pytest.raises(BadSetting, match=r"proxies\.trusted"):
            from_tree({"proxies": {"trusted": [wrong]}})
