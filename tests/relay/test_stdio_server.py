"""A stdio server behind HTTP sessions, with real processes."""

import pytest

from support.bridges import Client, bridge, result_text
from weir.core.outcome import RefusalKind, Refused, Replied

pytestmark = pytest.mark.anyio


async def test_a_legacy_session_opens_calls_and_ends() -> None:
    """initialize mints a session id, a call's answer comes as JSON, DELETE ends the session."""
    async with bridge() as upstream:
        client = Client(upstream)
        opened = await client.initialize()
        assert (200, "session-1") == (opened.status, client.session)
        answer = await client.post(b'{"jsonrpc":"2.0","id":7,"method":"echo","params":{"n":1.0}}')
        assert isinstance(answer, Replied)
        assert b"1.0" in (answer.body or b"")
        assert "{}" == result_text(await client.tool("echo"))
        ended = await client.delete()
        assert isinstance(ended, Replied)
        assert 200 == ended.status
        gone = await client.tool("echo")
        assert isinstance(gone, Refused)
        assert RefusalKind.UNKNOWN_SESSION is gone.kind
