"""The diagnostics application asked without a port."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from weir.app.diagnostics import Diagnostics


class Answer(NamedTuple):
    """What the application sent."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body read."""
        return json.loads(self.body)


async def ask(
    app: Diagnostics, method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes | None = None
) -> Answer:
    """One request; without a body no page may wait for one."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        assert body is not None, "this page reads no body"
        return {"type": "http.request", "body": body}

    await app({"type": "http", "method": method, "path": path, "headers": list(headers)}, receive, send)
    start, reply = sent
    names = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], names, reply["body"])
