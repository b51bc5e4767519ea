"""``python -m lapstrake``."""

import sys

from lapstrake.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
