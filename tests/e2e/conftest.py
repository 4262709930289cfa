"""What tests of the whole share."""

from collections.abc import AsyncIterator

import pytest

from support.rawhttp import ScriptedServer


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """The upstream."""
    async with ScriptedServer() as one:
        yield one
