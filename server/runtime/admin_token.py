"""The random admin token of a node that was given none."""

import secrets
from typing import Final

TOKEN_BYTES: Final = 24


def new_admin_token() -> str:
    """A token in hexadecimal digits: a command line takes it as it is, where one that begins with a dash would be read
    as an option."""
    return secrets.token_hex(TOKEN_BYTES)
