"""Variables in values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.config.expand import expand
from weir.config.reading import parse

ENVIRON = {"A": "apple", "EMPTY": "", "NESTED": "${A}", "_1": "one"}


def expanded(text: str) -> object:
    return expand(parse(f"v: '{text}'", "f"), ENVIRON).document.value


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("apple", "${A}"),
        ("apple", "${env:A}"),
        ("x-apple-one", "x-${A}-${_1}"),
        ("none", "${B:-none}"),
        ("", "${B:-}"),
        ("none", "${EMPTY:-none}"),
        ("", "${EMPTY}"),
        ("apple", "${A:-none}"),
        ("${A}", "${NESTED}"),
        ("${A}", "$${A}"),
        ("pa$$word $A $", "pa$$word $A $"),
        ("a:-b", "${B:-a:-b}"),
    ],
)
def test_variables_expand_once_and_only_in_braces(expected: str, text: str) -> None:
    """A default holds for unset and empty; `$${` is a literal `${`; any other dollar is itself."""
    assert {"v": expected} == expanded(text)


def test_an_unset_variable_names_line_path_variable_and_mend() -> None:
    """And the value is not believed."""
    result = expand(parse("a:\n  - b: x${NOPE}\n", "weir.yaml"), ENVIRON)
    expected = "weir.yaml:2: a[0].b: the variable NOPE is not set; set it, or write '${NOPE:-default}'"
    assert [expected] == [str(problem) for problem in result.document.problems]
    assert {("a", 0, "b")} == result.failed


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${A-x}", "${a.b}", "${1A}"])
def test_what_is_no_variable_is_a_problem_with_the_mend(text: str) -> None:
    """Silence would send it upstream as it stands."""
    problems = expand(parse(f"v: '{text}'", "f"), ENVIRON).document.problems
    assert "'$${' for a literal '${'" in str(problems[0])


def test_keys_are_left_alone() -> None:
    """Only values expand."""
    assert {"${A}": 1} == expand(parse("'${A}': 1", "f"), ENVIRON).document.value


@given(st.text(st.characters(exclude_characters="$", exclude_categories=["Cs", "Cc"]), max_size=20))
def test_the_value_of_a_variable_goes_in_unchanged(value: str) -> None:
    """Whatever it holds."""
    result = expand(parse("v: 'a${X}b'", "f"), {"X": value})
    assert {"v": f"a{value}b"} == result.document.value
