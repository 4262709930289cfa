"""Where the suite must see a difference between its reference server on HTTP and the same server as weir's child."""

_NO_STREAM_TO_CLOSE = (
    "the scenario has the server close its own SSE stream early; a server on a pipe has none, and as its answer is the "
    "first thing it says weir replies with JSON, which the suite accepts without a verdict"
)
_ANSWERS_OTHERWISE_ON_STDIO = (
    "on stdio the SDK's server answers an initialize after modern requests with -32022 (unsupported version) and not "
    "with -32601; weir passes what it said, with the HTTP status of that code"
)

WITHOUT_HTTP: dict[tuple[str, str], str] = {
    ("2025-11-25/server-sse-polling", "server-sse-priming-event"): _NO_STREAM_TO_CLOSE,
    ("2025-11-25/server-sse-polling", "server-sse-retry-field"): _NO_STREAM_TO_CLOSE,
    ("2025-11-25/server-sse-polling", "server-sse-disconnect-resume"): _NO_STREAM_TO_CLOSE,
    ("2025-11-25/server-sse-multiple-streams", "server-sse-streams-functional"): _NO_STREAM_TO_CLOSE,
    (
        "2026-07-28/server-stateless",
        "sep-2575-http-server-method-not-found-404-initialize",
    ): _ANSWERS_OTHERWISE_ON_STDIO,
}
"""The reason by (scenario, check): each is something that only an HTTP server has and that a pipe cannot carry."""
