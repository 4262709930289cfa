"""`weir fault`: asks the diagnostics port of a running weir."""

import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from weir.config import quantities

ANSWER_SECONDS = 5.0
"""The page is made from memory; a weir that takes longer is not well."""

TOKEN_VARIABLE = "WEIR_DIAGNOSTICS_TOKEN"
"""Where `weir fault` finds the token; on the command line every user of the machine could read it."""

DEFAULT_ADDRESS = "127.0.0.1:8932"
"""Where the diagnostics port is unless the configuration says otherwise."""

_NAMED = ("id", "upstream", "tool", "percent", "remaining_seconds")
_MISTAKES = frozenset((400, 404, 409))
_REFUSALS = frozenset((401, 403, 421))
_TOKEN = re.compile(r"[\x21-\x7e]*")


@dataclass(frozen=True, slots=True)
class Port:
    """The diagnostics port to ask."""

    address: str = DEFAULT_ADDRESS
    token: str = field(default="", repr=False)
    """listen.diagnostics_token of that weir; empty for none."""


class FaultError(Exception):
    """It cannot be done; the text says why, and the mend. `is_mistake`: what was asked for cannot be."""

    def __init__(self, text: str, *, is_mistake: bool = False) -> None:
        super().__init__(text)
        self.is_mistake = is_mistake


def add(port: Port, fault: Mapping[str, object]) -> str:
    """Begin with a fault, written as in the configuration; returns the line that `show` has for it.

    Raises:
        FaultError: nobody answers, faults are not allowed there, or the fault is not well formed.
    """
    return _line(_ask(port, "POST", "/faults", json.dumps(fault).encode()))


def show(port: Port) -> list[str]:
    """One line for each fault. Raises as `add`."""
    return [_line(each) for each in _ask(port, "GET", "/faults")["faults"]]


def clear(port: Port, fault_id: str) -> int:
    """End one fault, or with "" all; returns how many. Raises as `add`."""
    path = f"/faults/{quote(fault_id, safe='')}" if fault_id else "/faults"
    return int(_ask(port, "DELETE", path)["cleared"])


def _ask(port: Port, method: str, path: str, body: bytes = b"") -> dict[str, Any]:
    try:
        host, number = quantities.address(port.address)
    except ValueError as error:
        text = str(error).replace("{written}", f"'{port.address}'")
        raise FaultError(f"--diagnostics: {text}", is_mistake=True) from None
    if not _TOKEN.fullmatch(port.token):
        raise FaultError(f"{TOKEN_VARIABLE}: must be one word of printable ASCII", is_mistake=True)
    connection = http.client.HTTPConnection(host, number, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body or None, _headers(port.token, has_body=bool(body)))
        reply = connection.getresponse()
        return _read(reply.status, reply.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        mend = "start weir, or say where its diagnostics port is with --diagnostics HOST:PORT"
        raise FaultError(f"no weir answers at {port.address} ({_reason(error)}); {mend}") from None
    finally:
        connection.close()


def _headers(token: str, *, has_body: bool) -> dict[str, str]:
    headers = {"Content-Type": "application/json"} if has_body else {}
    return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.HTTPException):
        return "what answers there is no whole HTTP reply"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _read(status: int, body: bytes) -> dict[str, Any]:
    """Raises ValueError for what no weir would say."""
    if status in _REFUSALS:
        mend = f" (here: in the variable {TOKEN_VARIABLE})" if status == 401 else ""
        raise FaultError(body.decode(errors="replace").strip() + mend)
    try:
        tree = json.loads(body)
    except ValueError:
        tree = None
    if not isinstance(tree, dict):
        raise ValueError(f"HTTP {status}, and no page of weir's diagnostics")
    if status in _MISTAKES:
        raise FaultError("\n".join(tree["problems"]), is_mistake=True)
    if status not in (200, 201):
        raise ValueError(f"HTTP {status}")
    return tree


def _line(fault: Mapping[str, Any]) -> str:
    """`f1  files read_file  10 %  latency_seconds=2  (598 s left)`."""
    where = " ".join(filter(None, (fault["upstream"], fault.get("tool", ""))))
    what = ", ".join(_part(key, value) for key, value in fault.items() if key not in _NAMED)
    return f"{fault['id']}  {where}  {fault['percent']:g} %  {what}  ({fault['remaining_seconds']:.0f} s left)"


def _part(key: str, value: object) -> str:
    return key if value is True else f"{key}={value:g}" if isinstance(value, int | float) else f"{key}={value}"
