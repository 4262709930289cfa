"""Files of variables, read as the tools that write them read them."""

import pytest

from weir.config import env_file
from weir.config.files import FileError


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        pytest.param({"A": "1"}, "A=1\n", id="plain"),
        pytest.param({"A": "1"}, "A=1", id="no-line-break"),
        pytest.param({"A": "1", "B": "2"}, "A=1\r\nB=2\r\n", id="windows"),
        pytest.param({"A": "two"}, "export A=two\n", id="export"),
        pytest.param({"A": "a"}, 'A="a" # comment\n', id="comment-behind-quotes"),
        pytest.param({"A": "a"}, "A=a # comment\n", id="comment"),
        pytest.param({"A": "a#b"}, "A=a#b\n", id="hash"),
        pytest.param({"A": ""}, "A=\n", id="empty"),
        pytest.param({"A": "one\ntwo", "B": "3"}, 'A="one\ntwo"\nB=3\n', id="several-lines"),
        pytest.param({"A": "one\ntwo"}, 'A="one\\ntwo"\n', id="escape"),
        pytest.param({"A": "one\\ntwo"}, "A='one\\ntwo'\n", id="single-quotes"),
        pytest.param({"A": "x=y=z"}, "A=x=y=z\n", id="equals"),
        pytest.param({"A": "a\u2028B=2", "C": "3"}, "A=a\u2028B=2\nC=3\n", id="line-separator"),
        pytest.param({"A": "a\x0bB=2\x85C=3"}, "A=a\x0bB=2\x85C=3\n", id="other-separators"),
        pytest.param({"A": "${B}", "B": "2"}, "A=${B}\nB=2\n", id="reference"),
        pytest.param({"A": "2"}, "A=1\nA=2\n", id="twice"),
        pytest.param({"A": "1"}, " A = 1 \n#B=2\n", id="blanks"),
        pytest.param({}, "", id="nothing"),
    ],
)
def test_variables_are_read_as_python_dotenv_reads_them(expected: dict[str, str], text: str) -> None:
    """References stay literal, as in the editors that have envFile."""
    found = env_file.parse(text)
    assert (expected, ()) == (found.variables, found.skipped_lines)


def test_lines_that_set_nothing_are_told_by_number() -> None:
    """Blank lines before them do not move the number."""
    found = env_file.parse("A=1\n\n\nnonsense\nB 2\nC=3\n\n=x\n")
    assert ({"A": "1", "C": "3"}, (4, 5, 8)) == (found.variables, found.skipped_lines)


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        pytest.param("holds a NUL character; save it as UTF-8 text", "A=x\0y\n", id="nul"),
        pytest.param("has more than 256 blanks in a row", "A=x" + " " * 1000 + "y\n", id="blanks"),
    ],
)
def test_what_cannot_be_a_list_of_variables_is_an_error(reason: str, text: str) -> None:
    """Without anything of the file."""
    with pytest.raises(FileError, match=reason):
        env_file.parse(text)
