"""Which headers go on to the next hop, in requests and in replies, over real connections."""

import pytest

from support.edges import RESULT, answering, edge_to
from support.scripted import Visit, scripted
from weir.core.call import Headers
from weir.core.outcome import Replied
from weir.protocol.headers import HOP_BY_HOP

pytestmark = pytest.mark.anyio

FRAMING = {b"transfer-encoding"}
"""Of replies; what it announces has to come."""
OWN = {b"host", b"accept-encoding", b"content-length", b"content-type"}
"""What the two ends of the test and weir write themselves."""


async def sent_on(headers: Headers) -> Headers:
    """What of a client's headers the server gets."""
    seen: list[bytes] = []

    async def script(visit: Visit) -> None:
        seen.append((await visit.request())[0])
        await visit.answer(RESULT)

    async with scripted(script) as server, edge_to(server) as edge:
        await edge.run(edge.prepare(headers=headers))
    lines = [line.split(b": ", 1) for line in seen[0].split(b"\r\n")[1:] if line]
    return [(name, value) for name, value in lines if name not in OWN]


async def handed_back(headers: Headers) -> Headers:
    """What of a server's headers the client gets."""
    script = answering(RESULT, *[b"%b: %b" % each for each in headers])
    async with scripted(script) as server, edge_to(server) as edge:
        outcome = await edge.run()
    assert isinstance(outcome, Replied), outcome
    return [each for each in outcome.headers if each[0] not in OWN]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
async def test_what_concerns_one_hop_does_not_go_on(name: bytes) -> None:
    """Everything else does, in its order, duplicates included."""
    rest = [(b"mcp-session-id", b"s"), (b"x-a", b"1"), (b"cookie", b"c"), (b"x-a", b"2"), (b"te-x", b"3")]
    assert rest == await sent_on([*rest[:2], (name, b"x"), *rest[2:]])
    if name not in FRAMING:
        assert rest == await handed_back([(name, b"x"), *rest])


@pytest.mark.parametrize(
    ("connection", "kept"),
    [
        ([b"Keep-Alive"], [b"x-a", b"x-b"]),
        ([b"keep-alive, X-A"], [b"x-b"]),
        ([b"x-b ,,\tX-a"], []),
        ([b"x-a", b"x-b"], []),
        ([b""], [b"x-a", b"x-b"]),
        ([b"x"], [b"x-a", b"x-b"]),
    ],
)
async def test_what_connection_names_does_not_go_on(connection: list[bytes], kept: list[bytes]) -> None:
    """In any case, with any white space, in one line or several, before and behind it."""
    headers = [(b"x-a", b"1"), *((b"connection", value) for value in connection), (b"x-b", b"2")]
    assert kept == [name for name, _ in await sent_on(headers)]
    assert kept == [name for name, _ in await handed_back(headers)]


async def test_headers_of_the_protocol_go_on() -> None:
    """Losing one of these breaks a session, a sign-in or a resumption."""
    asked = (
        "accept authorization last-event-id mcp-method mcp-name mcp-param-x mcp-protocol-version mcp-session-id origin"
    )
    told = "cache-control mcp-session-id retry-after www-authenticate x-accel-buffering"
    for names, hand_on in ((asked, sent_on), (told, handed_back)):
        headers = [(name.encode(), b"x") for name in names.split()]
        assert headers == await hand_on(headers)
