"""The random admin token stands on a command line as it is."""

import string

from server.admin.security import AdminToken
from server.runtime.admin_token import TOKEN_BYTES, new_admin_token


def test_a_random_token_is_no_option_of_a_command() -> None:
    """One in URL-safe base64 begins with a dash now and then, and `--token -a7x` is refused."""
    token = new_admin_token()
    assert len(token) == 2 * TOKEN_BYTES
    assert set(token) <= set(string.hexdigits)
    assert token != new_admin_token()


def test_a_node_that_was_given_none_has_a_random_one() -> None:
    made = AdminToken(None)
    assert made.generated and set(made.text) <= set(string.hexdigits)
    assert not AdminToken("-mine").generated
