"""Marks of tokens that were checked, so that a client that resumes with the token of before is let in at once.

The check of a signature is about half of the work of a resumption (`garrison bench resume`), and after a short outage
all clients are back in one burst. A *mark* is a keyed digest (BLAKE2b, RFC 7693) of the token, kept with the session
that was opened with it: no token is kept, and nobody can make a token that has another one's mark. The key is this
process's own. It is drawn anew when the conditions of a good token change, so that all are checked by these again.
"""

import hmac
import secrets
from hashlib import blake2b
from typing import Final

MARK_BYTES: Final = 16
_KEY_BYTES: Final = 32


class KnownTokens:
    """See the module's head."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_KEY_BYTES)

    def mark(self, token: str) -> bytes:
        """The mark of a token."""
        return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=MARK_BYTES, key=self._key).digest()

    def knows(self, token: str, mark: bytes) -> bool:
        """Tell whether `mark` is the token's, made since the last `forget`; an empty one is nobody's."""
        return bool(mark) and hmac.compare_digest(self.mark(token), mark)

    def forget(self) -> None:
        """Make every mark void."""
        self._key = secrets.token_bytes(_KEY_BYTES)
