"""HTTP exchanges of every revision, as a client sends them and as a server answers them, to the byte."""
# ruff: noqa: E501 - a message is one line, as on the wire

import json
from dataclasses import dataclass

from support.rawhttp import JSON_POST, Exchange, Headers
from transparency.transcripts import modern

SSE: Headers = [(b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-cache, no-transform")]
JSON: Headers = [(b"Content-Type", b"application/json")]
CALL = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"t"}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'


@dataclass(frozen=True)
class Said:
    """A request and the reply to it. `chunks` is the body; more than one, or `is_stream`, makes it chunked."""

    body: bytes = CALL
    headers: Headers = tuple(JSON_POST)
    verb: str = "POST"
    query: str = ""
    status: int = 200
    reply_headers: Headers = tuple(JSON)
    chunks: tuple[bytes, ...] = (RESULT,)
    is_stream: bool = False

    async def answer(self, exchange: Exchange) -> None:
        """Play the server; `{host}` in a header is its own name."""
        host = exchange.request.get(b"host")
        headers = [(name, value.replace(b"{host}", host)) for name, value in self.reply_headers]
        if not self.is_stream:
            await exchange.reply(self.status, headers, b"".join(self.chunks))
            return
        await exchange.open(self.status, headers)
        for chunk in self.chunks:
            await exchange.write(chunk)
        await exchange.end()


def streamed(*chunks: bytes, **rest: object) -> Said:
    """A call answered by an SSE stream, written in these pieces."""
    return Said(reply_headers=SSE, chunks=chunks, is_stream=True, **rest)  # type: ignore[arg-type]


def under(revision: bytes, *more: tuple[bytes, bytes]) -> Headers:
    """The headers of a request in a session."""
    return [*JSON_POST, (b"MCP-Protocol-Version", revision), (b"Mcp-Session-Id", b"abc!~123"), *more]


_PROGRESS = (
    b'event: message\nid: 1\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
)
_ANSWER = b"event: message\nid: s-2\ndata: " + RESULT + b"\n\n"
_GET: Headers = [(b"Accept", b"text/event-stream"), (b"Mcp-Session-Id", b"abc!~123")]


def nested(depth: int) -> bytes:
    """A call whose arguments are that deep."""
    return CALL.replace(b'"t"', b'"t","arguments":' + b'{"a":[' * depth + b"0" + b"]}" * depth)


PLACES: dict[str, Said] = {
    "a server behind a slash": Said(
        status=307, reply_headers=[(b"Location", b"http://{host}/mcp/"), (b"Content-Type", b"text/plain")], chunks=()
    ),
    "a reply that names its place": Said(
        reply_headers=[*JSON, (b"Content-Location", b"http://{host}/mcp"), (b"Location", b"http://{host}/jobs/1")]
    ),
}
"""Replies that name an address of the server, which becomes weir's."""

REQUESTS: dict[str, Said] = {
    "a session opens": Said(
        b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}',
        reply_headers=[*JSON, (b"Mcp-Session-Id", b"abc!~123"), (b"X-Served-By", b"a, b")],
        chunks=(b'{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18"}}',),
    ),
    "a notification is accepted": Said(
        b'{"jsonrpc":"2.0","method":"notifications/initialized"}', status=202, reply_headers=[], chunks=()
    ),
    "a notification is refused": Said(
        b'{"jsonrpc":"2.0","method":"notifications/x"}', status=400, chunks=(b'{"jsonrpc":"2.0","error":{"code":-1}}',)
    ),
    "a response of the client": Said(b'{"jsonrpc":"2.0","id":1,"result":{}}', status=202, reply_headers=[], chunks=()),
    "a session is gone": Said(headers=under(b"2025-11-25"), status=404, chunks=(b"Could not find session",)),
    "not allowed yet": Said(
        status=401,
        reply_headers=[
            (b"WWW-Authenticate", b'Bearer resource_metadata="http://127.0.0.1/.well-known/x"'),
            (b"Content-Type", b"text/plain"),
        ],
        chunks=(b"no",),
    ),
    "a redirect to another server": Said(
        status=302, reply_headers=[(b"Location", b"https://login.example/start?x=1")], chunks=()
    ),
    "a redirect without a host": Said(status=308, reply_headers=[(b"Location", b"/mcp/?a=1")], chunks=()),
    "a cookie": Said(reply_headers=[*JSON, (b"Set-Cookie", b"lb=node7; Path=/; HttpOnly"), (b"Set-Cookie", b"a=b")]),
    "slow down": Said(status=429, reply_headers=[(b"Retry-After", b"3"), *JSON], chunks=(b"{}",)),
    "the server's own overload": Said(status=503, reply_headers=[(b"Content-Type", b"text/html")], chunks=(b"<b>503",)),
    "headers of every kind": Said(
        headers=[
            *under(b"2025-06-18", (b"Authorization", b"Bearer s3cret"), (b"X-Twice", b"1"), (b"X-Twice", b"2")),
            *((b"User-Agent", b"t/1"), (b"Cookie", b"a=b; c=d"), (b"X-Empty", b""), (b"Accept-Language", b"de")),
            *((b"X-Latin", b"caf\xe9"), (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")),
            *((b"tracestate", b"k=v"), (b"baggage", b"u=1"), (b"Last-Event-ID", b"9")),
        ],
        reply_headers=[
            *JSON,
            *((b"Set-Cookie", b"a=1; Path=/"), (b"Set-Cookie", b"b=2"), (b"Server", b"s/1"), (b"X-Empty", b"")),
            *((b"Date", b"Sat, 21 Nov 2026 09:00:00 GMT"), (b"Vary", b"Origin"), (b"ETag", b'"x"')),
            *((b"Access-Control-Expose-Headers", b"Mcp-Session-Id"), (b"X-Latin", b"caf\xe9")),
        ],
    ),
    "headers of one hop": Said(
        headers=[
            *JSON_POST,
            *((b"Connection", b"keep-alive, X-Mine"), (b"X-Mine", b"1"), (b"Keep-Alive", b"timeout=5")),
            *((b"TE", b"trailers"), (b"Proxy-Connection", b"keep-alive")),
        ],
        reply_headers=[*JSON, (b"Connection", b"X-Theirs"), (b"X-Theirs", b"1"), (b"Keep-Alive", b"timeout=9")],
    ),
    "a query": Said(query="?a=1&b=%20%2F&c"),
    "a modern call with custom headers": Said(
        modern(b"7", b"tools/call", b'"name":"t\xc3\xa9","arguments":{"region":"\xe2\x98\x83"},'),
        headers=[
            *JSON_POST,
            *((b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/call")),
            *((b"Mcp-Name", b"=?base64?dMOp?="), (b"Mcp-Param-Region", b"=?base64?4piD?="), (b"mcp-param-N", b"1.0")),
        ],
    ),
    "a modern header mismatch": Said(
        modern(b"7", b"tools/call", b'"name":"t",'),
        headers=[*JSON_POST, (b"MCP-Protocol-Version", b"2026-07-28"), (b"Mcp-Method", b"tools/list")],
        status=400,
        chunks=(b'{"jsonrpc":"2.0","id":7,"error":{"code":-32020,"message":"HeaderMismatch"}}',),
    ),
    "a modern unknown method": Said(
        modern(b"7", b"vendor/x"),
        status=404,
        chunks=(b'{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":""}}',),
    ),
    "a batch": Said(
        b'[{"jsonrpc":"2.0","id":1,"method":"ping"}, {"jsonrpc":"2.0","method":"notifications/x"} ,{"jsonrpc":"2.0","id":"1","method":"ping"}]',
        chunks=(b'[{"jsonrpc":"2.0","id":"1","result":{}},\n{"jsonrpc":"2.0","id":1,"result":{}}]',),
    ),
    "a batch answered in a stream": streamed(
        b'data: [{"jsonrpc":"2.0","id":1,"result":{}}]\n\n',
        b'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n',
        body=b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]',
    ),
    "a batch of responses": Said(
        b'[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":""}}]',
        status=202,
        reply_headers=[],
        chunks=(),
    ),
    "an empty batch": Said(
        b"[]", status=400, chunks=(b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":""}}',)
    ),
    "a stream": streamed(_PROGRESS, _ANSWER),
    "a stream cut anywhere": streamed(*[bytes([byte]) for byte in _PROGRESS + _ANSWER]),
    "a stream in one piece": streamed(_PROGRESS + _ANSWER),
    "a stream with CRLF": streamed(_PROGRESS.replace(b"\n", b"\r\n"), _ANSWER.replace(b"\n", b"\r\n")),
    "a stream with comments, retry and odd fields": streamed(
        b": ping\n\n",
        b"retry: 5\nid: p-1\ndata:\n\n",
        b"foo: bar\nevent:message\ndata:" + RESULT + b"\n\n",
        b": after\n\n",
    ),
    "a stream with data over several lines": streamed(
        b'event: message\ndata: {"jsonrpc":"2.0",\ndata: "id":7,\ndata: "result":{}}\n\n'
    ),
    "a stream whose last event has no blank line": streamed(_PROGRESS, b"data: " + RESULT + b"\n"),
    "a stream to be polled": streamed(b"id: 1\nretry: 10\ndata: \n\n", headers=under(b"2025-11-25")),
    "a stream with an error at the end": streamed(
        _PROGRESS, b'data: {"jsonrpc":"2.0","id":7,"error":{"code":-32603,"message":"late"}}\n\n'
    ),
    "a large result": Said(chunks=(RESULT.replace(b"[]", b'["' + b"\xe2\x98\x83" * 400_000 + b'"]'),)),
    "a result over the reply buffer": Said(chunks=(RESULT.replace(b"[]", b'["' + b"x" * 5_000_000 + b'"]'),)),
    "a large event": streamed(_ANSWER.replace(b"[]", b'["' + b"x" * 3_000_000 + b'"]')),
    "an event over the reply buffer": streamed(_ANSWER.replace(b"[]", b'["' + b"x" * 5_000_000 + b'"]')),
    "a large request": Said(CALL.replace(b'"t"', b'"t","arguments":{"a":"' + b"\xf0\x9f\x99\x82" * 500_000 + b'"}')),
    "the listening stream": streamed(b": hello\n\n", _PROGRESS, verb="GET", body=b"", headers=_GET),
    "the listening stream resumed": streamed(
        _ANSWER,
        verb="GET",
        body=b"",
        headers=[*_GET, (b"Last-Event-ID", b"p-1"), (b"MCP-Protocol-Version", b"2025-11-25")],
    ),
    "no listening stream": Said(
        verb="GET", body=b"", headers=_GET, status=405, reply_headers=[(b"Allow", b"POST")], chunks=()
    ),
    "a second listening stream": Said(verb="GET", body=b"", headers=_GET, status=409, chunks=(b'{"error":1}',)),
    "the end of a session": Said(verb="DELETE", body=b"", headers=under(b"2025-11-25"), reply_headers=[], chunks=()),
    "the end of a session without a body": Said(
        verb="DELETE", body=b"", headers=under(b"2025-11-25"), status=204, reply_headers=[], chunks=()
    ),
    "the end of a session refused": Said(
        verb="DELETE", body=b"", headers=under(b"2025-03-26"), status=405, reply_headers=[], chunks=()
    ),
    "a preflight": Said(
        verb="OPTIONS",
        body=b"",
        headers=[(b"Origin", b"http://localhost:5173"), (b"Access-Control-Request-Headers", b"mcp-method")],
        status=204,
        reply_headers=[(b"Access-Control-Allow-Origin", b"*")],
        chunks=(),
    ),
    "a head": Said(verb="HEAD", body=b"", headers=[], status=405, reply_headers=[(b"Allow", b"POST")], chunks=()),
}

BODIES: dict[str, bytes] = {
    "number text": CALL.replace(
        b'"t"', b'"t","arguments":[1.0,1e3,-0,1E+2,0.10,1152921504606846976,123456789012345678901234567890]'
    ),
    "key order and spaces": b' {\t"params" : { "name":"t" , "z":1,"a":2 } ,"id": 7 , "method":"tools/call","jsonrpc":"2.0"}\n',
    "pretty": json.dumps(json.loads(CALL), indent=4).encode(),
    "pretty with CRLF": json.dumps(json.loads(CALL), indent=2).replace("\n", "\r\n").encode(),
    "string id": CALL.replace(b":7,", b':"7",'),
    "large id": CALL.replace(b":7,", b":1152921504606846977,"),
    "negative id": CALL.replace(b":7,", b":-7,"),
    "empty id": CALL.replace(b":7,", b':"",'),
    "fraction id": CALL.replace(b":7,", b":7.0,"),
    "escaped id": CALL.replace(b":7,", b':"\\u0037\\n\\ud83d\\ude42",'),
    "null id": CALL.replace(b":7,", b":null,"),
    "true id": CALL.replace(b":7,", b":true,"),
    "object id": CALL.replace(b":7,", b':{"a":1},'),
    "escaped method": CALL.replace(b"tools/call", b"tools\\/c\\u0061ll"),
    "escaped keys": CALL.replace(b'"method"', b'"m\\u0065thod"').replace(b'"name"', b'"\\u006eame"'),
    "emoji and escapes": CALL.replace(b'"t"', b'"\xf0\x9f\x99\x82\\ud83d\\ude42\\u0000\\u2028\xe2\x80\xa8"'),
    "lone surrogate": CALL.replace(b'"t"', b'"\\ud800"'),
    "raw control character": CALL.replace(b'"t"', b'"a\x01b\x7f"'),
    "not UTF-8": CALL.replace(b'"t"', b'"\xff\xfe\x80"'),
    "NaN and Infinity": CALL.replace(b'"t"', b'"t","arguments":[NaN,Infinity,-Infinity]'),
    "byte order mark": b"\xef\xbb\xbf" + CALL,
    "UTF-16": CALL.decode().encode("utf-16"),
    "duplicate id": CALL.replace(b'"id":7', b'"id":6,"id":7'),
    "duplicate method": CALL.replace(b'"method"', b'"method":"tools/list","method"'),
    "duplicate params": CALL.replace(b'"params"', b'"params":{"name":"u"},"params"'),
    "duplicate _meta": CALL.replace(b'"t"', b'"t","_meta":{"a":1},"_meta":{"b":2}'),
    "duplicate trace keys": CALL.replace(b'"t"', b'"t","_meta":{"baggage":"a=1","baggage":"b=2"}'),
    "_meta null": CALL.replace(b'"t"', b'"t","_meta":null'),
    "_meta a list": CALL.replace(b'"t"', b'"t","_meta":[]'),
    "_meta empty and spaced": CALL.replace(b'"t"', b'"t", "_meta" : { } '),
    "_meta full": CALL.replace(
        b'"t"', b'"t","_meta":{"progressToken":1.0,"a.b/c":{"traceparent":"not mine"},"x":null}'
    ),
    "trace keys of a wrong type": CALL.replace(b'"t"', b'"t","_meta":{"traceparent":7,"tracestate":[],"baggage":{}}'),
    "20 deep": nested(10),
    "400 deep": nested(200),
    "20000 deep": nested(10_000),
    "params a list": CALL.replace(b'{"name":"t"}', b'[1,"two"]'),
    "params null": CALL.replace(b'{"name":"t"}', b"null"),
    "params empty": CALL.replace(b'{"name":"t"}', b"{ }"),
    "no params": b'{"jsonrpc":"2.0","id":7,"method":"ping"}',
    "no jsonrpc": b'{"id":7,"method":"ping"}',
    "unknown members": CALL[:-1] + b',"extra":{"a":[1,2]},"":0}',
    "neither request nor response": b'{"jsonrpc":"2.0","id":7}',
    "both request and response": CALL[:-1] + b',"result":{}}',
    "a string": b'"hello"',
    "a number": b"7",
    "null": b"null",
    "cut off": CALL[:-10],
    "rubbish after": CALL + b"}",
    "two messages": CALL + b"\n" + CALL,
    "plain nonsense": b"\x00\x01 not json",
    "spaces only": b"  \n ",
}
"""Request bodies of `tools/call` and its relatives that a proxy must not touch, read or not."""

REPLIES: dict[str, bytes] = {
    "number text": RESULT.replace(b"[]", b"[1.0,1e3,-0,1152921504606846976,0.10]"),
    "key order and spaces": b'{ "result" : {"content":[ ]},"id" : 7,\n"jsonrpc":"2.0" }\n',
    "string id for a number": RESULT.replace(b":7,", b':"7",'),
    "null id on an error": b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"?","data":1.0}}',
    "no id on an error": b'{"jsonrpc":"2.0","error":{"code":-32600,"message":"?"}}',
    "emoji and escapes": RESULT.replace(b"[]", b'["\xf0\x9f\x99\x82\\ud83d\\ude42\\u0000"]'),
    "NaN": RESULT.replace(b"[]", b"[NaN]"),
    "not UTF-8": RESULT.replace(b"[]", b'["\xff\xfe"]'),
    "byte order mark": b"\xef\xbb\xbf" + RESULT,
    "duplicate keys": RESULT.replace(b'"content":[]', b'"content":[1],"content":[]'),
    "unknown members": RESULT[:-1] + b',"x":{"y":[1]}}',
    "deep": RESULT.replace(b"[]", b"[" * 500 + b"]" * 500),
    "a null result": b'{"jsonrpc":"2.0","id":7,"result":null}',
    "a result that is no object": b'{"jsonrpc":"2.0","id":7,"result":[1,2.0]}',
    "result and error": RESULT[:-1] + b',"error":null}',
    "a huge error code": b'{"jsonrpc":"2.0","id":7,"error":{"code":123456789012345678901234567890,"message":"?"}}',
}
"""Reply bodies that some servers send and some clients accept."""

NO_ANSWER = b'{"jsonrpc":"2.0","id":7,"error":{"message":"?"}}'
"""An error without a code: no JSON-RPC answer."""
