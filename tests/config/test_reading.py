"""Files as trees that know where everything stands."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.config.problems import ConfigError
from weir.config.reading import parse


def test_only_true_and_false_are_booleans() -> None:
    """YAML 1.2: `off`, `no` and `on` are words."""
    text = "a: off\nb: no\nc: true\nd: False\ne: ~\nf:\ng: on"
    expected = {"a": "off", "b": "no", "c": True, "d": False, "e": None, "f": None, "g": "on"}
    assert expected == parse(text, "f").value


def test_a_number_that_would_change_stays_text() -> None:
    """Ids with leading zeros, times, dates, exponents and versions keep their characters."""
    text = "[7, -3, 1.5, 012, 1e3, 0x1F, 1_000, 12:30, 2026-01-01, 99999999999999999999]"
    expected = [7, -3, 1.5, "012", "1e3", "0x1F", "1_000", "12:30", "2026-01-01", "99999999999999999999"]
    assert expected == parse(text, "f").value


def test_every_value_knows_its_line() -> None:
    """Members of mappings by their key, entries of lists by themselves."""
    document = parse("a:\n  b:\n    - x\n    - {c: 1}\n", "weir.yaml")
    assert "weir.yaml:2" == str(document.place(("a", "b")))
    assert "weir.yaml:4" == str(document.place(("a", "b", 1, "c")))
    assert "weir.yaml:2" == str(document.place(("a", "b", "missing")))


def test_a_key_that_is_there_twice_is_a_problem_that_names_both_lines() -> None:
    """Other readers silently take the last."""
    document = parse("a: 1\nb: 2\na: 3\n", "weir.yaml")
    assert ["weir.yaml:3: a: is there twice, first in line 1; keep one"] == [str(one) for one in document.problems]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("f:3:1", "a: [1,\nb"),
        ("f:2:1", "a: {b: c"),
        ("f:2:3", "a: b\n c: d\n"),
        ("f:2:1", "a: 1\n---\nb: 2\n"),
        ("f:1:4", "a: *x\n"),
        ("f:1:1", "[1]: 2\n"),
    ],
)
def test_what_is_no_yaml_is_an_error_with_line_and_column(place: str, text: str) -> None:
    """The parser's own reason is told."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert place == str(caught.value.problems[0].place)


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("f:2:8", '{\n  "a": ]\n}'),
        ("f:1:8", '{"a" : '),
        ("f:1:2", "{a: 1}"),
        ("f:1:6", '{"a" 1}'),
        ("f:1:9", '{"a": 1 "b": 2}'),
        ("f:1:7", '{"a": 01}'),
        ("f:1:10", '{"a": 1} x'),
        ("f:1:7", '{"a": "x'),
        ("f:1:1", "/* no end"),
    ],
)
def test_what_is_no_json_is_an_error_with_line_and_column(place: str, text: str) -> None:
    """Told as JSON, because braces say that JSON was meant."""
    with pytest.raises(ConfigError, match="not valid JSON") as caught:
        parse(text, "f")
    assert place == str(caught.value.problems[0].place)


def test_json_may_have_comments_trailing_commas_and_tabs() -> None:
    """As editors write it; what looks like a comment within a string is none."""
    text = '// top\n{\n\t"a": "http://x", /* b\n */ "b": [1, 2, ], // c\n\t"c": "/* no */ ,]",\n}\n'
    document = parse(text, "f")
    assert {"a": "http://x", "b": [1, 2], "c": "/* no */ ,]"} == document.value
    assert "f:5" == str(document.place(("c",)))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(st.characters(codec="utf-8"), max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), _json, max_size=4), st.booleans())
def test_any_json_reads_as_json_does(value: dict[str, object], as_ascii: bool) -> None:
    """Escapes, emoji and control characters included."""
    assert value == parse(json.dumps(value, ensure_ascii=as_ascii), "f").value


@given(st.text(max_size=60))
def test_any_text_is_a_tree_or_a_configuration_error(text: str) -> None:
    """Never another exception."""
    with suppress(ConfigError):
        parse(text, "f")


def test_aliases_are_values_and_never_endless() -> None:
    """An alias that holds itself ends at a bound, and so do aliases of aliases."""
    assert {"a": [1], "b": [1]} == parse("a: &x [1]\nb: *x\n", "f").value
    bomb = "\n".join([f"a0: &a0 [{'1,' * 30}]", *(f"a{n}: &a{n} [{f'*a{n - 1},' * 30}]" for n in range(1, 8))])
    for endless in ("a: &x [*x]\n", bomb):
        with pytest.raises(ConfigError, match=r"no configuration|what holds it"):
            parse(endless, "f")


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, '{"a":' + "[" * 100_000, "- " * 5_000 + "a"])
def test_deep_nesting_is_an_error_and_no_crash(text: str) -> None:
    """A parser's stack is not the bound."""
    with pytest.raises(ConfigError):
        parse(text, "f")


def test_an_unknown_tag_is_an_error() -> None:
    """Nothing is constructed that a configuration does not hold."""
    with pytest.raises(ConfigError, match=r"f:1:4: the tag .*os.system has no meaning here"):
        parse("a: !!python/name:os.system x", "f")


def test_tags_of_text_and_quotes_make_text() -> None:
    """As YAML says."""
    assert {"a": "1", "b": "1", "c": "true", "d": 1} == parse("a: !!str 1\nb: '1'\nc: \"true\"\nd: !!int 1", "f").value


def test_an_empty_file_is_an_empty_mapping() -> None:
    """What is missing in it is told by the model."""
    assert {} == parse("# nothing\n", "f").value
