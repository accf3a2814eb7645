"""The code by which what concerns somebody who was erased is refused. The engine refuses so too, where no actor of the
person's is there (`server/catalog/catalog.py`)."""

from typing import Final

ERASED: Final = "erased"
CODES: Final = {ERASED: "the person is being erased, or was and may not come back yet: nothing is kept for it"}
