"""Which headers mirror a message: equal to what the SDK sends and accepts."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.client.session import _make_modern_stamp
from mcp.shared import inbound as sdk
from mcp.shared.dispatcher import CallOptions

from weir.protocol.envelope import peek
from weir.protocol.headers import (
    ParamHeader,
    decode_value,
    encode_value,
    mcp_headers,
    param_headers,
    unlike,
)
from weir.protocol.methods import WELL_KNOWN_METHODS

texts = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ["=?base64??=", "=?base64?YQ==?=", "=?BASE64?YQ==?=", " a", "a ", "a\tb", "a\r\nb: c", "=?base64?é?="]
    ),
)
header_texts = st.one_of(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
    st.text(alphabet="YWJj=+/-_é", max_size=8).map("=?base64?{}?=".format),
    st.sampled_from(["=?base64?YR==?=", "=?base64?gA==?=", "=?base64?YQ?=", "=?base64?Y Q==?="]),
)


@given(texts)
def test_a_value_is_encoded_as_the_sdk_encodes_it(text: str) -> None:
    """And says the same when it is decoded."""
    value = encode_value(text)
    assert sdk.encode_header_value(text).encode("ascii") == value
    assert text == decode_value(value)
    assert not set(value) - set(range(32, 127))


@given(header_texts)
def test_a_value_is_decoded_as_the_sdk_decodes_it(text: str) -> None:
    """Malformed base64, and a second spelling of it, equal no text."""
    try:
        expected = sdk.decode_header_value(text)
    except ValueError:
        expected = None  # the SDK raises for base64 that is not ASCII
    assert expected == decode_value(text.encode("latin-1"))


META = '"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'


def mirrored(body: str, params: list[ParamHeader] | None = None) -> dict[str, str]:
    headers = mcp_headers(peek(body.encode()), body.encode(), params or [])
    assert len(headers) == len(dict(headers))
    return {name.decode(): value.decode() for name, value in headers}


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("tools/list", "", None),
        ("tools/call", '"name":"add",', "add"),
        ("tools/call", '"name":"größe",', "=?base64?Z3LDtsOfZQ==?="),
        ("tools/call", '"name":" add",', "=?base64?IGFkZA==?="),
        ("tools/call", '"name":"",', ""),
        ("tools/call", '"name":7,', None),
        ("tools/call", "", None),
        ("prompts/get", '"name":"hello",', "hello"),
        ("resources/read", '"uri":"file:///a%20b","name":"x",', "file:///a%20b"),
        ("resources/subscribe", '"uri":"file:///a",', None),
        ("tasks/get", '"taskId":"t-1",', "t-1"),
        ("tasks/update", '"taskId":"t-1",', "t-1"),
        ("tasks/cancel", '"taskId":"t-1",', "t-1"),
        ("acme/run", '"name":"x",', None),
        ("server/discover", "", None),
        ("subscriptions/listen", "", None),
    ],
)
def test_a_modern_request_is_mirrored(method: str, params: str, name: str | None) -> None:
    """Revision, method and what it names."""
    expected = {"mcp-protocol-version": "2026-07-28", "mcp-method": method}
    body = f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{META}}}}}'
    assert (expected if name is None else {**expected, "mcp-name": name}) == mirrored(body)


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}',
        '{"jsonrpc":"2.0","id":1,"method":"ping"}',
        f'{{"jsonrpc":"2.0","id":1,"result":{{{META}}}}}',
        '{"id":1,"method":"x","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":7}}}',
        "[]",
        "nonsense",
    ],
)
def test_what_states_no_revision_has_no_mirror(body: str) -> None:
    """Handshake revisions do not know these headers, and a server of them trusts nothing they say."""
    assert {} == mirrored(body)


@given(
    st.one_of(st.sampled_from(sorted(WELL_KNOWN_METHODS)), st.text(alphabet="abc/XYZ_", min_size=1)),
    st.dictionaries(st.sampled_from(["name", "uri", "x"]), texts),
)
def test_a_message_is_mirrored_as_the_sdks_client_mirrors_it(method: str, params: dict[str, Any]) -> None:
    """The tasks extension apart, which it does not know; and the SDK's server lets it in."""
    data: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    options: CallOptions = {}
    stamp = _make_modern_stamp("2026-07-28", {"name": "x", "version": "1"}, {}, lambda *_: {})
    stamp(data, options)
    found = mirrored(json.dumps(data))
    if not method.startswith("tasks/"):
        assert options["headers"] == found
    assert isinstance(sdk.classify_inbound_request(data, headers=found), sdk.InboundModernRoute)


# parameters of tools

