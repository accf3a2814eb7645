"""The program of the query process; see `process.py`.

python -m server.questions DIRECTORY
"""

import gc
import sys


def main() -> int:
    """Load what the process needs, and serve."""
    gc.disable()  # nothing that an import makes is garbage
    from server.questions.process import main as serve

    gc.freeze()
    gc.enable()
    return serve()


if __name__ == "__main__":
    sys.exit(main())
