"""However much the wire invents, the series stay few."""

import pytest

from support.watched import CHILD, Watch, answer, call_of, giving, tool_call, watching
from weir.core.events import Listed, ServerNotified
from weir.core.outcome import Replied, Verdict
from weir.protocol.envelope import peek
from weir.protocol.listing import LISTED_LIMIT
from weir.telemetry.labels import CODES_LIMIT, Labels
from weir.telemetry.series import CHILDREN_LIMIT, counter

pytestmark = pytest.mark.anyio

FLOOD = 10_000


async def lines(watch: Watch) -> int:
    """Lines of the exposition that are samples of weir's own families."""
    text = await watch.exposition()
    return len([line for line in text.splitlines() if line.startswith(("weir_", "mcp_"))])


async def test_ten_thousand_invented_tools_and_methods_make_no_more_series_than_one() -> None:
    """Names, methods, revisions and versions of HTTP: all become `_OTHER`."""
    async with watching(exporter="none") as watch:
        for number in range(2):
            await flood(watch, number)
        before = await lines(watch)
        for number in range(2, FLOOD):
            await flood(watch, number)
        assert before == await lines(watch)
        assert 2 * FLOOD == sum((await watch.samples("weir_requests_total")).values())


async def flood(watch: Watch, number: int) -> None:
    revision = f"2077-{number}"
    await watch.serve(call_of(tool_call(f"tool{number}"), revision=revision), answer)
    method = f'{{"jsonrpc":"2.0","id":1,"method":"x/{number}","params":{{"name":"n{number}"}}}}'.encode()
    await watch.serve(call_of(method, revision=revision), answer)
    told = peek(f'{{"jsonrpc":"2.0","method":"notifications/{number}"}}'.encode())
    watch.telemetry.emit(ServerNotified(call_of(b""), told))


async def test_invented_error_codes_are_bounded() -> None:
    """A server may answer with any number; the first few are labels."""
    async with watching(exporter="none") as watch:
        for number in range(5 * CODES_LIMIT):
            await watch.serve(call_of(tool_call()), giving(Replied(200, [], b"", Verdict(number))))
        found = await watch.samples("mcp_client_operation_duration_seconds_count")
        assert CODES_LIMIT + 1 == len(found)
        assert 5 * CODES_LIMIT == sum(found.values())


async def test_listed_tools_get_names_up_to_the_limit() -> None:
    """Of a server that lists ten thousand, the first five hundred; what is read and found no room is counted."""
    listed = ",".join(f'{{"name":"t{number}"}}' for number in range(FLOOD))
    body = f'{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{listed}]}}}}'.encode()
    async with watching(exporter="none") as watch:
        watch.telemetry.emit(Listed("search", "tools/list", body))
        for number in range(600):
            await watch.serve(call_of(tool_call(f"t{number}"), peer=CHILD), answer)
        names = {
            dict(labels)["gen_ai_tool_name"]
            for labels in await watch.samples("mcp_server_operation_duration_seconds_count")
        }
        assert {*(f"t{number}" for number in range(500)), "_OTHER"} == names
        assert LISTED_LIMIT - 500 == await watch.value("weir_label_values_refused_total")


async def test_a_list_reply_with_a_complete_body_is_learnt_from_by_itself() -> None:
    """Whoever sends it; the name of an earlier call stays `_OTHER`."""
    reply = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"add"}]}}'
    async with watching(exporter="none") as watch:
        await watch.serve(call_of(tool_call()), answer)
        await watch.serve(call_of(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'), giving(Replied(200, [], reply)))
        watch.telemetry.flush()
        await watch.serve(call_of(tool_call()), answer)
        for name in ("_OTHER", "add"):
            assert 1 == await watch.value("mcp_server_operation_duration_seconds_count", gen_ai_tool_name=name)


def test_names_are_known_for_their_own_upstream_and_kind_only() -> None:
    """A tool is no prompt, and another server's tool is unknown."""
    labels = Labels(10, {"files": {"read_file"}})
    labels.learn_from_reply("search", "prompts/list", b'{"result":{"prompts":[{"name":"greet"}]}}')
    assert "read_file" == labels.name("files", "tools/call", "read_file")
    assert "greet" == labels.name("search", "prompts/get", "greet")
    assert {"_OTHER"} == {
        labels.name("search", "tools/call", "read_file"),
        labels.name("search", "tools/call", "greet"),
        labels.name("files", "prompts/get", "greet"),
    }
    assert "" == labels.name("files", "resources/read", "read_file")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b'{"error":{"code":1}}',
        b'{"result":{"tools":7}}',
        b'{"result":{"tools":[{"name":7}]}}',
        b'{"result":{"tools":[{"name":""}]}}',
        b'{"result":{"tools":[{"name":"' + b"x" * 200 + b'"}]}}',
    ],
)
def test_a_list_reply_that_makes_no_sense_teaches_nothing(body: bytes) -> None:
    """Nor does a name that is too long for a label."""
    labels = Labels(10, {})
    labels.learn_from_reply("search", "tools/list", body)
    assert "_OTHER" == labels.name("search", "tools/call", "x" * 200)


def test_a_family_has_a_last_child_for_all_that_is_too_much() -> None:
    """Whatever bounds were forgotten elsewhere."""
    family = counter("weir_test", "A test.", "what")
    for number in range(CHILDREN_LIMIT + 100):
        family.child(str(number)).value += 1
    assert CHILDREN_LIMIT + 1 == len(family.children)
    assert 100 == family.child("_OTHER").value
