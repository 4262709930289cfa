"""How exchanges through weir may differ from direct ones, and how the differences of two recordings are found.

What differs between two direct runs (session ids, dates) is not compared. Everything else is, and `ALLOWED` is all that
may differ. A new entry needs a page in docs/decisions that says why weir does it.
"""

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import zip_longest

from transparency.tap import Message, Pair

_PAGE = "0014-what-differs-through-weir.md"


@dataclass(frozen=True)
class Allowed:
    """Why a difference is meant, and the page of docs/decisions that says more."""

    reason: str
    page: str
    is_seldom: bool = False
    """It depends on how the kernel cuts a stream; a run may be without it."""


_PLACES = "0015-places-of-the-server-become-weirs.md"
_PLACE = "an address of the server, which a client that follows it would reach past weir"
_ONE_HOP = "a header of one hop ends there (RFC 9110, 7.6.1)"
ALLOWED: dict[str, Allowed] = {
    "request: host is changed": Allowed("it names the server that weir dialled", _PAGE),
    "request: accept-encoding is added": Allowed("identity, so that the reply can be judged", _PAGE),
    "request: accept-encoding is changed": Allowed("identity, so that the reply can be judged", _PAGE),
    "request: case of header names": Allowed("names are case-insensitive (RFC 9110, 5.1)", _PAGE),
    "request: order of headers": Allowed("the order of different names means nothing (RFC 9110, 5.3)", _PAGE),
    "request: connection is removed": Allowed(_ONE_HOP, _PAGE),
    "request: keep-alive is removed": Allowed(_ONE_HOP, _PAGE),
    "request: proxy-connection is removed": Allowed(_ONE_HOP, _PAGE),
    "request: te is removed": Allowed(_ONE_HOP, _PAGE),
    "request: x-mine is removed": Allowed("the request's Connection names it, so it is of one hop", _PAGE),
    "reply: reason phrase": Allowed("the reason phrase is the standard one (RFC 9112, 4)", _PAGE),
    "reply: case of header names": Allowed("names are case-insensitive (RFC 9110, 5.1)", _PAGE),
    "reply: connection is removed": Allowed(_ONE_HOP, _PAGE),
    "reply: keep-alive is removed": Allowed(_ONE_HOP, _PAGE),
    "reply: x-theirs is removed": Allowed("the reply's Connection names it, so it is of one hop", _PAGE),
    "reply: location is changed": Allowed(_PLACE, _PLACES),
    "reply: content-location is changed": Allowed(_PLACE, _PLACES),
    "reply: sizes of chunks": Allowed("they mean nothing (RFC 9112, 7.1)", _PAGE, is_seldom=True),
}

_RECENT_SECONDS = 3600
_TOKEN = re.compile(rb"([A-Za-z0-9_]+)")
_METHOD = re.compile(rb'"method":\s*"([^"]*)"')
_ID = re.compile(rb'"id":\s*("[^"]*"|[^,}\s]+)')


def differences(direct: Sequence[Pair], again: Sequence[Pair], through: Sequence[Pair]) -> Iterator[tuple[str, str]]:
    """Yields the name of each difference between direct and through weir, with its place.

    `direct` and `again` are two direct runs: they say what is not compared.
    """
    first, second, third = _by_key(direct), _by_key(again), _by_key(through)
    for key in sorted({*first, *third}):
        for one, other, weirs in zip_longest(first.get(key, []), second.get(key, []), third.get(key, [])):
            if one is None or weirs is None:
                yield "number of exchanges", repr(key)
            else:
                for side in ("request", "reply"):
                    for name, detail in _of_message(*(getattr(pair, side, None) for pair in (one, other, weirs))):
                        yield f"{side}: {name}", f"{key}: {detail[:200]}"


def _by_key(pairs: Sequence[Pair]) -> dict[tuple[bytes, ...], list[Pair]]:
    """Exchanges by what is asked: those of several connections come in no certain order."""
    found: defaultdict[tuple[bytes, ...], list[Pair]] = defaultdict(list)
    for pair in pairs:
        body = pair.request.body[:4096]
        named = tuple(match[1] if match else b"" for match in (_METHOD.search(body), _ID.search(body)))
        found[pair.request.line.split(b" ")[0], *named].append(pair)
    return found


def _of_message(one: Message | None, other: Message | None, weirs: Message | None) -> Iterator[tuple[str, str]]:
    if one is None or weirs is None:
        if one is not weirs:
            yield "missing", "only direct" if weirs is None else "only through weir"
        return
    if not _same(one.line, other.line if other else None, weirs.line):
        is_phrase = one.line.split(b" ")[:2] == weirs.line.split(b" ")[:2] and one.line.startswith(b"HTTP/")
        yield "reason phrase" if is_phrase else "first line", f"{one.line!r} {weirs.line!r}"
    yield from _of_headers(one, other, weirs)
    if not _same(one.body, other.body if other else None, weirs.body):
        yield "body", f"{one.body!r} {weirs.body!r}"
    if one.chunks and weirs.chunks and one.chunks != weirs.chunks:
        yield "sizes of chunks", f"{one.chunks} {weirs.chunks}"


def _of_headers(one: Message, other: Message | None, weirs: Message) -> Iterator[tuple[str, str]]:
    ours, theirs = [name for name, _ in one.headers], [name for name, _ in weirs.headers]
    common = {name.lower() for name in ours} & {name.lower() for name in theirs}
    kept, found = ([name for name in names if name.lower() in common] for names in (ours, theirs))
    if [name.lower() for name in kept] != [name.lower() for name in found]:
        yield "order of headers", f"{kept} {found}"
    if set(kept) != set(found):
        yield "case of header names", f"{set(kept) - set(found)} {set(found) - set(kept)}"
    for name in sorted({name.lower() for name in (*ours, *theirs)}):
        before, after = b"\n".join(one.values(name)), b"\n".join(weirs.values(name))
        if not one.values(name):
            yield f"{name.decode()} is added", repr(after)
        elif not weirs.values(name):
            yield f"{name.decode()} is removed", repr(before)
        elif name == b"date" and _is_now(before) and _is_now(after):
            continue  # it differs between two direct runs as soon as they are in different seconds
        elif not _same(before, b"\n".join(other.values(name)) if other else None, after):
            yield f"{name.decode()} is changed", f"{before!r} {after!r}"


def _is_now(date: bytes) -> bool:
    """Whether a server has just written this date; others are text like any."""
    return abs(parsedate_to_datetime(date.decode()).timestamp() - time.time()) < _RECENT_SECONDS


def _same(one: bytes, other: bytes | None, weirs: bytes) -> bool:
    """Whether weir's bytes are the direct ones, but for words that differ between two direct runs."""
    if one == weirs:
        return True
    if other is None or one == other:
        return False
    ones, others, through = (_TOKEN.split(text) for text in (one, other, weirs))
    if len(ones) != len(others):
        return True  # two direct runs do not even have the same number of words: random text, a client that left
    if len(ones) != len(through):
        return False
    return all(a == c or a != b for a, b, c in zip(ones, others, through, strict=True))
