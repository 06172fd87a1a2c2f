"""A model behind a server: asked over HTTP, it stands wherever a frozen model does."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import time
from typing import Annotated, Any
from urllib.parse import urlsplit

import safetensors.torch
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tutelage.data.batch import DataInfo
from tutelage.recipe.errors import InputError, RunError
from tutelage.recipe.registry import component

TYPE = "application/x-safetensors"
"""Media type of tensors on their way."""


def identity_of(fingerprint: str) -> Tensor:
    """A scalar int64 that stands for a model's fingerprint."""
    digest = hashlib.blake2b(fingerprint.encode(), digest_size=7).digest()
    return torch.tensor(int.from_bytes(digest, "little"), device="cpu")


@component("model", "served")
class Served(nn.Module):
    """A model that `tutelage serve` holds, here or on another machine.

    It has logits and nothing else: no taps, no weights, no gradient. While a run goes on, and when it is resumed, the
    server must hold the same model; another one stops the run.

    Args:
        data: What it is asked about.
        url: Where the server listens, e.g. ``http://127.0.0.1:8000``.
        token: Name of the environment variable that holds the server's token, if it wants one.
        timeout: Seconds to wait for an answer.
        retries: How often a question is put again, after longer and longer pauses, when the server does not answer.

    Raises:
        InputError: Nobody answers there, or the model is of other data.
    """

    identity: Tensor

    def __init__(
        self,
        data: DataInfo,
        /,
        *,
        url: str,
        token: str | None = None,
        timeout: Annotated[float, Gt(0)] = 60.0,
        retries: Annotated[int, Ge(0)] = 5,
    ) -> None:
        super().__init__()
        self._line = Line(url, token, timeout)
        self.url, self.retries = url, retries
        about = self._about()
        for name, here in (("classes", data.classes), ("input_shape", list(data.input_shape))):
            if about.get(name) != here:
                raise InputError(f"served: the model at {url} has {name} {about.get(name)}, and the data {here}")
        # In checkpoints too, so that a resumed run notices another model.
        self.register_buffer("identity", identity_of(str(about["fingerprint"])))

    def forward(self, inputs: Tensor) -> Tensor:
        """``[batch, *input_shape]`` to ``[batch, classes]`` logits.

        Raises:
            RunError: The server is gone, or holds another model than it did.
        """
        if inputs.is_meta:
            return inputs.new_empty(len(inputs), int(self._about()["classes"]))
        body = safetensors.torch.save({"inputs": inputs.detach().cpu().contiguous()})
        wait = 0.2
        for left in range(self.retries, -1, -1):
            try:
                answer = self._line.ask("POST", "/logits", body)
                break
            except (OSError, http.client.HTTPException) as error:
                if not left:
                    raise RunError(
                        f"the server at {self.url} does not answer any more ({error}); start it again and resume"
                    ) from error
                time.sleep(wait)
                wait = min(2 * wait, 10.0)
        found = safetensors.torch.load(answer)
        if not torch.equal(found["identity"], self.identity.cpu()):
            raise RunError(f"the server at {self.url} holds another model than when the run began; nothing was changed")
        return found["logits"].to(inputs.device)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        was = state_dict.get(f"{prefix}identity")
        if was is not None and int(was) != int(self.identity):
            raise InputError(f"the server at {self.url} holds another model than when the run began")
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def _about(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._line.ask("GET", "/about"))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError(
                f"served: no model answers at {self.url} ({error}); start one with: tutelage serve RUN"
            ) from error
        return found


class Line:
    """A connection that is kept open.

    Args:
        url: Of the server.
        token: Name of the environment variable with its token.
        timeout: Seconds to wait for an answer.

    Raises:
        InputError: It is no address, or the variable is not set.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"served: '{url}' is no address of a server; expected e.g. http://127.0.0.1:8000")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._base = parts.path.rstrip("/")
        self._headers = {"Content-Type": TYPE}
        if token is not None:
            if token not in os.environ:
                raise InputError(f"served: the environment has no variable {token} with the server's token")
            self._headers["Authorization"] = f"Bearer {os.environ[token]}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Line:
        return self

    def ask(self, verb: str, path: str, body: bytes | None = None) -> bytes:
        """An answer's body.

        Raises:
            InputError: The server refuses; it says why.
            OSError: It does not answer.
        """
        try:
            self._connection.request(verb, self._base + path, body, self._headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            # The next question opens it anew.
            self._connection.close()
            raise
        if response.status >= 500:
            raise ConnectionError(f"status {response.status}")
        if response.status != 200:
            said = content.decode(errors="replace")[:200]
            raise InputError(f"served: the server refuses ({response.status}): {said}")
        return content
