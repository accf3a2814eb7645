"""Addresses: where the next connection goes and how long to wait before it, by how the last one ended. Pure."""

from collections.abc import Sequence

from garrison._retry import Chance, backoff_s, retry_wait_s
from garrison.errors import (
    BadInput,
    BadToken,
    GarrisonError,
    NotFound,
    Rejected,
    Revoked,
    SessionClosed,
    TokenExpired,
    Unavailable,
)
from garrison.messages import APPLICATION_CLOSE_CODES, CLOSE_CODES, CloseInfo
from garrison.options import Options

LATER = 10
"""Factor of the first pause where a close code asks for a pause."""


class Dial:
    """The urls that were given, tried in turn from number `first`, and the two that nodes have told: where to go
    next, and where the client was served last, which may be all that is left of the cluster it was told of."""

    def __init__(self, urls: Sequence[str], first: int, options: Options, chance: Chance, renewable: bool) -> None:
        self.preferred: str | None = None
        """The next url, once, before all others."""
        self._urls = list(urls)
        self._next = first
        self._served: str | None = None
        self._dialled = ""
        self._refused: set[str] = set()
        """Addresses that led to a node which refused the token, since the last welcome."""
        self._attempt = 0
        self._options = options
        self._chance = chance
        self._renewable = renewable

    def next_url(self) -> str:
        """The url for the next connection."""
        preferred, self.preferred = self.preferred, None
        url = preferred if preferred is not None and preferred not in self._refused else self._next_seed()
        self._dialled = url
        return url

    def _next_seed(self) -> str:
        """The next address in turn, past those that refused the token while there are others."""
        seeds = self._seeds
        left = [seed for seed in seeds if seed not in self._refused] or seeds
        while seeds[self._next % len(seeds)] not in left:
            self._next += 1
        self._next += 1
        return seeds[(self._next - 1) % len(seeds)]

    def served(self, url: str) -> None:
        """Note that `url` has welcomed the client."""
        self._served = url
        self._refused.clear()

    @property
    def _seeds(self) -> list[str]:
        if self._served is None or self._served in self._urls:
            return self._urls
        return [*self._urls, self._served]

    def _refused_by_all(self, url: str) -> bool:
        """Note that `url` refused the token. One node may be wrong, with another key or clock: the word is final when
        no address is left that has not said it."""
        self._refused |= {url, self._dialled}
        return self._refused.issuperset(self._seeds)

    def wait_after_failure_s(self, error: GarrisonError, url: str | None = None) -> float | None:
        """How long to wait after an attempt that `error` ended, at `url` if it came so far; None if another would be
        answered no better."""
        if isinstance(error, TokenExpired | Revoked):
            hopeless = not self._renewable
        elif isinstance(error, BadToken) and url is not None:
            hopeless = self._refused_by_all(url)
        else:
            hopeless = isinstance(error, BadInput | NotFound | Rejected | SessionClosed)
        if hopeless:
            return None
        options = self._options
        wait_s = retry_wait_s(error, self._attempt, self._chance, options.backoff_base_s, options.backoff_cap_s)
        self._attempt += 1
        return wait_s

    def wait_after_close_s(self, code: int, url: str, *, lived_s: float, moving: bool) -> float | None:
        """How long to wait after a session's connection to `url` was closed with `code`; None if there is to be no
        other. `moving`: the server had told the client to go."""
        self._attempt = 0 if lived_s >= self._options.stable_s else self._attempt + 1
        info = close_info(code)
        retry = "now" if info is None or (code == 1000 and moving) else info.retry
        if retry == "no" or (retry == "new_token" and not self._renewable):
            return None
        if retry == "each_once" and self._refused_by_all(url):
            return None
        if retry == "now" and not moving and code != 1006:
            self.preferred = self.preferred or url
        if retry == "elsewhere" and self._seeds[self._next % len(self._seeds)] == url:
            self._next += 1
        base_s = self._options.backoff_base_s * (LATER if retry == "later" else 1)
        return backoff_s(self._attempt, self._chance, base_s, self._options.backoff_cap_s)


def close_info(code: int) -> CloseInfo | None:
    """The meaning of a close code; None for a code that the protocol does not name."""
    if code in APPLICATION_CLOSE_CODES:
        return CloseInfo("application", "no", "The application ended the session, for a reason of its own.")
    return CLOSE_CODES.get(code)


def shows_token(url: str, to: str) -> bool:
    """Tell whether going on from `url` to `to` would show the token to a listener on the way."""
    return url.lower().startswith("wss:") and not to.lower().startswith("wss:")


def close_error(code: int, reason: str) -> Unavailable | BadToken | TokenExpired | SessionClosed:
    """The meaning of a close as an error: `Unavailable` says try again."""
    info = close_info(code)
    text = f"closed with {code}" + (f" ({info.name})" if info else "") + (f": {reason}" if reason else "")
    if info is None or info.retry not in ("no", "new_token", "each_once"):
        return Unavailable(text)
    if info.retry == "new_token":
        return TokenExpired(text)
    return BadToken(text) if info.name == "bad_token" else SessionClosed(text, close_code=code, reason=reason)
