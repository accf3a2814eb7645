"""Kinds of fields in messages of several rooms of the game, each with its bound.

A *command* carries `command`, a number that the client chooses rising within its `lineage` (one for each client
object); repeating it repeats the first answer and changes nothing.
"""

from typing import Annotated

from msgspec import Meta

from server.ids import KEY_PATTERN, whole
from server.texts import LINE_PATTERN

Key = Annotated[str, Meta(pattern=whole(KEY_PATTERN))]
Text = Annotated[str, Meta(max_length=128, pattern=whole(LINE_PATTERN))]
"""Text of a single line: no control and format characters, which a terminal, a page or a database would mind."""
ShortText = Annotated[str, Meta(max_length=64, pattern=whole(LINE_PATTERN))]
LoggedText = Annotated[str, Meta(max_length=128, pattern=whole(r"[^\x00-\x1f\x7f]*"))]
"""The same in events and options, which logs of earlier versions have with any format characters. New ones must be a
`Text` (`game/match/rules.py`, `bad_text`)."""
TimeMs = Annotated[int, Meta(ge=0, le=2**52)]
"""A match's clock: worlds that stand for weeks are matches too. Sums of two are numbers of their own in every
language."""
Team = Annotated[int, Meta(ge=0, le=31)]
Password = Annotated[str, Meta(max_length=128)]
Lineage = Annotated[str, Meta(max_length=32, pattern=whole(LINE_PATTERN))]
CommandId = Annotated[int, Meta(ge=1, le=2**53)]
