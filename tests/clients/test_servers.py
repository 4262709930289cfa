"""Servers that others wrote say through weir, over every pairing they allow, what they say alone."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from clients.others import Other, everything, filesystem, git, memory, time
from clients.programs import HERE
from clients.sdk_client import elicited, outcome, sampled
from support.installs import require_installed
from support.processes import free_port, running
from support.weirs import Config, command, weir_http, weir_stdio_argv

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.node]

Where = str | StdioServerParameters


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    require_installed(HERE / "setup.sh")


def build(name: str, directory: Path) -> Other:
    """A server with files of its own."""
    directory.mkdir()
    makers: dict[str, Callable[[], Other]] = {
        "everything": everything,
        "filesystem": lambda: filesystem(directory),
        "memory": lambda: memory(directory),
        "time": time,
        "git": lambda: git(directory),
    }
    return makers[name]()


async def say(other: Other, where: Where) -> list[Any]:
    """Everything the server answers, in order, and how far each call's progress went."""
    steps: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with Client(where, mode="legacy", elicitation_callback=elicited, sampling_callback=sampled) as client:
        said: list[Any] = [client.server_info, await outcome(client.list_tools())]
        said += [
            await outcome(client.call_tool(name, given, progress_callback=progressed)) for name, given in other.calls
        ]
        if other.resources:
            said += [await outcome(client.list_resources()), await outcome(client.list_resource_templates())]
            said += [await outcome(client.read_resource(uri)) for uri in other.resources]
        if other.prompts:
            said += [await outcome(client.list_prompts())]
            said += [await outcome(client.get_prompt(name, given)) for name, given in other.prompts]
    return [*said, steps]


def on_stdio(argv: Sequence[str | Path], env: dict[str, str]) -> StdioServerParameters:
    """A program to start."""
    program, *args = map(str, argv)
    return StdioServerParameters(command=program, args=args, env={**os.environ, **env})


def upstream(other: Other) -> Config:
    """The same program as weir's child."""
    return {**command(other.command), **({"env": other.env} if other.env else {})}


@pytest.mark.parametrize("is_client_on_stdio", [False, True], ids=["http-to-stdio", "stdio-to-stdio"])
@pytest.mark.parametrize("name", ["everything", "filesystem", "memory", "time", "git"])
async def test_a_stdio_server_says_through_weir_what_it_says_alone(
    tmp_path: Path, name: str, is_client_on_stdio: bool
) -> None:
    """Twice the same questions, on files in the same state."""
    alone = build(name, tmp_path / "server")
    expected = await say(alone, on_stdio(alone.command, alone.env))
    assert alone.expects in str(expected)
    (tmp_path / "server").rename(tmp_path / "before")
    behind = build(name, tmp_path / "server")
    if is_client_on_stdio:
        got = await say(behind, on_stdio(weir_stdio_argv(tmp_path, upstream(behind)), {}))
    else:
        with weir_http(tmp_path, upstream(behind)) as weir:
            got = await say(behind, f"http://127.0.0.1:{weir.port}/mcp")
    assert expected == got


@contextmanager
def everything_over_http() -> Iterator[str]:
    """server-everything on Streamable HTTP; gives its URL."""
    port = free_port()
    with running([*everything().command, "streamableHttp"], port=port, env={"PORT": str(port)}):
        yield f"http://127.0.0.1:{port}/mcp"


@pytest.mark.parametrize("is_client_on_stdio", [False, True], ids=["http-to-http", "stdio-to-http"])
async def test_server_everything_over_http_says_through_weir_what_it_says_alone(
    tmp_path: Path, is_client_on_stdio: bool
) -> None:
    """The TypeScript SDK's transport: event ids, priming, resumption of its own."""
    with everything_over_http() as url:
        expected = await say(everything(), url)
        if is_client_on_stdio:
            got = await say(everything(), on_stdio(weir_stdio_argv(tmp_path, {"url": url}), {}))
        else:
            with weir_http(tmp_path, {"url": url}) as weir:
                got = await say(everything(), f"http://127.0.0.1:{weir.port}/mcp")
    assert everything().expects in str(expected)
    assert expected == got