names = st.sampled_from(["a", "b", "properties", "items", "größe", "x-mcp-header"])
tokens: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["A", "b", "B", "Region-Id", "", "a b", "é", "a:b", "x" * 300]), st.sampled_from([None, 7, {}])
)
annotations = st.fixed_dictionaries(
    {"type": st.sampled_from(["string", "integer", "boolean", "number", "object", ["string", "null"], None])},
    optional={"x-mcp-header": tokens},
)
schemas: st.SearchStrategy[Any] = st.recursive(
    annotations,
    lambda inner: st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(names, inner, max_size=3)},
        optional={
            "items": inner,
            "anyOf": st.lists(inner, max_size=2),
            "$defs": st.dictionaries(names, inner, max_size=2),
            "default": inner,
            "enum": st.lists(inner, max_size=1),
            "x-mcp-header": tokens,
        },
    ),
    max_leaves=6,
)
plain_schemas: st.SearchStrategy[Any] = st.recursive(
    st.fixed_dictionaries({"type": st.sampled_from(["string", "integer", "boolean"])}),
    lambda inner: st.fixed_dictionaries({"properties": st.dictionaries(names, inner, min_size=1, max_size=4)}),
    max_leaves=8,
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    st.just(2**60),
    st.just([1]),
)
arguments = st.dictionaries(names, st.recursive(scalars, lambda inner: st.dictionaries(names, inner, max_size=3)))


def annotate(schema: dict[str, Any], count: list[int]) -> None:
    """Give every leaf a header of its own."""
    if "properties" in schema:
        for inner in schema["properties"].values():
            annotate(inner, count)
    else:
        count[0] += 1
        schema["x-mcp-header"] = f"Header-{count[0]}"


@given(schemas)
def test_annotations_are_valid_when_the_sdk_says_so(schema: Any) -> None:
    """And then they are the same ones."""
    text = json.dumps(schema).encode()
    if sdk.find_invalid_x_mcp_header(schema) is not None:
        with pytest.raises(ValueError, match="x-mcp-header"):
            param_headers(text)
    else:
        expected = {path: f"mcp-param-{token}".lower() for path, token in sdk.x_mcp_header_map(schema).items()}
        assert expected == {param.path: param.header.decode() for param in param_headers(text)}


@given(plain_schemas, arguments)
def test_arguments_are_mirrored_as_the_sdk_mirrors_them(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """At any depth, of any type; what is null, absent or no scalar has no header. The SDK's server accepts them."""
    if "properties" not in schema:
        return
    annotate(schema, [0])
    body = json.dumps({"id": 1, "method": "tools/call", "params": {"arguments": values}})
    body = body.replace('"params": {', '"params": {' + META + ",", 1)
    found = mirrored(body, param_headers(json.dumps(schema).encode()))
    mine = {name: value for name, value in found.items() if name.startswith("mcp-param-")}
    expected = sdk.mcp_param_headers(sdk.x_mcp_header_map(schema), values)
    assert {name.lower(): value for name, value in expected.items()} == mine
    assert sdk.validate_mcp_param_headers(schema, values, mine) is None


def compare(headers: dict[str, str], arguments_text: str, *params: ParamHeader) -> bytes:
    """Which header a call with these arguments does not bear out."""
    body = f'{{"id":1,"method":"tools/call","params":{{"name":"x","arguments":{arguments_text},{META}}}}}'
    lines = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    return unlike(lines, body.encode(), params)


@given(plain_schemas, arguments, st.data())
def test_headers_are_compared_with_arguments_as_the_sdks_server_does(
    schema: dict[str, Any], values: dict[str, Any], data: st.DataObject
) -> None:
    """Those that belong to them, of which some are changed, dropped or added."""
    if "properties" not in schema:
        return
    annotate(schema, [0])
    headers = sdk.mcp_param_headers(sdk.x_mcp_header_map(schema), values)
    spoilt = st.sampled_from(["Mcp-Param-Header-1", "Mcp-Param-Header-2"])
    value = st.sampled_from(["", "0", "1", "1.0", "0.00", "-0", "true", "1e0", "=?base64?YQ==?=", "=?base64?!?=", "a"])
    for name, said in data.draw(st.dictionaries(spoilt, value | st.none(), max_size=2)).items():
        headers.pop(name, None)
        if said is not None:
            headers[name] = said
    refused = sdk.validate_mcp_param_headers(schema, values, headers) is not None
    lower = {name.lower(): text for name, text in headers.items()}
    params = param_headers(json.dumps(schema).encode())
    assert refused == (compare(lower, json.dumps(values), *params) != b"")


INTEGER, STRING = ParamHeader(("a",), b"mcp-param-a", is_integer=True), ParamHeader(("a",), b"mcp-param-a")


@pytest.mark.parametrize(
    ("param", "argument", "value", "is_like"),
    [
        (INTEGER, "42", "42.0", True),
        (INTEGER, "42.0", "42", True),
        (INTEGER, "42", "42.5", False),
        (INTEGER, "42", "4.2e1", False),
        (INTEGER, "1e22", "1" + "0" * 22, True),
        (INTEGER, "9007199254740993", "9007199254740992", False),
        (INTEGER, "42", "9" * 5000, False),
        (INTEGER, "true", "1", False),
        (INTEGER, '"x"', "1", False),
        (INTEGER, "1e999", "1", False),
        (STRING, "42", "42.0", False),
        (STRING, '"x"', " x\t", True),
        (STRING, '"x"', "X", False),
        (STRING, '"x"', "=?base64?eA==?=", True),
        (STRING, '"x"', "=?base64?eA=?=", False),
        (STRING, "null", "null", False),
        (STRING, "[1]", "1", False),
        (STRING, '"é"', "é", True),
    ],
)
def test_a_header_says_what_the_argument_does(param: ParamHeader, argument: str, value: str, is_like: bool) -> None:
    """Numbers by their value where the schema wants an integer, all else letter by letter."""
    assert (b"" if is_like else b"mcp-param-a") == compare({"mcp-param-a": value}, f'{{"a":{argument}}}', param)


def test_a_header_that_is_given_twice_is_unlike_the_argument() -> None:
    """Two readers could read two values, even if both are the same here."""
    body = f'{{"id":1,"method":"tools/call","params":{{"name":"x","arguments":{{"a":"x"}},{META}}}}}'.encode()
    assert b"mcp-param-a" == unlike([(b"mcp-param-a", b"x")] * 2, body, [STRING])


def test_a_header_and_its_argument_are_there_together() -> None:
    """Or neither."""
    assert b"mcp-param-a" == compare({}, '{"a":"x"}', STRING)
    assert b"mcp-param-a" == compare({"mcp-param-a": ""}, "{}", STRING)
    assert b"" == compare({"mcp-param-other": "x"}, "{}", STRING)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("7", "7"),
        ("-0", "0"),
        ("1152921504606846976", "1152921504606846976"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("42.0", "42.0"),
        ("true", "true"),
        ("false", "false"),
        ('"7"', "7"),
        ('"true"', "true"),
        ('""', ""),
        ('"a\\nb"', "=?base64?YQpi?="),
        ('"\\u0041"', "A"),
        ("null", None),
        ("[1]", None),
        ("{}", None),
        ("9" * 5000, None),
    ],
)
def test_a_scalar_is_written_as_a_header_value(argument: str, value: str | None) -> None:
    """As the SDK's server will write it to compare."""
    body = f'{{"id":1,"method":"tools/call","params":{{"name":"x","arguments":{{"a":{argument}}},{META}}}}}'
    assert value == mirrored(body, [ParamHeader(("a",), b"mcp-param-a")]).get("mcp-param-a")


