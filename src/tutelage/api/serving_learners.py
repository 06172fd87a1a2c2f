"""A model of learners as a JSON service for a tutoring system."""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any

from tutelage.api.learners import Learners, given
from tutelage.api.listening import check_host, listen
from tutelage.recipe.errors import InputError, RunError

if TYPE_CHECKING:
    from fastapi import FastAPI

# Answers of one request; more than that come in several.
MOST = 10_000


def application(learners: Learners, token: str | None = None) -> FastAPI:
    """What answers ``GET /about``, ``POST /answers``, ``POST /state`` and ``POST /next``; all of it is JSON.

    ``/answers`` takes ``{"answers": [{"learner", "concept" or "concepts", "correct", "time"?, "item"?}, ...]}`` and
    gives
    ``taken``, ``repeated``, ``unknown``, ``chances`` and ``seconds``; by then they are on the disk. A wrong one refuses
    the whole request, and nothing of it is kept. ``/state`` and ``/next`` take ``{"learner": ...}``; learners are never
    part of an address, so that no log has them.

    Args:
        learners: The model and its store.
        token: What askers must show, as ``Authorization: Bearer``; ``None`` for nothing.

    Raises:
        InputError: A package is missing.
    """
    try:
        from fastapi import FastAPI, HTTPException, Request
    except ImportError as error:
        raise InputError("serving needs further packages: pip install 'tutelage[serve]'") from error
    from fastapi.concurrency import run_in_threadpool

    app = FastAPI(title="tutelage trace serve", openapi_url=None)

    async def body(request: Any) -> dict[str, Any]:
        shown = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "this server wants a token")
        try:
            found = await request.json()
        except ValueError as error:
            raise HTTPException(400, "expected JSON") from error
        if not isinstance(found, dict):
            raise HTTPException(400, "expected a JSON object")
        return found

    def learner_of(fields: dict[str, Any]) -> str:
        name = fields.get("learner")
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise HTTPException(400, "expected `learner`, a text or a number")
        return str(name)

    async def about(request: Any) -> dict[str, Any]:
        if token is not None:
            shown = request.headers.get("authorization", "")
            if not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
                raise HTTPException(401, "this server wants a token")
        return {"model": type(learners.model).__name__, "concepts": list(learners.concepts), **learners.count()}

    async def answers(request: Any) -> dict[str, Any]:
        fields = await body(request)
        rows = fields.get("answers")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or len(rows) > MOST:
            raise HTTPException(400, f"expected `answers`, a list of at most {MOST:,} objects")
        now = time.time()
        try:
            wanted = [given(row, place, now) for place, row in enumerate(rows)]
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        try:
            taken = await run_in_threadpool(learners.take, wanted)
        except RunError as error:
            raise HTTPException(503, str(error)) from error
        return {
            "taken": taken.taken,
            "repeated": taken.repeated,
            "unknown": taken.unknown,
            "chances": taken.chances,
            "seconds": taken.seconds,
        }

    async def state(request: Any) -> dict[str, Any]:
        fields = await body(request)
        try:
            return await run_in_threadpool(learners.state, learner_of(fields), float(fields.get("time", time.time())))
        except InputError as error:
            raise HTTPException(404, str(error)) from error

    async def following(request: Any) -> dict[str, Any]:
        fields = await body(request)
        count, now = int(fields.get("count", 5)), float(fields.get("time", time.time()))
        try:
            found = await run_in_threadpool(lambda: learners.following(learner_of(fields), now, count=count))
        except InputError as error:
            raise HTTPException(404, str(error)) from error
        return {"next": found}

    # Annotations are text in this file, and the framework must see the type itself.
    for call in (about, answers, state, following):
        call.__annotations__ = {"request": Request}
    app.add_api_route("/about", about, methods=["GET"])
    for path, call in (("/answers", answers), ("/state", state), ("/next", following)):
        app.add_api_route(path, call, methods=["POST"])
    return app


def serve(learners: Learners, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> None:
    """Answer until interrupted.

    Args:
        learners: The model and its store.
        host: Interface to listen on.
        port: Port there.
        token: What askers must show; needed where others than this machine can ask.

    Raises:
        InputError: Others could ask without a token, the port is taken, or a package is missing.
    """
    check_host(host, token)
    app = application(learners, token)
    listen(app, host, port, access_log=False)
