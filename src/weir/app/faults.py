"""`/faults` on the diagnostics port: lists faults, takes new ones, ends them. Only where the operator allows it.

A fault is written as under `faults.inject` of the configuration, in JSON. Web pages are kept out: by
diagnostics_access.py, and as what is sent must be called JSON, which no page can do for another site unasked.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import ValidationError

from weir.app.pages import Page, json_page, text_page
from weir.config import explain, faults
from weir.config.problems import ConfigError, Place, Problem, shown
from weir.config.reading import parse_json
from weir.core.call import header
from weir.policies.faults import FAULTS_LIMIT, Active, Fault, Instead, Registry
from weir.protocol import media_types
from weir.protocol.media_types import JSON
from weir.protocol.numbers import whole_number

FAULT_LIMIT_BYTES = 16 * 1024
"""A fault is one line; this is a page of them."""

_NOT_JSON = "say 'Content-Type: application/json'\n"
_FULL = f"there are {FAULTS_LIMIT} faults already; clear one first"
_INSTEAD = {
    "timeout": Instead.TIMEOUT,
    "reset": Instead.RESET,
    "status": Instead.STATUS,
    "error": Instead.ERROR,
    "is_error": Instead.TOOL_ERROR,
    "garbage": Instead.GARBAGE,
}
_CODED = (Instead.STATUS, Instead.ERROR)


def fault_of(written: faults.Fault) -> Fault:
    """A fault of the configuration as the policy takes it."""
    found = [key for key in _INSTEAD if getattr(written, key) is not None and getattr(written, key) is not False]
    instead = _INSTEAD[found[0]] if found else None
    return Fault(
        upstream=written.upstream,
        tool=written.tool or "",
        latency_seconds=written.latency_seconds,
        jitter_seconds=written.jitter_seconds,
        slow_stream_seconds=written.slow_stream_seconds,
        drop_stream_events=written.drop_stream_events,
        duplicate=written.duplicate,
        instead=instead,
        code=getattr(written, found[0]) if instead in _CODED else 0,
        percent=written.percent,
        expires_seconds=written.expires_seconds,
    )


def described(active: Active, now: float) -> dict[str, object]:
    """A fault as it is listed: what it does, and how long it still lasts."""
    fault = active.fault
    tree: dict[str, object] = {"id": active.id, "upstream": fault.upstream}
    if fault.tool:
        tree["tool"] = fault.tool
    tree["percent"] = fault.percent
    for name in ("latency_seconds", "jitter_seconds", "slow_stream_seconds", "duplicate"):
        if getattr(fault, name):
            tree[name] = getattr(fault, name)
    if fault.drop_stream_events is not None:
        tree["drop_stream_events"] = fault.drop_stream_events
    if fault.instead is not None:
        tree[fault.instead.value] = fault.code if fault.instead in _CODED else True
    tree["remaining_seconds"] = round(active.expires_at - now, 1)
    return tree


class FaultPages:
    """`/faults` and what is below it, for the faults of these upstreams."""

    def __init__(self, registry: Registry, upstreams: Iterable[str], clock: Callable[[], float]) -> None:
        self._registry = registry
        self._upstreams = frozenset(upstreams)
        self._clock = clock

    async def __call__(self, scope: Any, receive: Callable[[], Any]) -> Page:
        """Answer one request."""
        headers = scope["headers"]
        fault_id = scope["path"].removeprefix("/faults").removeprefix("/")
        match scope["method"]:
            case "GET" | "HEAD" if not fault_id:
                now = self._clock()
                return json_page(200, {"faults": [described(each, now) for each in self._registry.active(now)]})
            case "POST" if not fault_id:
                return await self._add(headers, receive)
            case "DELETE":
                return self._clear(fault_id)
        return text_page(405, "method not allowed\n", allow=b"DELETE" if fault_id else b"GET, HEAD, POST, DELETE")

    async def _add(self, headers: Any, receive: Callable[[], Any]) -> Page:
        if media_types.of(headers) != JSON:
            return text_page(415, _NOT_JSON)
        length = whole_number(header(headers, b"content-length") or b"0")
        # a length that says too much is refused before anything of it is kept
        body = (await receive())["body"] if length is not None and length <= FAULT_LIMIT_BYTES else None
        if body is None or len(body) > FAULT_LIMIT_BYTES:
            return text_page(413, f"a fault is at most {FAULT_LIMIT_BYTES} bytes\n")
        try:
            fault = self._read(body)
        except ConfigError as error:
            problems = [": ".join(filter(None, (shown(each.path), each.text))) for each in error.problems]
            return json_page(400, {"problems": problems})
        now = self._clock()
        added = self._registry.add(fault, now)
        return json_page(201, described(added, now)) if added is not None else json_page(409, {"problems": [_FULL]})

    def _read(self, body: bytes) -> Fault:
        """Raises ConfigError with everything that is wrong with it."""
        try:
            document = parse_json(body.decode(), "fault")
        except UnicodeDecodeError:
            raise ConfigError([Problem(Place("fault"), (), "is not UTF-8 text")]) from None
        problems = list(document.problems)
        fault = None
        try:
            fault = fault_of(faults.Fault.model_validate(document.value, by_alias=True, by_name=False))
        except ValidationError as error:
            problems += explain.problems(error, document, faults.Fault, frozenset())
        if fault is not None and fault.upstream not in self._upstreams:
            text = f"'{fault.upstream}' is the name of no upstream; known here: {', '.join(sorted(self._upstreams))}"
            problems.append(document.problem(("upstream",), text))
        if fault is None or problems:
            raise ConfigError(problems)
        return fault

    def _clear(self, fault_id: str) -> Page:
        cleared = self._registry.clear(fault_id)
        if fault_id and not cleared:
            return json_page(404, {"problems": [f"there is no fault {fault_id}; it may have expired"]})
        return json_page(200, {"cleared": cleared})
