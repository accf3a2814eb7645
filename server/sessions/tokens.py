"""Client tokens: JWT with a subject, a role, `exp`, `iat` and `iss`; `nbf` and `aud` if there.

`TokenRules` says by which keys they may be signed (`token_keys.py`), by whom they are made, and in which claims their
subject and role stand. Time is passed in; the library's own clock is switched off.
"""

import re
from typing import Any, Final, cast, get_args

import jwt
import msgspec

from server.actors.actor import Role
from server.errors import BadInput, BadToken, TokenExpired, Unavailable
from server.ids import KEY_PATTERN
from server.sessions.token_keys import TokenKeys, secret_key
from server.wire.messages import DEVICE_PATTERN

ISSUER: Final = "garrison"
AUDIENCE: Final = "garrison"
WAIT_CAP_S: Final = 60.0
"""Longest time after which the bearer of a token that is not good yet is asked to come again."""
MAX_TTL_S: Final = 10 * 365 * 86_400.0
_CLIENT_ROLES: Final = frozenset(get_args(Role)) - {"node"}
_SUBJECT: Final = re.compile(KEY_PATTERN, re.ASCII)
_DEVICE: Final = re.compile(DEVICE_PATTERN, re.ASCII)
_TIMES: Final = ("exp", "iat", "iss")
_CHECKS: Final[dict[str, Any]] = {
    "verify_sub": False,
    "verify_jti": False,
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
}


class TokenClaims(msgspec.Struct, frozen=True):
    """Claims of a good token. Times are seconds since 1970. `device`: the kind of the device, empty if not said."""

    subject: str
    role: Role
    issued_s: float
    expires_s: float
    device: str = ""


class TokenRules(msgspec.Struct, frozen=True):
    """Conditions of a good token. `issuers`: what `iss` may be; `audience`: what `aud` must name (None: it may be
    absent); `skew_s`: by how much the issuer's clock may differ; `default_role`: the role of a token without one
    (None: it is refused); `device_claim`: the claim that says the kind of the device,
    if any does."""

    keys: TokenKeys
    issuers: tuple[str, ...] = (ISSUER,)
    audience: str | None = None
    skew_s: float = 5.0
    subject_claim: str = "sub"
    role_claim: str = "role"
    default_role: Role | None = None
    device_claim: str | None = None


def own_rules(key: bytes) -> TokenRules:
    """Rules of a node whose only key is the HMAC key `key`. Raises `BadInput` for a short one."""
    return TokenRules(TokenKeys([secret_key(key)]))


def issue(
    key: bytes, subject: str, role: str, ttl_s: float, wall_ms: int, audience: str | None = None, kid: str | None = None
) -> str:
    """A token for `subject` that is good for `ttl_s` seconds from `wall_ms`, signed with the HMAC key `key`, which
    nodes know as `kid`; `audience` is the claim `aud`, if any. Raises `BadInput` for a bad key, subject, role or
    time."""
    secret_key(key)
    if _SUBJECT.fullmatch(subject) is None:
        raise BadInput(f"not a subject: {subject[:100]!r}")
    if role not in _CLIENT_ROLES:
        raise BadInput(f"role must be one of {', '.join(sorted(_CLIENT_ROLES))}, not {role[:40]!r}")
    if not 0 < ttl_s <= MAX_TTL_S:
        raise BadInput("a token's time must be above zero and at most ten years")
    now_s = wall_ms // 1000
    claims = {"sub": subject, "role": role, "iat": now_s, "exp": now_s + max(1, int(ttl_s)), "iss": ISSUER}
    if audience is not None:
        claims["aud"] = audience
    return jwt.encode(claims, key, algorithm="HS256", headers=None if kid is None else {"kid": kid})


def check(token: str, rules: TokenRules, wall_ms: int) -> TokenClaims:
    """The claims of `token`. Raises `TokenExpired` for one that was good once, `Unavailable` for one that will be,
    `UnknownKey` for one whose key is not here, and `BadToken` for any other."""
    claims = _verified(token, rules)
    subject, role = claims[rules.subject_claim], claims.get(rules.role_claim, rules.default_role)
    if not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None:
        raise BadToken(f"token refused: {rules.subject_claim} is not a subject")
    if not isinstance(role, str) or role not in _CLIENT_ROLES:
        raise BadToken("token refused: no such role")
    device = claims.get(rules.device_claim, "") if rules.device_claim is not None else ""
    if not isinstance(device, str) or _DEVICE.fullmatch(device) is None:
        raise BadToken(f"token refused: {rules.device_claim} is not a kind of device")
    issued_s, expires_s = _time(claims, "iat"), _time(claims, "exp")
    now_s, skew_s = wall_ms / 1000, rules.skew_s
    _check_audience(claims.get("aud"), rules.audience)
    good_from_s = max(issued_s, _time(claims, "nbf") if "nbf" in claims else 0.0)
    if good_from_s > now_s + skew_s:
        early_s = good_from_s - now_s
        why = f"the token is not good yet, for {early_s:.0f} s: do the clocks of its maker and of this node agree?"
        raise Unavailable(why, retry_after_s=min(early_s - skew_s, WAIT_CAP_S))
    if expires_s <= now_s - skew_s:
        raise TokenExpired(f"token expired {now_s - expires_s:.0f} s ago")
    return TokenClaims(subject, cast(Role, role), issued_s, expires_s, device)


def _verified(token: str, rules: TokenRules) -> dict[str, Any]:
    """The claims of a token whose signature and issuer are good."""
    options = {**_CHECKS, "require": [rules.subject_claim, *_TIMES]}
    keys, none_fits = rules.keys.of(token)
    for key in keys:
        try:
            found = jwt.decode(
                token, key.key, algorithms=[key.algorithm], options=cast(Any, options), issuer=list(rules.issuers)
            )
        except jwt.InvalidSignatureError:
            continue  # another key of this algorithm may fit
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise BadToken(f"token refused: {error}") from None
        else:
            return found
    raise none_fits


def _check_audience(named: Any, wanted: str | None) -> None:
    """Raises `BadToken` for a token that is for somebody else."""
    if named is None and wanted is None:
        return
    listed = named if isinstance(named, list) else [named]
    if (wanted or AUDIENCE) not in listed:
        raise BadToken("token refused: aud names somebody else")


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
        raise BadToken(f"token refused: {name} is not a time")
    return float(value)
