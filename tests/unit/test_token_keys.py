"""Keys of client tokens: by name and algorithm, from files, changed while clients come."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from server.drivers import token_rules
from server.errors import BadInput, BadSetting, BadToken, UnknownKey
from server.sessions.token_keys import MAX_FILE_BYTES, MAX_KEYS, TokenKeys, keys_of_file, secret_key
from server.sessions.tokens import TokenRules, check, issue, own_rules
from server.settings import from_tree

OLD, NEW = b"the old key of thirty-two bytes.", b"the new key of thirty-two bytes."
NOW_MS = 1_700_000_000_000
GOOD = {"sub": "p", "role": "player", "iat": NOW_MS // 1000, "exp": NOW_MS // 1000 + 60, "iss": "garrison"}
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PAIRS: dict[str, Any] = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def pem(private: Any) -> bytes:
    return bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def jwk(algorithm: str, kid: str | None) -> dict[str, object]:
    made: dict[str, object] = json.loads(
        jwt.get_algorithm_by_name(algorithm).to_jwk(PAIRS[algorithm].public_key())  # type: ignore[no-untyped-call]
    )
    return made if kid is None else {**made, "kid": kid}


def signed(algorithm: str, key: Any, kid: str | None = None, **claims: object) -> str:
    return jwt.encode({**GOOD, **claims}, key, algorithm, headers=None if kid is None else {"kid": kid})


def rules(*keys: Any, **other: Any) -> TokenRules:
    return TokenRules(TokenKeys(keys), **other)


@pytest.mark.parametrize("algorithm", PAIRS)
@pytest.mark.parametrize("file", ["pem", "jwks"])
def test_a_token_of_a_public_key_is_good(algorithm: str, file: str) -> None:
    data = pem(PAIRS[algorithm]) if file == "pem" else json.dumps({"keys": [jwk(algorithm, "a")]}).encode()
    accepted = rules(*keys_of_file(data))
    kid = "a" if file == "jwks" else None
    token = signed(algorithm, PAIRS[algorithm], kid)
    assert check(token, accepted, NOW_MS).subject == "p"
    others = {
        "RS256": rsa.generate_private_key(65537, 2048),
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    with pytest.raises(BadToken):
        check(signed(algorithm, others[algorithm], kid), accepted, NOW_MS)


def test_a_certificate_gives_its_public_key() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "login")])
    begin = datetime(2024, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, EC.public_key(), 1, begin, begin + timedelta(days=1)).sign(
        EC, hashes.SHA256()
    )
    assert check(signed("ES256", EC), rules(*keys_of_file(made.public_bytes(Encoding.PEM))), NOW_MS).subject == "p"


def test_nobody_signs_by_hmac_with_a_public_key_as_the_secret() -> None:
    """The public key is known to all, so a token with alg HS256 must never be checked with it."""

    def part(value: object) -> bytes:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")

    secret = pem(RSA)
    head = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(GOOD)
    forged = head + b"." + base64.urlsafe_b64encode(hmac.new(secret, head, hashlib.sha256).digest()).rstrip(b"=")
    with pytest.raises(BadToken):
        check(forged.decode(), rules(*keys_of_file(secret)), NOW_MS)


def test_keys_change_from_node_to_node_and_no_client_is_refused() -> None:
    """F21: first every node learns the new key, then tokens are signed with it, then the old one goes."""
    before = rules(secret_key(OLD))
    both = rules(secret_key(OLD), secret_key(NEW, "new"))
    after = rules(secret_key(NEW, "new"))
    old, new = issue(OLD, "p", "player", 60, NOW_MS), issue(NEW, "p", "player", 60, NOW_MS, kid="new")
    assert check(old, before, NOW_MS) and check(old, both, NOW_MS)
    assert check(new, both, NOW_MS) and check(new, after, NOW_MS)
    with pytest.raises(BadToken):
        check(old, after, NOW_MS)


def test_a_key_that_is_not_here_yet_is_to_be_tried_again() -> None:
    accepted = rules(secret_key(OLD, "old"))
    with pytest.raises(UnknownKey) as caught:
        check(issue(NEW, "p", "player", 60, NOW_MS, kid="new"), accepted, NOW_MS)
    assert caught.value.retry_after_s == 5.0
    with pytest.raises(BadToken):  # the name is known, and the key is another
        check(issue(NEW, "p", "player", 60, NOW_MS, kid="old"), accepted, NOW_MS)


def test_a_token_without_a_name_is_tried_with_every_key_of_its_algorithm() -> None:
    accepted = rules(secret_key(OLD, "old"), secret_key(NEW, "new"))
    for key in (OLD, NEW):
        assert check(issue(key, "p", "player", 60, NOW_MS), accepted, NOW_MS).subject == "p"


@pytest.mark.parametrize("kid", [7, "k" * 257, ["a"], {}])
def test_a_name_that_is_none_is_refused(kid: object) -> None:
    header = json.dumps({"alg": "HS256", "kid": kid})
    head = base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode()
    token = issue(OLD, "p", "player", 60, NOW_MS)
    with pytest.raises(BadToken):
        check(head + token[token.index(".") :], own_rules(OLD), NOW_MS)


def test_the_issuer_and_the_claims_of_a_login_service() -> None:
    accepted = rules(
        *keys_of_file(pem(RSA)), issuers=("https://login.example",), subject_claim="player_id", default_role="player"
    )
    claims = {"iss": "https://login.example", "player_id": "jun", "iat": GOOD["iat"], "exp": GOOD["exp"]}
    token = jwt.encode(claims, RSA, "RS256")
    assert (check(token, accepted, NOW_MS).subject, check(token, accepted, NOW_MS).role) == ("jun", "player")
    for bad in ({"iss": "garrison"}, {"player_id": 7}, {"player_id": ""}, {"role": "node"}, {"role": None}):
        with pytest.raises(BadToken):
            check(jwt.encode(claims | bad, RSA, "RS256"), accepted, NOW_MS)
    with pytest.raises(BadToken, match="role"):
        check(token, replace(accepted, default_role=None), NOW_MS)


PRIVATE = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "32 bytes"),
        (b"short", "32 bytes"),
        (b"\xff" * 40, "neither"),
        (PRIVATE, "private"),
        (pem(RSA) + pem(EC), "more than one"),
        (b"-----BEGIN PUBLIC KEY-----\nnothing\n-----END PUBLIC KEY-----", "no PEM"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (b"{", "no JWKS"),
        (b'{"keys": 7}', "not a list"),
        (b'{"keys": []}', "it is empty"),
        (b'{"keys": [7]}', "not an object"),
        (b'{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}', "32 bytes"),
        (b'{"keys": [{"kty": "new"}]}', "not a key"),
        (b'{"a": ' * 5_000, "no JWKS"),
        (b"x" * (MAX_FILE_BYTES + 1), "256 KiB"),
    ],
)
def test_a_file_without_a_usable_key_says_why(data: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        keys_of_file(data)


def test_a_jwks_leaves_out_what_it_cannot_use() -> None:
    entries = [
        {"kty": "new"},
        jwk("RS256", "a") | {"use": "enc"},
        jwk("ES256", "b"),
        jwk("RS256", "c") | {"alg": "PS256"},
    ]
    assert [(key.kid, key.algorithm) for key in keys_of_file(json.dumps({"keys": entries}).encode())] == [
        ("b", "ES256")
    ]


def test_keys_are_bounded() -> None:
    for keys in ([], [secret_key(OLD, str(number)) for number in range(MAX_KEYS + 1)]):
        with pytest.raises(BadInput):
            TokenKeys(keys)


@given(st.text(max_size=300))
def test_any_text_is_a_good_token_or_a_typed_error(token: str) -> None:
    with pytest.raises((BadToken, UnknownKey)):
        check(token, rules(secret_key(OLD), *keys_of_file(pem(ED), "ed")), NOW_MS)


def test_a_path_with_an_equals_sign_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "a=b.pem").write_bytes(pem(RSA))
    for entry, kid in ((str(tmp_path / "a=b.pem"), None), (f"login={tmp_path / 'a=b.pem'}", "login")):
        settings = from_tree({"security": {"signing_key": NEW.decode(), "token_key_files": entry}})
        assert token_rules(settings).keys.keys[1].kid == kid


def test_files_of_keys_are_settings(tmp_path: Path) -> None:
    (tmp_path / "login.pem").write_bytes(pem(RSA))
    (tmp_path / "old").write_bytes(OLD + b"\n")
    files = [f"login={tmp_path / 'login.pem'}", str(tmp_path / "old")]
    security = {"signing_key": NEW.decode(), "signing_key_id": "new", "token_key_files": ",".join(files)}
    settings = from_tree({"security": security, "gateway": {"token_issuers": "garrison, https://login.example"}})
    accepted = token_rules(settings)
    assert [(key.kid, key.algorithm) for key in accepted.keys.keys] == [
        ("new", "HS256"),
        ("login", "RS256"),
        (None, "HS256"),
    ]
    assert accepted.issuers == ("garrison", "https://login.example")
    assert token_rules(settings) == accepted
    (tmp_path / "login.pem").write_bytes(pem(EC))
    assert token_rules(settings) != accepted
    refused: list[tuple[str, Callable[[], object]]] = [
        ("cannot read", (tmp_path / "old").unlink),
        ("32 bytes", lambda: (tmp_path / "old").write_bytes(b"short")),
    ]
    for why, spoil in refused:
        spoil()
        with pytest.raises(BadSetting, match=why) as caught:
            token_rules(settings)
        assert caught.value.field == "security.token_key_files" and str(tmp_path / "old") in caught.value.message
