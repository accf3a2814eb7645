"""The program of the query process; see `process.py`.

python -m server.questions DIRECTORY
"""

import sys

from server.runtime.loading import load_structlog, no_collection


def main() -> int:
    """Load what the process needs, and serve."""
    with no_collection():
        load_structlog()
        from server.questions.process import main as serve
    return serve()


if __name__ == "__main__":
    sys.exit(main())
