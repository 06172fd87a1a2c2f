"""``python -m tutelage``."""

from __future__ import annotations

import sys

from tutelage.cli import main

if __name__ == "__main__":
    sys.exit(main())
