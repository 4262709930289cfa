"""An ASGI application on weir's server, for what is not on the data path."""

from collections.abc import Awaitable, Callable
from typing import Any

from weir.downstream.exchange import Exchange

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
BODY_LIMIT_BYTES = 1024 * 1024


def asgi(app: Application) -> Callable[[Exchange], Awaitable[None]]:
    """Serve exchanges with an ASGI application. Bodies up to 1 MiB; larger ones are 413."""

    async def serve(exchange: Exchange) -> None:
        started: dict[str, Any] = {}

        async def receive() -> Any:
            return {"type": "http.request", "body": await exchange.body(BODY_LIMIT_BYTES), "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                started.update(message)
            else:
                exchange.reply(started["status"], list(started["headers"]), message.get("body", b""))

        await app(_scope(exchange), receive, send)

    return serve


def _scope(exchange: Exchange) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": exchange.http_version,
        "method": exchange.method,
        "path": exchange.path.decode("latin-1"),
        "raw_path": exchange.path,
        "query_string": exchange.query,
        "headers": exchange.headers,
        "client": exchange.client,
    }
