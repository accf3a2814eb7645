"""Keys that client tokens may be signed with, and the one a token names by its `kid` (RFC 7515, 4.1.4).

A key file holds one of: a public key or a certificate in PEM (RSA, P-256, Ed25519), a set of keys as JSON (JWKS,
RFC 7517), or a text, which is an HMAC key. Each key is good for one algorithm, so that nobody signs by HMAC with a
public key as its secret. Pure but for the bytes that are passed in.

Rotation without a refused client: the new key goes to every node first, then tokens are signed with it, and the old
one is taken away when its last token has expired.
"""

from collections.abc import Iterable
from typing import Any, Final

import jwt
import msgspec

from server.errors import BadInput, BadToken, GarrisonError, UnknownKey
from server.settings import MIN_KEY_BYTES

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
MAX_KEYS: Final = 64
MAX_FILE_BYTES: Final = 256 * 1024
MAX_KID: Final = 256
MIN_RSA_BITS: Final = 2048
_PEM: Final = b"-----BEGIN "
_CURVES: Final = {"secp256r1": "ES256"}


class TokenKey(msgspec.Struct, frozen=True):
    """`kid`: the name by which tokens ask for it; None: it is tried for every token of its algorithm. `key`: what the
    JWT library checks with."""

    kid: str | None
    algorithm: str
    key: Any

    def told(self) -> bytes:
        """The bytes of algorithm and key, for fingerprints of it."""
        if isinstance(self.key, bytes):
            return self.algorithm.encode() + b" " + self.key
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public: bytes = self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return self.algorithm.encode() + b" " + public


