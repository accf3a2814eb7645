"""Clients that are not people: bot players in generated matches, recorded matches played through
real connections, and a load generator. They speak the public wire and see nothing of the server.

Tokens are made by whoever runs the bots: each entry takes `token(subject, role) -> str`.
"""

from collections.abc import Callable

MakeToken = Callable[[str, str], str]
"""`token(subject, role)`: a client token for a player, host or service."""