@pytest.mark.parametrize("arguments_text", ["null", "[]", "7", '{"a":{"b":1},"a":7}', '{"a":"x"}', "{}"])
def test_arguments_that_lack_the_path_have_no_header(arguments_text: str) -> None:
    """Of duplicates the last one counts, as it does for the server."""
    body = f'{{"id":1,"method":"tools/call","params":{{"arguments":{arguments_text},{META}}}}}'
    assert {"mcp-protocol-version", "mcp-method"} == set(mirrored(body, [ParamHeader(("a", "b"), b"mcp-param-b")]))


@pytest.mark.parametrize("text", [b"", b"{", b'{"a":NaN}', b'{"properties":' * 10**5])
def test_a_schema_that_cannot_be_read_is_an_error(text: bytes) -> None:
    """Such a tool cannot be mirrored."""
    with pytest.raises(ValueError, match="cannot be read"):
        param_headers(text)


@pytest.mark.parametrize("text", [b"null", b"true", b"[]", b"{}", b'{"properties":[]}'])
def test_a_schema_without_annotations_has_none(text: bytes) -> None:
    """Whatever JSON it is."""
    assert [] == param_headers(text)


def test_headers_come_in_the_order_of_the_schema() -> None:
    """So that two runs send the same bytes."""
    leaf = '{{"type":"string","x-mcp-header":"{}"}}'
    schema = '{{"properties":{{"z":{},"a":{{"properties":{{"y":{}}}}},"m":{}}}}}'
    found = param_headers(schema.format(*(leaf.format(token) for token in "CAB")).encode())
    assert [b"mcp-param-c", b"mcp-param-a", b"mcp-param-b"] == [param.header for param in found]
    assert [("z",), ("a", "y"), ("m",)] == [param.path for param in found]


def test_an_error_says_where_and_why() -> None:
    """For whoever wrote the tool."""
    same = b'{"properties":{"a":{"type":"string","x-mcp-header":"R"},"b":{"type":"string","x-mcp-header":"r"}}}'
    with pytest.raises(ValueError, match="property 'b': x-mcp-header is that of property 'a'"):
        param_headers(same)
