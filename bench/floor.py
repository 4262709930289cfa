"""The floor of the server side: uvicorn with httptools and uvloop, as weir runs it, answering by itself.

No upstream, no peek, no telemetry: what an ASGI server alone costs. Run: python -m bench.floor PORT
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn

from bench.lines import answer

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Reads the whole body, answers as the origin would."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    reply = answer(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply or b""))]
    await send({"type": "http.response.start", "status": 202 if reply is None else 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply or b""})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
    )