class TokenKeys:
    """All keys of a node, at most 64. Immutable: a change of keys is a new object."""

    __slots__ = ("_by_kid", "_nameless", "keys")

    def __init__(self, keys: Iterable[TokenKey]) -> None:
        """Raises `BadInput` for no key or too many."""
        self.keys = tuple(keys)
        if not 0 < len(self.keys) <= MAX_KEYS:
            raise BadInput(f"a node has 1 to {MAX_KEYS} keys for tokens, not {len(self.keys)}")
        self._nameless = tuple(key for key in self.keys if key.kid is None)
        self._by_kid: dict[str, tuple[TokenKey, ...]] = {}
        for key in self.keys:
            if key.kid is not None:
                self._by_kid[key.kid] = (*self._by_kid.get(key.kid, ()), key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenKeys) and self.keys == other.keys

    def __hash__(self) -> int:
        return hash(tuple((key.kid, key.algorithm) for key in self.keys))

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, token: str) -> tuple[tuple[TokenKey, ...], GarrisonError]:
        """Keys that `token` may be signed with, perhaps none, and the error to raise if none of them fits:
        `UnknownKey` where the token names a key that is not here, else `BadToken`. Raises `BadToken` for a token that
        cannot be read."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise BadToken(f"token refused: {error}") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise BadToken(f"token refused: alg must be one of {', '.join(ALGORITHMS)}")
        if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID):
            raise BadToken(f"token refused: kid is not a text of at most {MAX_KID} characters")
        named = self._by_kid.get(kid, ()) if kid is not None else self.keys
        found = [key for key in named if key.algorithm == algorithm]
        if kid is not None:
            found += [key for key in self._nameless if key.algorithm == algorithm]
        if kid is not None and kid not in self._by_kid:
            return tuple(found), UnknownKey(f"no key {kid[:40]!r} for tokens at this node")
        if not found:
            return (), BadToken(f"token refused: no key for {algorithm} at this node")
        return tuple(found), BadToken("token refused: Signature verification failed")


def secret_key(key: bytes, kid: str | None = None) -> TokenKey:
    """The HMAC key of these bytes. Raises `BadInput` for one that is too short."""
    if len(key) < MIN_KEY_BYTES:
        raise BadInput(f"a signing key has {MIN_KEY_BYTES} bytes or more, not {len(key)}")
    return TokenKey(kid, "HS256", key)


def keys_of_file(data: bytes, kid: str | None = None) -> list[TokenKey]:
    """Keys in the bytes of a file; see the module's head. `kid`: the name of its only key (keys of a JWKS have their
    own). Raises `BadInput` for bytes that hold no usable key, and for a private key."""
    if len(data) > MAX_FILE_BYTES:
        raise BadInput(f"a file of keys has at most {MAX_FILE_BYTES // 1024} KiB")
    stripped = data.strip()
    if stripped.startswith(_PEM):
        return [_pem_key(stripped, kid)]
    if stripped.startswith(b"{"):
        if kid is not None:
            raise BadInput("a set of keys (JWKS) has names of its own")
        return _jwks(stripped)
    try:
        stripped.decode()
    except UnicodeDecodeError:
        raise BadInput("neither PEM, nor JSON, nor a text") from None
    return [secret_key(stripped, kid)]


def _pem_key(data: bytes, kid: str | None) -> TokenKey:
    # The library is loaded by those who have such keys only: it takes 5 MiB and 40 ms.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY" in data.split(b"\n", 1)[0]:
        raise BadInput("a private key: a node needs the public one only")
    if data.count(_PEM) > 1:
        raise BadInput("more than one PEM block: put each key into a file of its own, or use a JWKS")
    try:
        if data.startswith(b"-----BEGIN CERTIFICATE"):
            return _public_key(x509.load_pem_x509_certificate(data).public_key(), kid)
        return _public_key(load_pem_public_key(data), kid)
    except BadInput:
        raise
    except Exception as error:  # the library names many, some of them its own
        raise BadInput(f"no PEM public key: {error}") from None


def _public_key(key: Any, kid: str | None) -> TokenKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise BadInput(f"an RSA key has {MIN_RSA_BITS} bits or more, not {key.key_size}")
        return TokenKey(kid, "RS256", key)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return TokenKey(kid, _CURVES[key.curve.name], key)
    if isinstance(key, Ed25519PublicKey):
        return TokenKey(kid, "EdDSA", key)
    raise BadInput("a key is RSA, P-256 or Ed25519")


def _jwks(data: bytes) -> list[TokenKey]:
    """Keys of a JWKS. Those of other kinds or uses are left out, as RFC 7517, 5 asks."""
    try:
        listed = msgspec.json.decode(data)["keys"]
    except (msgspec.DecodeError, KeyError, TypeError, RecursionError, UnicodeDecodeError) as error:
        raise BadInput(f"no JWKS: {error}") from None
    if not isinstance(listed, list):
        raise BadInput("no JWKS: `keys` is not a list")
    found: list[TokenKey] = []
    why = "it is empty"
    for number, entry in enumerate(listed[: MAX_KEYS * 4]):
        try:
            found.append(_jwk(entry))
        except BadInput as error:
            why = f"key {number}: {error.message}"
    if not found:
        raise BadInput(f"no usable key in this JWKS, {why}")
    return found


def _jwk(entry: Any) -> TokenKey:
    if not isinstance(entry, dict):
        raise BadInput("not an object")
    kid = entry.get("kid")
    if kid is not None and (not isinstance(kid, str) or len(kid) > MAX_KID):
        raise BadInput(f"kid is not a text of at most {MAX_KID} characters")
    if entry.get("use", "sig") != "sig":
        raise BadInput("not for signatures")
    if "d" in entry:
        raise BadInput("a private key: a node needs the public one only")
    try:
        parsed = jwt.PyJWK.from_dict({name: value for name, value in entry.items() if name != "alg"})
    except Exception as error:  # the library raises what its parts raise
        raise BadInput(f"not a key: {error}") from None
    key = parsed.key
    made = secret_key(key, kid) if isinstance(key, bytes) else _public_key(key, kid)
    if entry.get("alg", made.algorithm) != made.algorithm:
        raise BadInput(f"alg is not {made.algorithm}")
    return made
