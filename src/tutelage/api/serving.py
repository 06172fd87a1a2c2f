"""A run's model as a server: what `served` models ask."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutelage.api.listening import check_host, listen
from tutelage.recipe.errors import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI


def application(model: str | Path, token: str | None = None) -> FastAPI:
    """What answers ``GET /about`` and ``POST /logits``.

    ``/about`` is JSON: ``classes``, ``input_shape``, ``class_names``, ``fingerprint`` of the weights. ``/logits`` takes
    safetensors with ``inputs`` ``[batch, *input_shape]`` and gives safetensors with ``logits`` ``[batch, classes]`` and
    the model's ``identity``.

    Args:
        model: Folder of a run, or of a model.
        token: What askers must show, as ``Authorization: Bearer``; ``None`` for nothing.

    Raises:
        InputError: There is no model, or a package is missing.
    """
    try:
        from fastapi import FastAPI, HTTPException, Request, Response
    except ImportError as error:
        raise InputError("serving needs further packages: pip install 'tutelage[serve]'") from error
    import safetensors.torch
    import torch
    from safetensors import SafetensorError

    from tutelage.models.served import TYPE, identity_of
    from tutelage.models.weights import load_model, read_config

    module = load_model(model).eval().requires_grad_(False)
    folder = Path(model)
    _, info = read_config(folder / "model" if (folder / "model").is_dir() else folder)
    content = hashlib.blake2b()
    for name, tensor in sorted(module.state_dict().items()):
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    fingerprint = content.hexdigest()
    identity = identity_of(fingerprint)
    about = {
        "classes": info.classes,
        "input_shape": list(info.input_shape),
        "class_names": list(info.class_names),
        "fingerprint": fingerprint,
    }
    app = FastAPI(title="tutelage serve")

    def admit(request: Any) -> None:
        shown = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "this server wants a token")

    async def tell(request: Any) -> dict[str, Any]:
        admit(request)
        return about

    async def answer(request: Any) -> Any:
        admit(request)
        try:
            inputs = safetensors.torch.load(await request.body())["inputs"]
        except (SafetensorError, KeyError) as error:
            raise HTTPException(400, "expected safetensors with a tensor 'inputs'") from error
        if tuple(inputs.shape[1:]) != info.input_shape:
            raise HTTPException(400, f"inputs are {list(inputs.shape)}, expected [batch, *{list(info.input_shape)}]")
        with torch.no_grad():
            logits = module(inputs)
        return Response(safetensors.torch.save({"logits": logits.contiguous(), "identity": identity}), media_type=TYPE)

    # Annotations are text in this file, and the framework must see the type itself.
    for call in (tell, answer):
        call.__annotations__ = {"request": Request}
    app.add_api_route("/about", tell, methods=["GET"])
    app.add_api_route("/logits", answer, methods=["POST"])
    return app


def serve(model: str | Path, *, host: str = "127.0.0.1", port: int = 8000, token: str | None = None) -> None:
    """Answer until interrupted.

    Args:
        model: Folder of a run, or of a model.
        host: Interface to listen on.
        port: Port there.
        token: What askers must show; needed where others than this machine can ask.

    Raises:
        InputError: There is no model, others could ask without a token, the port is taken, or a package is missing.
    """
    check_host(host, token)
    app = application(model, token)
    listen(app, host, port)
