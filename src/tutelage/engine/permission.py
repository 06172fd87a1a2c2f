"""What the user has allowed; kept in the environment, which worker processes inherit."""

from __future__ import annotations

import os


def trusts_pickle() -> bool:
    """Whether weights may be read from pickles (``--trust-pickle``)."""
    return os.environ.get("TUTELAGE_TRUST_PICKLE") == "1"
