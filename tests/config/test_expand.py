"""Variables in values."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.config.expand import Sources, expand
from weir.config.reading import parse

ENVIRON = {"A": "apple", "EMPTY": "", "NESTED": "${A}", "_1": "one"}


def expanded(text: str) -> object:
    return expand(parse(f"v: '{text}'", "f"), Sources(ENVIRON)).document.value


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
    result = expand(parse("a:\n  - b: x${NOPE}\n", "weir.yaml"), Sources(ENVIRON))
    expected = "weir.yaml:2: a[0].b: the variable NOPE is not set; set it, or write '${NOPE:-default}'"
    assert [expected] == [str(problem) for problem in result.document.problems]
    assert {("a", 0, "b")} == result.failed


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${A-x}", "${a.b}", "${1A}"])
def test_what_is_no_variable_is_a_problem_with_the_mend(text: str) -> None:
    """Silence would send it upstream as it stands."""
    problems = expand(parse(f"v: '{text}'", "f"), Sources(ENVIRON)).document.problems
    assert "'$${' for a literal '${'" in str(problems[0])


def test_keys_are_left_alone() -> None:
    """Only values expand."""
    assert {"${A}": 1} == expand(parse("'${A}': 1", "f"), Sources(ENVIRON)).document.value


@given(st.text(st.characters(exclude_characters="$", exclude_categories=["Cs", "Cc"]), max_size=20))
def test_the_value_of_a_variable_goes_in_unchanged(value: str) -> None:
    """Whatever it holds."""
    result = expand(parse("v: 'a${X}b'", "f"), Sources({"X": value}))
    assert {"v": f"a{value}b"} == result.document.value


def of_file(folder: Path, content: bytes | None, reference: str = "${file:key}") -> str | list[str]:
    """A value that refers to a file of this content, or what is wrong with it."""
    if content is not None:
        (folder / "key").write_bytes(content)
    result = expand(parse(f"v: '{reference}'", "f"), Sources({}, str(folder)))
    if result.document.problems:
        return [problem.text for problem in result.document.problems]
    assert isinstance(result.document.value, dict)
    return str(result.document.value["v"])


@pytest.mark.parametrize(
    ("expected", "content", "reference"),
    [
        pytest.param("s3cret", b"s3cret\n", "${file:key}", id="line-break"),
        pytest.param("s3cret", b"\xef\xbb\xbfs3cret\r\n", "${file:key}", id="windows"),
        pytest.param("a\n", b"a\n\n", "${file:key}", id="only-the-last"),
        pytest.param("Bearer x-${Y}", b"${Y}", "Bearer x-${file:key}", id="not-expanded-again"),
        pytest.param("", b"", "${file:key}", id="empty"),
        pytest.param("d", b"\n", "${file:key:-d}", id="empty-with-default"),
        pytest.param("d:-e", None, "${file:nope:-d:-e}", id="missing-with-default"),
    ],
)
def test_a_file_stands_for_its_text(tmp_path: Path, expected: str, content: bytes | None, reference: str) -> None:
    """Without its final line break; a default holds as for a variable."""
    assert expected == of_file(tmp_path, content, reference)


@pytest.mark.parametrize(
    ("expected", "content", "reference"),
    [
        pytest.param(
            "the file 'nope' cannot be read: No such file or directory; make it, or write '${file:nope:-default}'",
            None,
            "${file:nope}",
            id="missing",
        ),
        pytest.param("the file 'key' is larger than 64 KiB", b"a" * 65_537, "${file:key}", id="large"),
        pytest.param(
            "the file 'key' is not UTF-8 text; save it as UTF-8", b"\xff", "${file:key:-default}", id="not-utf-8"
        ),
        pytest.param(
            "the file 'key' holds a NUL character; save it as UTF-8 text", b"a\0b", "${file:key}", id="utf-16"
        ),
        pytest.param(
            "the file '.' is a directory, not a file; name a file that holds the text", None, "${file:.}", id="folder"
        ),
        pytest.param(
            "the file '/dev/zero' is a device, not a file; name a file that holds the text",
            None,
            "${file:/dev/zero}",
            id="device",
        ),
        pytest.param(
            "'${file:PATH}' needs a path, and nothing expands within it; write the whole path",
            None,
            "${file:${HOME}/x}",
            id="nested",
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, expected: str, content: bytes | None, reference: str
) -> None:
    """The text names the file and the mend, and holds nothing of its content."""
    assert [expected] == of_file(tmp_path, content, reference)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Opening it would wait for a writer that may never come."""
    os.mkfifo(tmp_path / "key")
    assert ["the file 'key' is a pipe, not a file; name a file that holds the text"] == of_file(tmp_path, None)
