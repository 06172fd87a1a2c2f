"""Answering over HTTP: who may ask, at a port that is free, until interrupted."""

from __future__ import annotations

import socket
from typing import Any

from tutelage.recipe.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def check_host(host: str, token: str | None) -> None:
    """Refuse to answer others than this machine without a token.

    Raises:
        InputError: They could ask, and there is none.
    """
    if host not in LOOPBACK and not token:
        raise InputError(f"serve: others can ask at {host}; give a token in the environment variable TUTELAGE_TOKEN")


def listen(app: Any, host: str, port: int, *, access_log: bool = True) -> None:
    """Answer until interrupted.

    Args:
        app: What answers.
        host: Interface to listen on.
        port: Port there.
        access_log: Whether questions are logged.

    Raises:
        InputError: The port is taken.
    """
    import uvicorn

    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"serve: cannot listen at {host}:{port}: {error.strerror}; choose another port") from error
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=access_log)
