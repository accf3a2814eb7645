"""The game's part of the dashboard: read models, routes of the admin API, and the folder of its pages."""

from pathlib import Path
from typing import Final

from game.console.read_models import READ_MODELS
from game.console.routes import CONSOLE as ROUTES
from game.console.theatre import THEATRE

CONSOLE: Final = {**ROUTES, **THEATRE}
PAGES: Final = str(Path(__file__).parent / "pages")

__all__ = ["CONSOLE", "PAGES", "READ_MODELS"]
