"""What a client of Streamable HTTP remembers between exchanges, and puts on each: session, revision, headers."""

from collections.abc import Callable
from urllib.parse import urlsplit

from weir.core.call import Call, Headers, Peer, Sink, Transport, header
from weir.protocol import hosts
from weir.protocol.cookies import Jar
from weir.protocol.envelope import NOTHING, Kind, Message
from weir.protocol.headers import mcp_headers
from weir.protocol.media_types import EVENT_STREAM, JSON
from weir.protocol.methods import is_modern
from weir.relay.tool_headers import ToolHeaders

_JSON = (b"content-type", JSON)
_ACCEPT = (b"accept", JSON + b", " + EVENT_STREAM)
_ACCEPT_STREAM = (b"accept", EVENT_STREAM)


class HttpSession:
    """One client's standing with one server. `id` is a secret of the two and is written down nowhere."""

    def __init__(self, upstream: str, target: bytes, clock: Callable[[], float], url: str = "") -> None:
        self._upstream = upstream
        self._target = target
        self._clock = clock
        self._cookies = _jar(url)
        self._negotiated = ""
        self._stated = ""
        self.id = ""
        self.is_gone = False
        self.tools = ToolHeaders()

    @property
    def is_modern(self) -> bool:
        """The client speaks a stateless revision (2026-07-28 or later)."""
        return bool(self._stated) and not self._negotiated

    def begin(self, message: Message) -> None:
        """The client sends `message`: a handshake begins anew, a modern request states its revision itself."""
        if message.method == "initialize" and message.kind is Kind.REQUEST:
            self.id = self._negotiated = self._stated = ""
            self.is_gone = False
        elif is_modern(message.revision):
            self._stated = message.revision

    def note_head(self, message: Message, status: int, headers: Headers) -> None:
        """The reply to `message` begins: only that to `initialize` gives a session."""
        if message.method == "initialize" and 200 <= status < 300:
            self.id = header(headers, b"mcp-session-id").decode("latin-1")

    def note_answer(self, asked: Message, answer: Message, body: bytes) -> None:
        """An answer passes: the revision that was agreed on, the tools that were listed."""
        if answer.result is None:
            return
        if asked.method == "initialize":
            self._negotiated = answer.result.protocol_version
        elif asked.method == "tools/list" and is_modern(asked.revision):
            self.tools.learn(body)

    def note_gone(self, session: str) -> bool:
        """The server answered 404 under `session`. True when that is news."""
        is_news = bool(session) and session == self.id and not self.is_gone
        self.is_gone = self.is_gone or is_news
        return is_news

    def message_headers(self, message: Message, body: bytes) -> Headers:
        """What a message itself says in headers, from 2026-07-28 on."""
        if not is_modern(message.revision):
            return []
        return mcp_headers(message, body, self.tools.params(message.name))

    def post(self, sink: Sink, body: bytes, message: Message, mirrored: Headers) -> Call:
        """A message on its way. `mirrored` are its `message_headers`."""
        return self._call(b"POST", sink, [_ACCEPT, _JSON, *mirrored], body, message)

    def get(self, sink: Sink, last_event_id: bytes) -> Call:
        """A stream of what the server says unasked, or the rest of one that was cut."""
        resumed = [(b"last-event-id", last_event_id)] if last_event_id else []
        return self._call(b"GET", sink, [_ACCEPT_STREAM, *resumed])

    def delete(self, sink: Sink) -> Call:
        """The end of the session."""
        return self._call(b"DELETE", sink, [])

    def _call(self, verb: bytes, sink: Sink, headers: Headers, body: bytes = b"", message: Message = NOTHING) -> Call:
        revision = message.revision or self._negotiated or self._stated
        session = "" if is_modern(revision) else self.id
        if session:
            headers.append((b"mcp-session-id", session.encode("latin-1")))
        # a modern request states its revision in its own headers already
        if revision and not message.revision and message.method != "initialize":
            headers.append((b"mcp-protocol-version", revision.encode("latin-1", "replace")))
        call = Call(
            upstream=self._upstream,
            peer=Peer(Transport.STDIO),
            sink=sink,
            received_at=self._clock(),
            verb=verb,
            target=self._target,
            headers=headers,
            body=body,
            message=message,
        )
        call.session = session
        call.revision = revision
        call.cookies = self._cookies
        return call


def _jar(url: str) -> Jar | None:
    """Returns where the cookies of the conversation are kept; None for a child process, which sets none."""
    parts = urlsplit(url)
    if not parts.hostname:
        return None
    # as browsers have it: what does not leave this machine is as secret as TLS
    return Jar(parts.hostname, is_secure=parts.scheme == "https" or hosts.is_loopback(parts.hostname))
