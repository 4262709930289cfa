"""What is learnt from tools/list replies, and weir's own tools/list."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.protocol.headers import ParamHeader
from weir.relay import tool_headers
from weir.relay.tool_headers import ToolHeaders, list_request

SCHEMA = b'{"type":"object","properties":{"a":{"type":"string","x-mcp-header":"A"}}}'


def page(*tools: bytes, more: bytes = b"") -> bytes:
    """A tools/list reply."""
    return b'{"jsonrpc":"2.0","id":1,"result":{"tools":[' + b",".join(tools) + b"]" + more + b"}}"


def tool(name: str, schema: bytes = SCHEMA) -> bytes:
    """A tool as it is listed, with members nobody asked for."""
    return b'{"vendor":[1],"name":%b,"inputSchema":%b,"annotations":{"x":null}}' % (json.dumps(name).encode(), schema)


def test_annotated_parameters_are_learnt() -> None:
    """A tool without any mirrors nothing, one that was never seen neither."""
    tools = ToolHeaders()
    assert b"" == tools.learn(page(tool("q"), tool("plain", b"{}")))
    assert (ParamHeader(("a",), b"mcp-param-a"),) == tools.params("q")
    assert () == tools.params("plain") == tools.params("unknown")


def test_a_tool_that_lost_its_annotation_is_forgotten() -> None:
    """The newest listing counts."""
    tools = ToolHeaders()
    tools.learn(page(tool("q")))
    tools.learn(page(tool("q", b"{}")))
    assert () == tools.params("q")


def test_an_invalid_annotation_mirrors_nothing() -> None:
    """The client has to drop such a tool; weir leaves that to it."""
    tools = ToolHeaders()
    tools.learn(page(tool("q", SCHEMA.replace(b'"string"', b'"number"'))))
    assert () == tools.params("q")


@pytest.mark.parametrize(
    ("more", "cursor"),
    [(b',"nextCursor":"c-2"', b'"c-2"'), (b',"nextCursor":""', b'""'), (b',"nextCursor":null', b""), (b"", b"")],
)
def test_the_cursor_is_kept_as_it_is(more: bytes, cursor: bytes) -> None:
    """The empty string is a cursor, absence is the end."""
    assert cursor == ToolHeaders().learn(page(more=more))


@given(
    st.binary() | st.sampled_from([b"[]", b'{"result":[]}', b'{"result":{"tools":[1]}}', b'{"result":{"tools":{}}}'])
)
def test_nothing_a_server_sends_breaks_it(body: bytes) -> None:
    """What is no listing teaches nothing."""
    assert b"" == ToolHeaders().learn(body)


def test_what_is_remembered_is_bounded() -> None:
    """The tools learnt longest ago are forgotten first."""
    tools = ToolHeaders()
    count = tool_headers.TOOLS_LIMIT + 2
    tools.learn(page(*[tool(f"t{number}") for number in range(count)]))
    assert () == tools.params("t1")
    assert () != tools.params("t2")


def test_the_own_listing_has_the_callers_envelope_and_nothing_else_of_it() -> None:
    """A progress token belongs to one request, and a log level would bring log lines nobody reads."""
    caller = (
        b'{"id":1,"method":"tools/call","params":{"name":"x","_meta":{"progressToken":1,'
        b'"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/logLevel":"debug",'
        b'"io.modelcontextprotocol/clientCapabilities":{"n":1.0},"baggage":"k=v","vendor/x":1}}}'
    )
    assert list_request(caller, b'"c"', "own-1") == (
        b'{"jsonrpc":"2.0","id":"own-1","method":"tools/list","params":{"_meta":{'
        b'"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
        b'"io.modelcontextprotocol/clientCapabilities":{"n":1.0},"baggage":"k=v"},"cursor":"c"}}'
    )


def test_a_caller_without_an_envelope_has_none_to_lend() -> None:
    """There is no asking in its name."""
    with pytest.raises(ValueError, match="_meta"):
        list_request(b'{"id":1,"method":"tools/call","params":{"name":"x"}}', b"", "own-1")
