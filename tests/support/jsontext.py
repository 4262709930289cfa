"""JSON as text: hostile messages to draw, and a reader of its own that keeps everything a text says.

The messages are put together from raw pieces, so that they hold what no encoder would write: duplicate
keys, names spelled with escapes, odd white space, every spelling of a number, names quoted in strings.
"""

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from weir.protocol.methods import WELL_KNOWN_METHODS

NAMES = ("id", "method", "params", "_meta", "traceparent", "tracestate", "baggage", "progressToken", "name", "uri")
NUMBERS = ("0", "-0", "7", "1.0", "1152921504606846976", "1e400", "-1E+2", "0.10", "123456789012345678901234567890")
STRINGS = (
    '""',
    '"7"',
    '"traceparent"',
    '"_meta"',
    '"params"',
    '"id"',
    r'"say \"params\":{\"_meta\":{\"traceparent\":\"x\"}}"',
    r'"\",\"id\":9,\""',
    r'"ends in \"params"',
    r'"a\\"',
    r'"\\\" : {"',
    r'"\u0074raceparent"',
    r'"\u00e9\/\n"',
    r'"\ud83d\ude00"',
    '"é 🌊 \u2028"',
)


class Object(NamedTuple):
    """A JSON object with its members in order, duplicates included."""

    members: tuple[tuple[str, Any], ...]

    def values(self, key: str) -> list[Any]:
        """Every value that stands under `key`."""
        return [value for name, value in self.members if name == key]

    def get(self, key: str) -> Any:
        """The value that most readers take: the last."""
        found = self.values(key)
        return found[-1] if found else None

    def put(self, key: str, value: Any) -> "Object":
        """The only member `key` replaced, or a new one in front."""
        if not self.values(key):
            return Object(((key, value), *self.members))
        return Object(tuple((name, value if name == key else old) for name, old in self.members))


class Number(NamedTuple):
    """A number as it is spelled."""

    text: str


def short(text: bytes | str) -> str:
    """The beginning of a text, to name a test by. Of backslashes pytest makes more each time that it collects."""
    return repr(text[:40]).replace("\\", "/")


def read(text: bytes) -> Any:
    """What a JSON text says, with nothing lost but white space and the spelling of strings."""
    return json.loads(
        text.decode(),
        object_pairs_hook=lambda pairs: Object(tuple(pairs)),
        parse_int=Number,
        parse_float=Number,
    )


RARELY = st.integers(0, 19).map(lambda number: number == 7)
"""True now and then: an oddity in every message would leave none of the plain ones."""


@st.composite
def _escaped(draw: st.DrawFn, name: str) -> str:
    """A name as JSON text, now and then with one letter spelled as an escape."""
    if not draw(RARELY):
        return f'"{name}"'
    at = draw(st.integers(0, len(name) - 1))
    return f'"{name[:at]}\\u{ord(name[at]):04x}{name[at + 1 :]}"'


def _object(pairs: list[tuple[str, str]], spaces: list[str]) -> str:
    """`pairs` as an object, with the given pieces of white space between the tokens, over and over."""
    between = (spaces[at % len(spaces)] for at in range(10**9))
    written = [f"{next(between)}{key}{next(between)}:{next(between)}{value}{next(between)}" for key, value in pairs]
    return "{" + (",".join(written) or next(between)) + "}"


_spaces = st.one_of(
    st.just([""]), st.lists(st.sampled_from(["", "", " ", "\r\n", "\t ", "\n"]), min_size=1, max_size=5)
)
_keys = st.one_of(st.sampled_from(NAMES).flatmap(_escaped), st.text(max_size=4).map(json.dumps), st.just(r'"a\/\"b"'))
_scalars = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(("true", "false", "null")),
    st.sampled_from(STRINGS),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=6).map(json.dumps),
)


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(_object, st.lists(st.tuples(_keys, values), max_size=4), _spaces)


json_texts = st.recursive(
    _scalars, lambda inner: st.one_of(_objects(inner), st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]"))
)
"""Any JSON value, as text."""


@st.composite
def _holding(draw: st.DrawFn, known: dict[str, st.SearchStrategy[str]], spares: int) -> str:
    """An object with some of the known members and a few others, in any order, at times with duplicates."""
    pairs = [(draw(_escaped(key)), draw(values)) for key, values in known.items() if not draw(RARELY)]
    pairs += draw(st.lists(st.tuples(_keys, json_texts), max_size=spares))
    has_twins: bool = draw(RARELY)
    if pairs and has_twins:
        pairs.append(draw(st.sampled_from(pairs)))
    ordered: list[tuple[str, str]] = draw(st.permutations(pairs))
    return _object(ordered, draw(_spaces))


_ids = st.one_of(st.sampled_from(("7", '"7"', "null", "1.5", "1152921504606846976")), json_texts)
_methods = st.one_of(st.sampled_from(sorted(WELL_KNOWN_METHODS)), st.text(max_size=8)).map(json.dumps)
_contexts = st.one_of(st.sampled_from(STRINGS), st.just('"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"'))
_metas = _holding(
    {key: st.one_of(_contexts, _scalars) for key in ("traceparent", "tracestate", "baggage", "progressToken")}, 1
)
_bare_metas = _holding({"progressToken": _scalars}, 1)
_params = _holding(
    {"_meta": st.one_of(_metas, _metas, _bare_metas, json_texts), "name": json_texts, "arguments": json_texts}, 1
)


def _spoken(method: st.SearchStrategy[str], rest: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[bytes]:
    known = {"jsonrpc": st.just('"2.0"'), "id": _ids, "method": method, **rest}
    return _holding(known, 1).map(str.encode)


requests = _spoken(_methods, {"params": st.one_of(_params, _params, _params, json_texts)})
"""Requests and notifications, nearly always: of every revision's methods and of invented ones."""

results = st.one_of(
    _spoken(json_texts, {"result": json_texts, "error": json_texts}),
    _holding({"id": _ids, "result": json_texts}, 0).map(str.encode),
)
"""Responses, mostly."""

messages = st.one_of(requests, requests, results, json_texts.map(str.encode))
"""Any JSON text that may be sent for a message."""
