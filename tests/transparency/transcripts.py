# ruff: noqa: E501 - a message is one line, as on the wire
"""What clients and servers of every revision say to each other, message by message, as bytes on the wire.

Written with the unlikely on purpose: odd spacing, unknown fields, ids of both types, methods nobody knows.
"""

from transparency.conversation import SUBSCRIPTION, Listens, Step, Transcript, answer, client, during, push
from transparency.ends import identity

HANDSHAKE_REVISIONS = ("2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"


def opening(revision: str) -> Transcript:
    """The handshake; id 0 as the TypeScript SDK writes it."""
    asked = (
        b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"%b","capabilities":{"roots":'
        b'{"listChanged":true},"sampling":{},"elicitation":{},"x-vendor":{"a":1.0}},"clientInfo":{"name":"t","version":"0"}}}'
    ) % revision.encode()
    answered = (
        b'{"result":{"protocolVersion":"%b","capabilities":{"tools":{"listChanged":true},"logging":{},"x":null},'
        b'"serverInfo":{"name":"s","version":"1","extra":[]},"instructions":"\\u2603 \xe2\x98\x83"},"jsonrpc":"2.0","id":0}'
    ) % revision.encode()
    return [
        client(asked),
        answer(b"0", answered),
        client(b'{"jsonrpc":"2.0","method":"notifications/initialized"}'),
        Listens(),
    ]


def plain_calls(revision: str) -> Transcript:
    """Requests answered at once: results, tool errors, protocol errors, methods and fields that nobody knows."""
    return [
        *opening(revision),
        client(b'{"jsonrpc":"2.0","id":1,"method":"ping"}'),
        answer(b"1", b'{"jsonrpc":"2.0","id":1,"result":{}}'),
        client(b'{"jsonrpc":"2.0","id":"list-1","method":"tools/list","params":{"cursor":""}}'),
        answer(
            b'"list-1"', b'{"jsonrpc":"2.0","id":"list-1","result":{"tools":[{"name":"t","x-hint":{"b":2,"a":1}}]}}'
        ),
        client(b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t","arguments":{"n":1.0},"x":[ ]}}'),
        answer(b"2", b'{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"x-new","v":1e3}],"isError":true},"y":0}'),
        client(b'{"id":3,"jsonrpc":"2.0","params":{"uri":"x:\\/\\/y","_meta":{"k":{}}},"method":"resources/read"}'),
        answer(b"3", b'{"jsonrpc":"2.0","id":3,"error":{"code":-32002,"message":"no","data":{"uri":"x://y"}}}'),
        client(b'{"jsonrpc":"2.0","id":4,"method":"vendor.example/do","params":[1,"two",null]}'),
        answer(b"4", b'{"jsonrpc":"2.0","id":4,"error":{"code":-32601,"message":"Method not found"}}'),
        client(b'{"jsonrpc":"2.0","method":"notifications/vendor.example/hint","params":{"x":true}}'),
        client(
            b'{"jsonrpc":"2.0","id":5,"method":"completion/complete","params":{"ref":{"type":"ref/prompt","name":"p"}}}'
        ),
        answer(b"5", b'{"jsonrpc":"2.0","id":5,"result":{"completion":{"values":[],"total":0,"hasMore":false}}}'),
        client(b'{"jsonrpc":"2.0","id":6,"method":"logging/setLevel","params":{"level":"debug"}}'),
        answer(b"6", b'{"jsonrpc":"2.0","id":6,"result":{}}'),
    ]


def told_during_a_call(revision: str) -> Transcript:
    """Progress and log messages before the answer."""
    return [
        *opening(revision),
        client(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":"p-1"}}}'),
        during(b"1", _progress(b'"p-1"', b"0.10")),
        during(
            b"1", b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":{"k":[1,2]}}}'
        ),
        during(b"1", _progress(b'"p-1"', b"1")),
        answer(b"1", b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'),
        client(b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":2}}}'),
        during(b"2", _progress(b"2", b"5e-1")),
        answer(b"2", b'{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"after progress"}}'),
    ]


def asked_during_a_call(revision: str) -> Transcript:
    """Sampling, roots and elicitation on the stream of a call; the server's own ids, which look like the client's."""
    return [
        *opening(revision),
        client(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}'),
        during(
            b"1", b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"messages":[],"maxTokens":9}}'
        ),
        client(
            b'{"jsonrpc":"2.0","id":1,"result":{"role":"assistant","content":{"type":"text","text":"\\n"},"model":"m"}}'
        ),
        during(b"1", b'{"jsonrpc":"2.0","id":"1","method":"roots/list"}'),
        client(b'{"jsonrpc":"2.0","id":"1","result":{"roots":[{"uri":"file:///a b","x":1}]}}'),
        during(
            b"1",
            b'{"jsonrpc":"2.0","id":2,"method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}',
        ),
        client(b'{"jsonrpc":"2.0","id":2,"error":{"code":-1,"message":"declined \xf0\x9f\x99\x82"}}'),
        answer(b"1", b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'),
    ]


def spoken_unasked(revision: str) -> Transcript:
    """What the server says by itself, between calls and while another one runs."""
    return [
        *opening(revision),
        push(b'{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}'),
        push(b'{"jsonrpc":"2.0","id":100,"method":"ping"}'),
        client(b'{"jsonrpc":"2.0","id":100,"result":{}}'),
        client(b'{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"a:b"}}'),
        answer(b"1", b'{"jsonrpc":"2.0","id":1,"result":{}}'),
        push(b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a:b/c","title":null}}'),
        push(b'{"jsonrpc":"2.0","method":"notifications/vendor.example/unknown","params":{"deep":[[[{}]]]}}'),
        client(b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}'),
        push(b'{"jsonrpc":"2.0","id":"r","method":"roots/list","params":{}}'),
        client(b'{"jsonrpc":"2.0","id":"r","result":{"roots":[]}}'),
    ]


def two_calls_at_once(revision: str) -> Transcript:
    """Answered in the other order; ids that differ only in type."""
    return [
        *opening(revision),
        client(b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow","_meta":{"progressToken":7}}}'),
        client(
            b'{"jsonrpc":"2.0","id":"7x","method":"tools/call","params":{"name":"t","_meta":{"progressToken":"7"}}}'
        ),
        during(b"7", _progress(b"7", b"1")),
        during(b'"7x"', _progress(b'"7"', b"1")),
        answer(b'"7x"', b'{"jsonrpc":"2.0","id":"7x","result":{"content":[]}}'),
        during(b"7", _progress(b"7", b"2")),
        answer(b"7", b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'),
    ]


def cancelled_by_the_client(revision: str) -> Transcript:
    """The notification reaches the server while the call runs; the SDK's server then ends it with -32800."""
    return [
        *opening(revision),
        client(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}'),
        client(
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"\\"enough\\""}}'
        ),
        answer(b"1", b'{"jsonrpc":"2.0","id":1,"error":{"code":-32800,"message":"Request cancelled"}}'),
        client(b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"t"}}'),
        answer(b"2", b'{"jsonrpc":"2.0","id":2,"result":{"content":[]}}'),
    ]


def batches() -> Transcript:
    """2025-03-26: requests and notifications in one array, answered by one array; answers in an array too."""
    return [
        *opening("2025-03-26"),
        client(
            b'[{"jsonrpc":"2.0","id":1,"method":"tools/list"}, {"jsonrpc":"2.0","method":"notifications/x"},'
            b'{"jsonrpc":"2.0","id":"2","method":"tools/call","params":{"name":"t"}}]'
        ),
        answer(
            b"1", b'[{"jsonrpc":"2.0","id":"2","result":{"content":[]}},{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}]'
        ),
    ]


def tasks_of_2025_11_25() -> Transcript:
    """Experimental tasks: a call that becomes a task, polled, asked back, cancelled; status by itself."""
    related = b'"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t-1"}}'
    return [
        *opening("2025-11-25"),
        client(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","task":{"ttl":60000}}}'),
        answer(
            b"1", b'{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"t-1","status":"working","pollInterval":5}}}'
        ),
        client(b'{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"t-1"}}'),
        answer(b"2", b'{"jsonrpc":"2.0","id":2,"result":{"taskId":"t-1","status":"input_required"}}'),
        push(b'{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"t-1","status":"working"}}'),
        client(b'{"jsonrpc":"2.0","id":3,"method":"tasks/result","params":{"taskId":"t-1"}}'),
        during(b"3", b'{"jsonrpc":"2.0","id":9,"method":"elicitation/create","params":{"message":"?",%b}}' % related),
        client(b'{"jsonrpc":"2.0","id":9,"result":{"action":"accept","content":{},%b}}' % related),
        answer(b"3", b'{"jsonrpc":"2.0","id":3,"result":{"content":[],%b}}' % related),
        client(b'{"jsonrpc":"2.0","id":4,"method":"tasks/list","params":{}}'),
        answer(b"4", b'{"jsonrpc":"2.0","id":4,"result":{"tasks":[]}}'),
        client(b'{"jsonrpc":"2.0","id":5,"method":"tasks/cancel","params":{"taskId":"t-1"}}'),
        answer(b"5", b'{"jsonrpc":"2.0","id":5,"error":{"code":-32602,"message":"terminal"}}'),
    ]


def _progress(token: bytes, amount: bytes) -> bytes:
    return (
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":%b,"progress":%b,"total":null}}'
        % (token, amount)
    )


def modern(identity: bytes, method: bytes, params: bytes = b"", meta: bytes = b"") -> bytes:
    """A 2026-07-28 request with its envelope; `params` and `meta` are members, each ending in a comma."""
    envelope = (
        b'"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":'
        b'{"elicitation":{},"x":[1.0]},"io.modelcontextprotocol/clientInfo":{"name":"t","version":"0"}'
    )
    return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":{%b"_meta":{%b%b}}}' % (
        identity,
        method,
        params,
        meta,
        envelope,
    )


def complete(identity: bytes, members: bytes = b"") -> bytes:
    """A 2026-07-28 result; `members` end in a comma."""
    return b'{"jsonrpc":"2.0","id":%b,"result":{%b"resultType":"complete"}}' % (identity, members)


def modern_calls() -> Transcript:
    """Each request stands alone: discovery, lists, names that need encoding, errors, unknown methods."""
    return [
        client(modern(b"1", b"server/discover")),
        answer(b"1", complete(b"1", b'"supportedVersions":["2026-07-28"],"capabilities":{"extensions":{"a/b":{}}},')),
        client(modern(b'"l"', b"tools/list", b'"cursor":"",')),
        answer(b'"l"', complete(b'"l"', b'"tools":[],"ttlMs":1000.0,"cacheScope":"private",')),
        client(modern(b"2", b"tools/call", b'"name":"t\xc3\xa9st \xf0\x9f\x99\x82","arguments":{"n":1.50},')),
        answer(b"2", complete(b"2", b'"content":[],"structuredContent":[1,{"a":null}],')),
        client(modern(b"3", b"prompts/get", b'"name":" edge ",')),
        answer(b"3", b'{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"no such prompt","data":{}}}'),
        client(modern(b"4", b"resources/read", b'"uri":"file:///\\u00e9/a%20b",')),
        answer(b"4", complete(b"4", b'"contents":[],"ttlMs":0,"cacheScope":"public",')),
        client(modern(b"5", b"vendor.example/do", b'"anything":{"goes":[ ]},')),
        answer(b"5", b'{"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"Method not found"}}'),
        client(modern(b"6", b"tasks/get", b'"taskId":"t-1",')),
        answer(b"6", complete(b"6", b'"taskId":"t-1","status":"completed","result":{"content":[]},')),
    ]


def modern_told_during_a_call() -> Transcript:
    """Progress under a token of the caller's own, and log messages it asked for; two at once."""
    log = b'"io.modelcontextprotocol/logLevel":"debug",'
    return [
        client(modern(b"1", b"tools/call", b'"name":"t",', b'"progressToken":"one",' + log)),
        during(b"1", _progress(b'"one"', b"0.5")),
        client(modern(b"2", b"tools/call", b'"name":"t",', b'"progressToken":1,')),
        during(b"2", _progress(b"1", b"10")),
        during(b"1", _progress(b'"one"', b"0.75")),
        answer(b"2", complete(b"2", b'"content":[],')),
        answer(b"1", complete(b"1", b'"content":[],')),
    ]


def several_rounds() -> Transcript:
    """Multi-round-trip: input required, then the original request again with a new id and the state as it was."""
    state = b'"requestState":"AAA\\u002b/=\\n",'
    wanted = b'"inputRequests":{"q":{"method":"elicitation/create","params":{"message":"?","requestedSchema":{}}}},'
    required = b'{"jsonrpc":"2.0","id":1,"result":{%b%b"resultType":"input_required"}}' % (wanted, state)
    given = b'"inputResponses":{"q":{"action":"accept","content":{"a":1.0}}},'
    return [
        client(modern(b"1", b"tools/call", b'"name":"t","arguments":{"z":1,"a":2},')),
        answer(b"1", required),
        client(modern(b"2", b"tools/call", b'"name":"t","arguments":{"z":1,"a":2},' + given + state)),
        answer(b"2", complete(b"2", b'"content":[],')),
    ]


def subscriptions() -> Transcript:
    """A listen stream: acknowledged, told of changes, ended by its result; every frame names the client's own id."""
    named = b'"_meta":{"%b":"sub-1"}' % SUBSCRIPTION.encode()
    said = b'{"jsonrpc":"2.0","method":"notifications/%b","params":{%b%b}}'
    return [
        client(modern(b'"sub-1"', b"subscriptions/listen", b'"notifications":{"toolsListChanged":true},')),
        during(
            b'"sub-1"', said % (b"subscriptions/acknowledged", b'"notifications":{"toolsListChanged":true},', named)
        ),
        during(b'"sub-1"', said % (b"tools/list_changed", b"", named)),
        client(modern(b"2", b"tools/list")),
        answer(b"2", complete(b"2", b'"tools":[],"ttlMs":0,"cacheScope":"public",')),
        during(b'"sub-1"', said % (b"resources/updated", b'"uri":"a:b",', named)),
        answer(b'"sub-1"', complete(b'"sub-1"', named + b",")),
    ]


_ODD_VALUES = (
    b"[1.0,1e3,-0,1E+2,0.10,1152921504606846976,123456789012345678901234567890,1e400]",
    b'"\xf0\x9f\x99\x82\\ud83d\\ude42\\u0000\\u2028\xe2\x80\xa8\\/\x7f"',
    b'{"b":1,"a":2,"":3,"\\u0069d":4,"id":5,"method":"x","params":{"_meta":{"progressToken":6}}}',
    b'"\\"},\\"id\\":9,\\"result\\":{\\"x\\":\\""',
    b'{"a":[' * 10 + b"0" + b"]}" * 10,
    b"  [ ]\t",
    b'"' + b"\xe2\x98\x83" * 100_000 + b'"',
)
"""JSON values that survive only where nobody decodes and encodes them."""
_ODD_IDS = (b"1152921504606846976", b'"7"', b"7", b"-7", b'"\xc3\xa9 \\"x\\""', b'""', b'"1000000001"')
"""Ids that are easily confused with others, or lost in a number type. The last looks like one of weir's own."""


def odd_values(revision: str) -> Transcript:
    """Each in a request and in its result, under each odd id in turn."""
    return [*opening(revision), *_odd(b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"t","a":%b}}')]


def modern_odd_values() -> Transcript:
    """The same in 2026-07-28, where ids may have to be renamed."""
    return _odd(modern(b"%b", b"tools/call", b'"name":"t","a":%b,'))


def _odd(form: bytes) -> Transcript:
    steps: list[Step] = []
    for number, odd in enumerate(_ODD_VALUES):
        raw_id = _ODD_IDS[number]
        steps += [
            client(form % (raw_id, odd)),
            answer(identity(b'{"id":%b}' % raw_id), b'{"result":{"v":%b},"id":%b,"jsonrpc":"2.0"}' % (odd, raw_id)),
        ]
    return steps


def odd_ids_at_once() -> Transcript:
    """All of them in flight together, answered backwards."""
    asked = [client(modern(raw_id, b"tools/call", b'"name":"t","n":%d,' % at)) for at, raw_id in enumerate(_ODD_IDS)]
    given = [answer(identity(b'{"id":%b}' % raw_id), complete(raw_id)) for raw_id in _ODD_IDS]
    return [*asked, *reversed(given)]


TRANSCRIPTS: dict[str, Transcript] = {
    **{
        f"{scene.__name__}-{revision}": scene(revision)
        for revision in HANDSHAKE_REVISIONS
        for scene in (
            plain_calls,
            told_during_a_call,
            asked_during_a_call,
            spoken_unasked,
            two_calls_at_once,
            cancelled_by_the_client,
            odd_values,
        )
    },
    **{
        scene.__name__: scene()
        for scene in (
            batches,
            tasks_of_2025_11_25,
            modern_calls,
            modern_told_during_a_call,
            several_rounds,
            subscriptions,
            modern_odd_values,
            odd_ids_at_once,
        )
    },
}
