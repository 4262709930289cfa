"""The members of a JSON-RPC message that weir reads, as the decoder's structs.

Apart from what is done with them (protocol/envelope.py), which can be compiled; a struct cannot.
"""

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

BATCH_LIMIT = 1000
"""Members of a batch that are looked at; a longer one is opaque. Each costs a peek, a span, a log line, a count."""

REVISION_KEY = "io.modelcontextprotocol/protocolVersion"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"
DEADLINE_KEY = "io.github.mcp-weir/deadlineMs"
"""weir's own: how many milliseconds the sender still waits. A vendor's key has a prefix in reverse DNS notation whose
second label is neither `mcp` nor `modelcontextprotocol` (MCP 2026-07-28, basic/index, `_meta`)."""


class Named(Struct, gc=False):
    """A member of a list: a tool, a prompt."""

    name: str = ""


class Meta(Struct, gc=False):
    """The members of `params._meta` (or of a notification's) that weir reads."""

    traceparent: str | UnsetType = UNSET
    tracestate: str | UnsetType = UNSET
    baggage: str | UnsetType = UNSET
    progress_token: Raw | UnsetType = msgspec.field(default=UNSET, name="progressToken")
    revision: str | UnsetType = msgspec.field(default=UNSET, name=REVISION_KEY)
    subscription_id: Raw | UnsetType = msgspec.field(default=UNSET, name=SUBSCRIPTION_KEY)
    deadline_ms: Raw | UnsetType = msgspec.field(default=UNSET, name=DEADLINE_KEY)


class Params(Struct, gc=False):
    """The members of `params` that weir reads."""

    name: str | UnsetType = UNSET
    uri: str | UnsetType = UNSET
    task_id: str | UnsetType = msgspec.field(default=UNSET, name="taskId")
    meta: Meta | UnsetType = msgspec.field(default=UNSET, name="_meta")
    request_id: Raw | UnsetType = msgspec.field(default=UNSET, name="requestId")
    progress_token: Raw | UnsetType = msgspec.field(default=UNSET, name="progressToken")
    protocol_version: str | UnsetType = msgspec.field(default=UNSET, name="protocolVersion")
    input_responses: Raw | UnsetType = msgspec.field(default=UNSET, name="inputResponses")
    request_state: Raw | UnsetType = msgspec.field(default=UNSET, name="requestState")


class Result(Struct, gc=False):
    """The members of `result` that weir reads."""

    is_error: bool = msgspec.field(default=False, name="isError")
    protocol_version: str = msgspec.field(default="", name="protocolVersion")
    meta: Meta | UnsetType = msgspec.field(default=UNSET, name="_meta")


class Error(Struct, gc=False):
    """The members of `error` that weir reads."""

    code: int | None = None
    """None: there is no integer, so this is no error of JSON-RPC's."""
    message: str = ""


class Envelope(Struct, gc=False):
    """One message, peeked. Absent members are empty: `id` is the id's raw JSON text, b"" when there is none."""

    id: Raw | UnsetType = UNSET
    method: str | UnsetType = UNSET
    params: Params | UnsetType = UNSET
    result: Result | UnsetType = UNSET
    error: Error | UnsetType = UNSET


class Loose(Struct, gc=False):
    """A message of which nothing is known but that it is an object."""

    id: Raw | UnsetType = UNSET
    method: Raw | UnsetType = UNSET
    params: Raw | UnsetType = UNSET
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET


class Identified(Struct, gc=False):
    """Only the id."""

    id: Raw | UnsetType = UNSET


class Parametrized(Struct, gc=False):
    """Only `params`, and its members as they stand."""

    params: dict[str, Raw] | UnsetType = UNSET


Batch: type[Struct] = msgspec.defstruct(
    "Batch",
    [(f"member_{number}", Raw | UnsetType, UNSET) for number in range(BATCH_LIMIT)],
    array_like=True,
    forbid_unknown_fields=True,
    gc=False,
)
"""An array of at most BATCH_LIMIT values. The decoder stops at the first one over it; a list would take all."""
