"""Messages and headers with a secret wherever one can be; each secret has MARKER in it."""

HEADERS = [
    (b"authorization", b"Bearer MARKER-bearer"),
    (b"cookie", b"sid=MARKER-cookie"),
    (b"mcp-session-id", b"MARKER-session"),
    (b"x-api-key", b"MARKER-key"),
    (b"mcp-param-region", b"MARKER-param"),
    (b"baggage", b"user=MARKER-baggage"),
    (b"last-event-id", b"MARKER-event"),
]
"""A client's."""
CALL = (
    b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":"MARKER-argument"},'
    b'"requestState":"MARKER-state","inputResponses":{"x":"MARKER-input"},"_meta":{"progressToken":"MARKER-token"}}}'
)
READ = b'{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"https://u:MARKER-info@h/x?k=MARKER-q"}}'
TOLD = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"token=MARKER-told"}}'
ASKED = b'{"jsonrpc":"2.0","id":1,"method":"sampling/createMessage","params":{"messages":["MARKER-asked"]}}'
RESULT = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"MARKER-result"}]}}'
