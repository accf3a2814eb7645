"""Settings: order of sources, and that every bad field is named."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.errors import BadSetting
from server.settings import ENV_PREFIX, Settings, from_tree, load


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "garrison.toml"
    file.write_text(text, "utf-8")
    return file


def test_defaults_are_valid() -> None:
    assert load() == Settings() == from_tree({})


def test_file_then_variables_then_flags(tmp_path: Path) -> None:
    file = toml(tmp_path, 'node = "from-file"\n[gateway]\nport = 1\nhost = "10.0.0.1"\n[admin]\nport = 11\n')
    environ = {"GARRISON_GATEWAY__PORT": "2", "GARRISON_ADMIN__PORT": "12", "HOME": "/root"}
    settings = load(file, environ, {"gateway.port": 3, "admin.host": None})
    assert settings.node == "from-file"
    assert settings.gateway.host == "10.0.0.1"
    assert settings.admin.port == 12
    assert settings.gateway.port == 3
    assert settings.admin.host == "127.0.0.1"


def test_text_from_the_environment_becomes_the_right_type() -> None:
    settings = load(
        environ={
            "GARRISON_STORE__LEASE": "false",
            "GARRISON_STORE__FLUSH_INTERVAL_S": "0.25",
            "GARRISON_WEIGHT": "7",
            "GARRISON_GOSSIP__SEEDS": "10.0.0.1:7946, node-2:7946 ,",
            "GARRISON_LOG__JSON": "true",
        }
    )
    assert settings.store.lease is False
    assert settings.store.flush_interval_s == 0.25
    assert settings.weight == 7
    assert settings.gossip.seeds == ["10.0.0.1:7946", "node-2:7946"]
    assert settings.log.json is True


def test_lists_from_a_file_stay_lists(tmp_path: Path) -> None:
    file = toml(tmp_path, '[gossip]\nseeds = ["10.0.0.1:1", "10.0.0.2:2"]\n')
    assert load(file).gossip.seeds == ["10.0.0.1:1", "10.0.0.2:2"]


def test_a_flag_that_is_false_counts() -> None:
    assert load(flags={"admin.enabled": False}).admin.enabled is False


BAD: list[tuple[dict[str, Any], str]] = [
    ({"gateway": {"port": 70_000}}, "gateway.port"),
    ({"gateway": {"port": "many"}}, "gateway.port"),
    ({"transport": {"max_in_flight": 0}}, "transport.max_in_flight"),
    ({"actors": {"claim_batch": 501}}, "actors.claim_batch"),
    ({"gossip": {"seeds": "a:1", "probe_interval_s": 0}}, "gossip.probe_interval_s"),
    ({"gossip": {"probe_interval_s": 0.1, "probe_timeout_s": 0.1}}, "gossip.probe_timeout_s"),
    ({"gateway": {"tls_certificate": "x.pem"}}, "gateway.tls_key"),
    ({"gateway": {"advertise_url": "http://x"}}, "gateway.advertise_url"),
    ({"gateway": {"advertise_url": "play.example:7350"}}, "gateway.advertise_url"),
    ({"gateway": {"advertise_url": "wss:///"}}, "gateway.advertise_url"),
    ({"gateway": {"outbox_max_bytes": 2049}, "transport": {"max_frame_bytes": 4096}}, "gateway.outbox_max_bytes"),
    ({"transport": {"max_frame_bytes": 1024 * 1024}}, "gateway.outbox_max_bytes"),
    ({"store": {"lease_period_s": 1.0, "lease_renew_s": 0.6}}, "store.lease_renew_s"),
    ({"store": {"url": "mysql://x"}}, "store.url"),
    ({"app": "nocolon"}, "app"),
    ({"node": "Bad Name"}, "node"),
    ({"weight": 17}, "weight"),
    ({"gateway": 5}, "gateway"),
    ({"store": {"flush_interval_s": "inf"}}, "store.flush_interval_s"),
    ({"store": {"flush_interval_s": 365 * 86_400 + 1}}, "store.flush_interval_s"),
    ({"drain_timeout_s": "inf"}, "drain_timeout_s"),
    ({"gateway": {"clock_skew_s": -5}}, "gateway.clock_skew_s"),
    ({"gateway": {"clock_skew_s": "nan"}}, "gateway.clock_skew_s"),
    ({"gateway": {"clock_skew_s": 3_601}}, "gateway.clock_skew_s"),
    ({"gateway": {"advertise_url": "ws://x:many"}}, "gateway.advertise_url"),
    ({"admin": {"advertise_url": "nonsense"}}, "admin.advertise_url"),
    ({"admin": {"advertise_url": "ws://x"}}, "admin.advertise_url"),
    ({"admin": {"advertise_url": "http://:7360"}}, "admin.advertise_url"),
    ({"security": {"signing_key": "short"}}, "security.signing_key"),
]


@pytest.mark.parametrize(("tree", "field"), BAD, ids=[field for _, field in BAD])
def test_bad_fields_are_named(tree: dict[str, Any], field: str) -> None:
    with pytest.raises(BadSetting) as caught:
        from_tree(tree)
    assert caught.value.field == field
    assert field in str(caught.value)


WORDED: list[tuple[dict[str, object], str]] = [
    ({"gateway.port": "abc"}, "gateway.port: must be a whole number"),
    ({"gateway.port": 99_999}, "gateway.port: must be a whole number <= 65535"),
    ({"store.flush_interval_s": "soon"}, "store.flush_interval_s: must be a number"),
    ({"log.json": "maybe"}, "log.json: must be true or false"),
    ({"admin.token": 5}, "admin.token: must be text"),
    ({"gossip.seeds": 5}, "gossip.seeds: must be a list"),
    ({"gateway": "3"}, "gateway: is a section; use gateway.field"),
    ({"security.signing_key": "x" * 32, "security": "3"}, "security: is a section; use security.field"),
    ({"security.signing_key": "kéy"}, "security.signing_key: is too short: 4 bytes; 32 or more are needed"),
    ({"store.url": "mysql://x"}, "store.url: must begin with sqlite: or postgresql:"),
]


@pytest.mark.parametrize(("flags", "said"), WORDED, ids=[said for _, said in WORDED])
def test_wrong_values_are_refused_in_words_of_settings(flags: dict[str, object], said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(flags=flags)
    assert caught.value.message == f"setting {said}"


def test_a_file_with_a_value_for_a_section(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="setting gateway: is a section"):
        load(toml(tmp_path, "gateway = 3\n"))


def test_a_bound_that_depends_on_another_names_both() -> None:
    with pytest.raises(BadSetting, match=r"gateway\.outbox_max_bytes.*transport\.max_frame_bytes"):
        from_tree({"transport": {"max_frame_bytes": 1024}})
    tree = {"gateway": {"outbox_max_bytes": 512}, "transport": {"max_frame_bytes": 1024}}
    assert from_tree(tree).gateway.outbox_max_bytes == 512


@pytest.mark.parametrize("url", ["ws://10.0.0.1:7350", "wss://play.example", "wss://play.example:443/g1"])
def test_addresses_that_clients_can_be_told(url: str) -> None:
    assert from_tree({"gateway": {"advertise_url": url}}).gateway.advertise_url == url


@pytest.mark.parametrize("url", ["http://10.0.0.1:7360", "https://play.example/node-1"])
def test_addresses_that_operators_can_be_told(url: str) -> None:
    assert from_tree({"admin": {"advertise_url": url}}).admin.advertise_url == url


@pytest.mark.parametrize("dotted", ["gatewya.port", "gateway.prot", "nodes"])
def test_unknown_fields_are_named(dotted: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(flags={dotted: 1})
    wrong = dotted if "prot" in dotted else dotted.partition(".")[0]
    assert caught.value.message == f"setting {wrong}: no such setting"
    with pytest.raises(BadSetting, match="no such setting"):
        load(environ={ENV_PREFIX + dotted.upper().replace(".", "__"): "1"})


MEANT = {
    "GARRISON_GATEWAY_PORT": "GARRISON_GATEWAY__PORT",
    "GARRISON_STORE_FLUSH_INTERVAL_S": "GARRISON_STORE__FLUSH_INTERVAL_S",
    "GARRISON_CLUSTER_KEY": "GARRISON_SECURITY__CLUSTER_KEY",
    "GARRISON_ADMIN_TOKEN": "GARRISON_ADMIN__TOKEN",
    "GARRISON_PORT": "",  # there are several
    "GARRISON_GATEWAY": "",
    "GARRISON_GATEWAY__PRT": "GARRISON_GATEWAY__PORT",
    "GARRISON_GATWAY__PORT": "GARRISON_GATEWAY__PORT",
    "GARRISON_GATEWAY__TOP_SPEED": "",
}


@pytest.mark.parametrize(("variable", "meant"), MEANT.items())
def test_a_variable_that_is_no_setting(variable: str, meant: str) -> None:
    with pytest.raises(BadSetting) as caught:
        load(environ={variable: "1"})
    hint = f"; did you mean {meant}?" if meant else ""
    assert caught.value.message == f"setting {variable}: no such setting{hint}"


def test_a_word_that_is_no_choice_is_told_the_choices() -> None:
    with pytest.raises(BadSetting, match=r"setting journal\.mode: .*'disk'; use none, local or redis"):
        from_tree({"journal": {"mode": "disk"}})


def test_the_signing_key_of_the_later_source_counts(tmp_path: Path) -> None:
    file = toml(tmp_path, '[security]\nsigning_key_file = "from-file"\n')
    key, key_file = "security.signing_key", "security.signing_key_file"
    in_variable, in_flag = "variable" * 4, "flag" * 8
    variable = {"GARRISON_SECURITY__SIGNING_KEY": in_variable}
    cases: list[tuple[dict[str, str], dict[str, object], tuple[str | None, str | None]]] = [
        ({}, {}, (None, "from-file")),
        (variable, {}, (in_variable, None)),
        ({}, {key: in_flag}, (in_flag, None)),
        (variable, {key_file: "flag-file"}, (None, "flag-file")),
        ({"GARRISON_SECURITY__SIGNING_KEY_FILE": "other"}, {}, (None, "other")),
        ({"GARRISON_SECURITY__SIGNING_KEY": ""}, {}, ("", "from-file")),
    ]
    for environ, flags, wanted in cases:
        security = load(file, environ, flags).security
        assert (security.signing_key, security.signing_key_file) == wanted


def test_an_empty_admin_token_is_none() -> None:
    assert load(environ={"GARRISON_ADMIN__TOKEN": ""}).admin.token is None
    assert load(environ={"GARRISON_ADMIN__TOKEN": "t"}).admin.token == "t"


def test_a_value_where_a_section_belongs() -> None:
    with pytest.raises(BadSetting, match=r"gateway\.port\.x"):
        load(flags={"gateway.port": 1, "gateway.port.x": 2})


@pytest.mark.parametrize("text", ["node = ", "\x00", "[gateway\n", "node = 1\nnode = 2\n"])
def test_a_file_that_is_no_toml(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadSetting, match="is not TOML"):
        load(toml(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="cannot read"):
        load(tmp_path / "nothing.toml")
    file = tmp_path / "latin.toml"
    file.write_bytes(b'node = "\xe9"')
    with pytest.raises(BadSetting, match="is not TOML"):
        load(file)


def test_every_bound_has_its_unit_in_its_name() -> None:
    """Floats are seconds, and say so."""
    for section in msgspec.structs.fields(Settings):
        kind = type(section.default) if section.default is not msgspec.NODEFAULT else None
        if kind is None or not issubclass(kind, msgspec.Struct):
            continue
        for field in msgspec.structs.fields(kind):
            if isinstance(field.default, float):
                assert field.name.endswith("_s"), f"{section.name}.{field.name}"


def test_a_bad_key_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(BadSetting) as caught:
        from_tree({"security": {"signing_key": 12345678}, "weight": "zzz"})
    assert "12345678" not in str(caught.value)


def test_variables_of_a_kubernetes_service_are_no_settings() -> None:
    """F12: a Service named `garrison`, and one named `garrison-gateway`."""
    environ = {"GARRISON_TOP_SPEED": "9", "GARRISON_SOMETHING__ELSE": "1", "GARRISON_CONFIG": "x", "GARRISON_NODE": "n"}
    for service, port in (("GARRISON", 7350), ("GARRISON_GATEWAY", 7350), ("GARRISON_ADMIN", 7360)):
        url = f"tcp://10.0.0.1:{port}"
        environ |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": str(port),
            f"{service}_SERVICE_PORT_GATEWAY": str(port),
            f"{service}_PORT": url,
            f"{service}_PORT_{port}_TCP": url,
            f"{service}_PORT_{port}_TCP_PROTO": "tcp",
            f"{service}_PORT_{port}_TCP_PORT": str(port),
            f"{service}_PORT_{port}_TCP_ADDR": "10.0.0.1",
        }
    assert load(environ=environ) == load(environ={"GARRISON_NODE": "n"})


@pytest.mark.parametrize(
    ("given", "mode"), [({"redis_url": "redis://r/0"}, "redis"), ({"directory": "/tmp/j"}, "local")]
)
def test_journal_that_is_described_needs_a_mode_f43(given: dict[str, str], mode: str) -> None:
    """It was not kept, and the node was ready."""
    with pytest.raises(BadSetting, match=rf"journal\.mode: is not set, and journal\..* is: set it to {mode}"):
        from_tree({"journal": given})
    for chosen in ("none", "local", "redis"):
        assert from_tree({"journal": {**given, "mode": chosen}}).journal.mode == chosen
