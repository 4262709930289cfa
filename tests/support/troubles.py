"""What an HTTP upstream can do to a request, in words for scenarios."""

import random
from collections.abc import Awaitable, Callable

from support.chaos import Asked, honest

Act = Callable[[Asked], Awaitable[None]]


def sometimes(share: float, *troubles: Act, well: Act = honest) -> Act:
    """One of the troubles in such a share of calls; the others go well."""
    draw = random.Random(3)

    async def act(asked: Asked) -> None:
        await (draw.choice(troubles) if draw.random() < share else well)(asked)

    return act


async def unavailable(asked: Asked) -> None:
    """503 with nothing in it."""
    await asked.exchange.reply(503)


async def reset(asked: Asked) -> None:
    """The connection breaks where the answer should come."""
    asked.exchange.abort()


async def reset_in_stream(asked: Asked) -> None:
    """The connection breaks after the head of a stream and a notification."""
    await asked.exchange.open()
    await asked.exchange.write(b"data: " + NOTE + b"\n\n")
    asked.exchange.abort()


async def stall(asked: Asked) -> None:
    """Nothing, until the caller goes away."""
    await asked.exchange.gone()


async def stall_in_stream(asked: Asked) -> None:
    """The head of a stream, then nothing."""
    await asked.exchange.open()
    await asked.exchange.gone()


NOTE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}' % (b"x" * 200)


async def flood(asked: Asked) -> None:
    """A thousand notifications before the answer."""
    await asked.say(*[NOTE] * 1000, asked.answer())


async def deluge(asked: Asked) -> None:
    """An answer of 3 MiB."""
    await asked.exchange.json(asked.answer("x" * (3 << 20)))


async def deluge_in_stream(asked: Asked) -> None:
    """An answer of 3 MiB as one event."""
    await asked.say(asked.answer("x" * (3 << 20)))


async def foreign(asked: Asked) -> None:
    """The answer to a call that nobody made."""
    await asked.exchange.json(asked.answer(id=10**9))


async def foreign_in_stream(asked: Asked) -> None:
    """Somebody else's answer, and no other."""
    await asked.say(asked.answer(id="nobody's"))


async def foreign_first(asked: Asked) -> None:
    """Somebody else's answer before the right one."""
    await asked.say(asked.answer(id="nobody's"), asked.answer())


async def garbage(asked: Asked) -> None:
    """Bytes that are no JSON."""
    await asked.exchange.json(b"\x00\xff{]" * 20)


async def page(asked: Asked) -> None:
    """A web page where the answer should be."""
    await asked.exchange.reply(200, [(b"content-type", b"text/html")], b"<html>Welcome</html>")


async def garbage_in_stream(asked: Asked) -> None:
    """Events that are no JSON, and an end."""
    await asked.say(b"\xff\xfe not json", b"{]")


async def short(asked: Asked) -> None:
    """Less than the length that was promised."""
    await asked.exchange.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n{")
    asked.exchange.abort()


async def no_http(asked: Asked) -> None:
    """Bytes that are no HTTP."""
    await asked.exchange.raw(b"\x16\x03\x01 hello\r\n\r\n")
    asked.exchange.abort()
