"""The load generator notices whatever is wrong with a reply."""

import asyncio
from typing import cast

import pytest
from bench.lines import BIG_TEXT, TEXT, call_result
from bench.load import FIRST_ID, Plan, Report, Wire, drive
from bench.origin import Origin, post_reply, sse_event

from support.limits import HANG_SECONDS

pytestmark = pytest.mark.anyio

NUMBER = FIRST_ID + 3
RIGHT = call_result(b"%d" % NUMBER)


@pytest.mark.parametrize(
    ("tool", "body"),
    [("echo", RIGHT), ("sse", sse_event(RIGHT)), ("big", call_result(b"%d" % NUMBER, big=True))],
)
def test_the_servers_own_bytes_are_right(tool: str, body: bytes) -> None:
    """Each tool's reply passes the exact check."""
    check = Wire(Plan(port=1, tool=tool), "").check()
    assert check(NUMBER, 200, body) == ""


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, RIGHT),
        (200, call_result(b"%d" % (NUMBER + 1))),
        (200, call_result(b'"%d"' % NUMBER)),
        (200, RIGHT.replace(b'":', b'": ')),
        (200, RIGHT + b"\n"),
        (200, b""),
    ],
)
def test_a_reply_that_differs_in_anything_is_wrong(status: int, body: bytes) -> None:
    """Status, id, the id's type, spacing, a byte too many, nothing at all."""
    assert Wire(Plan(port=1), "").check()(NUMBER, status, body) != ""


@pytest.mark.parametrize("body", [RIGHT.replace(b'":', b'": '), b": hi\n\nid: 4\ndata: \n\n" + sse_event(RIGHT)])
def test_a_proxy_that_types_anew_is_judged_by_meaning(body: bytes) -> None:
    """Spacing, comments and priming events are its own affair."""
    assert Wire(Plan(port=1, exact=False), "").check()(NUMBER, 200, body) == ""


@pytest.mark.parametrize(
    "body",
    [
        call_result(b"1"),
        RIGHT.replace(TEXT.encode(), b"something else"),
        RIGHT.replace(TEXT.encode(), BIG_TEXT[:10].encode()),
        b'{"id":%d,"error":{}}' % NUMBER,
        b"<html>",
        b"{}",
    ],
)
def test_another_meaning_is_wrong(body: bytes) -> None:
    """Another's reply, another text, an error, nonsense."""
    assert Wire(Plan(port=1, exact=False), "").check()(NUMBER, 200, body) != ""


class Forger(Origin):
    """Answers the third request of a connection under a wrong id, and hangs up at the fifth."""

    seen = 0

    def _serve(self, request: bytes, body_at: int) -> None:
        self.seen += 1
        transport = cast("asyncio.Transport", self._transport)
        if self.seen == 5:
            transport.close()
        else:
            body = request[body_at:]
            transport.write(post_reply(body.replace(b'"id":1', b'"id":9') if self.seen == 3 else body))


async def loaded(server: type[asyncio.Protocol], calls: int) -> Report:
    """The report of a run over one connection."""
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    async with listener, asyncio.timeout(HANG_SECONDS):
        port = int(listener.sockets[0].getsockname()[1])
        plan = Plan(port=port, connections=1, calls=calls, warm_up_calls=0)
        return await drive(plan, lambda: None, session="s")


async def test_a_right_server_gives_no_fault() -> None:
    """Every call is made, counted and timed."""
    report = await loaded(Origin, 50)
    assert (50, 0) == (report.calls, report.faults)
    assert 0 < report.p50 <= report.p95 <= report.p99


async def test_a_forged_id_and_a_hang_up_are_faults() -> None:
    """Both are counted and the first is told in words."""
    report = await loaded(Forger, 50)
    assert 2 == report.faults
    assert "900000000" in report.first_faults[0] or "9000000003" in report.first_faults[0]
    assert "closed" in report.first_faults[1]
