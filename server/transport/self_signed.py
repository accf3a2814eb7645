"""A key pair and a certificate that signs itself, made anew by each process: Ed25519 as RFC 8032 has it. Pure.

TLS between nodes needs a certificate also where nobody has given one. Nobody trusts this one for what it says: the
login, which proves the cluster key, names the certificates that each end has seen (`login.py`), so a certificate only
has to belong to the process that shows it. So it holds no name that matters, is good for ever, and ends with its
process.

The standard library makes no key pairs, and takes pre-shared keys (TLS-PSK) from Python 3.13 on only. The package that
makes them, `cryptography`, would be one more library of machine code to install and to keep up to date, for one
multiplication at start. That multiplication is the whole of this module; what is encrypted, signed and checked while
nodes talk is OpenSSL's work. It is not constant in time, which matters where somebody can have it repeated with one
secret: here each secret is used once.
"""

import base64
import hashlib
from typing import Final, NamedTuple

SEED_BYTES: Final = 32
SERIAL_BYTES: Final = 16
_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_X: Final = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_Y: Final = 4 * pow(5, -1, _P) % _P

_Point = tuple[int, int, int, int]
"""A point of the curve in extended coordinates: X, Y, Z, and T = X * Y / Z."""
_BASE: Final[_Point] = (_X, _Y, 1, _X * _Y % _P)

_ED25519: Final = bytes.fromhex("300506032b6570")
"""AlgorithmIdentifier of Ed25519 (RFC 8410)."""
_PKCS8: Final = bytes.fromhex("302e020100") + _ED25519 + bytes.fromhex("04220420")
"""Everything before the seed of a PKCS #8 private key."""
_COMMON_NAME: Final = bytes.fromhex("0603550403")
_INTEGER, _BITS, _TEXT, _TIME, _SEQUENCE, _SET, _VERSION = 0x02, 0x03, 0x0C, 0x18, 0x30, 0x31, 0xA0
"""Tags of DER."""


class KeyPair(NamedTuple):
    """A certificate (DER) and both of its parts as PEM, for OpenSSL."""

    certificate: bytes
    pem: str
    """Private key, then certificate."""


def self_signed(seed: bytes, serial: bytes) -> KeyPair:
    """The pair of `seed`, `SEED_BYTES` that nobody else knows, and of `serial`, `SERIAL_BYTES` that say nothing."""
    assert len(seed) == SEED_BYTES
    assert len(serial) == SERIAL_BYTES
    name = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME, _der(_TEXT, b"garrison node"))))
    body = _der(
        _SEQUENCE,
        _der(_VERSION, _der(_INTEGER, b"\x02")),
        _der(_INTEGER, b"\x01", serial),
        _ED25519,
        name,
        _der(_SEQUENCE, _der(_TIME, b"20000101000000Z"), _der(_TIME, b"99991231235959Z")),
        name,
        _der(_SEQUENCE, _ED25519, _der(_BITS, b"\0", public_key(seed))),
    )
    certificate = _der(_SEQUENCE, body, _ED25519, _der(_BITS, b"\0", sign(seed, body)))
    return KeyPair(certificate, _pem("PRIVATE KEY", _PKCS8 + seed) + _pem("CERTIFICATE", certificate))


def public_key(seed: bytes) -> bytes:
    """RFC 8032, 5.1.5."""
    return _packed(_times(_split(seed)[0], _BASE))


def sign(seed: bytes, message: bytes) -> bytes:
    """RFC 8032, 5.1.6."""
    scalar, prefix = _split(seed)
    chance = _number(prefix + message) % _ORDER
    point = _packed(_times(chance, _BASE))
    challenge = _number(point + public_key(seed) + message) % _ORDER
    return point + ((chance + challenge * scalar) % _ORDER).to_bytes(32, "little")


def _split(seed: bytes) -> tuple[int, bytes]:
    """The secret scalar of a seed, and the prefix of what is hashed for a signature."""
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    return scalar, digest[32:]


def _number(hashed: bytes) -> int:
    return int.from_bytes(hashlib.sha512(hashed).digest(), "little")


def _add(left: _Point, right: _Point) -> _Point:
    """The sum of any two points, the same one twice too (RFC 8032, 5.1.4)."""
    a = (left[1] - left[0]) * (right[1] - right[0]) % _P
    b = (left[1] + left[0]) * (right[1] + right[0]) % _P
    c = 2 * left[3] * right[3] * _D % _P
    d = 2 * left[2] * right[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(factor: int, point: _Point) -> _Point:
    total: _Point = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _packed(point: _Point) -> bytes:
    """RFC 8032, 5.1.2."""
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _der(tag: int, *parts: bytes) -> bytes:
    """An element of DER, of less than 64 KiB."""
    content = b"".join(parts)
    size = len(content)
    length = bytes((size,)) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    if 0x80 <= size < 0x100:
        length = bytes((0x81, size))
    return bytes((tag,)) + length + content


def _pem(label: str, der: bytes) -> str:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n"
