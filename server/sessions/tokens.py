"""Client tokens: JWT, HS256 and nothing else, with claims sub, role, exp, iat, iss="garrison".

Time is passed in; the library's own clock is switched off.
"""

import re
from typing import Any, Final, cast, get_args

import jwt
import msgspec

from server.actors.actor import Role
from server.errors import BadInput, BadToken, TokenExpired
from server.ids import KEY_PATTERN

ALGORITHM: Final = "HS256"
ISSUER: Final = "garrison"
MIN_KEY_BYTES: Final = 32
MAX_TTL_S: Final = 10 * 365 * 86_400.0
_CLIENT_ROLES: Final = frozenset(get_args(Role)) - {"node"}
_SUBJECT: Final = re.compile(KEY_PATTERN, re.ASCII)
_CHECKS: Final[dict[str, Any]] = {
    "require": ["sub", "role", "exp", "iat", "iss"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
}


class TokenClaims(msgspec.Struct, frozen=True):
    """Claims of a good token. Times are seconds since 1970."""

    subject: str
    role: Role
    issued_s: float
    expires_s: float


def check_key(key: bytes) -> None:
    """Raises `BadInput` for a signing key that is too short to be one."""
    if len(key) < MIN_KEY_BYTES:
        raise BadInput(f"a signing key has {MIN_KEY_BYTES} bytes or more, not {len(key)}")


def issue(key: bytes, subject: str, role: str, ttl_s: float, wall_ms: int) -> str:
    """A token for `subject` that is good for `ttl_s` seconds from `wall_ms`. Raises `BadInput`
    for a bad key, subject, role or time."""
    check_key(key)
    if _SUBJECT.fullmatch(subject) is None:
        raise BadInput(f"not a subject: {subject[:100]!r}")
    if role not in _CLIENT_ROLES:
        raise BadInput(f"role must be one of {', '.join(sorted(_CLIENT_ROLES))}, not {role[:40]!r}")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise BadInput("a token's time must be above zero and at most ten years")
    now_s = wall_ms // 1000
    claims = {"sub": subject, "role": role, "iat": now_s, "exp": now_s + max(1, int(ttl_s)), "iss": ISSUER}
    return jwt.encode(claims, key, algorithm=ALGORITHM)


def check(token: str, key: bytes, wall_ms: int, skew_s: float) -> TokenClaims:
    """The claims of `token`. Raises `TokenExpired` for one that was good once, `BadToken` for
    any other. `skew_s`: by how much the issuer's clock may differ from `wall_ms`."""
    try:
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], options=cast(Any, _CHECKS), issuer=ISSUER)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise BadToken(f"token refused: {error}") from None
    subject, role = claims["sub"], claims["role"]
    if not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None:
        raise BadToken("token refused: sub is not a subject")
    if not isinstance(role, str) or role not in _CLIENT_ROLES:
        raise BadToken("token refused: no such role")
    issued_s, expires_s = _time(claims, "iat"), _time(claims, "exp")
    now_s = wall_ms / 1000
    if issued_s > now_s + skew_s:
        raise BadToken("token refused: issued in the future")
    if expires_s <= now_s - skew_s:
        raise TokenExpired(f"token expired {now_s - expires_s:.0f} s ago")
    return TokenClaims(subject, cast(Role, role), issued_s, expires_s)


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
        raise BadToken(f"token refused: {name} is not a time")
    return float(value)
