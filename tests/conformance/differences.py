"""Where the suite must see a difference between its reference server on HTTP and the same server as weir's child."""

WITHOUT_HTTP: dict[tuple[str, str], str] = {}
"""The reason by (scenario, check): each is something that only an HTTP server has and that a pipe cannot carry."""
