"""What is never written down."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.telemetry import redact


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("https://user:pass@host.example:8443/mcp?key=S#frag", "https://host.example:8443/mcp"),
        ("https://token@host/mcp", "https://host/mcp"),
        ("https://host/mcp", "https://host/mcp"),
        ("file:///data/a.txt", "file:///data/a.txt"),
        ("connecting to http://u:p@h/x?k=v failed", "connecting to http://h/x failed"),
    ],
)
def test_a_url_keeps_host_and_path(written: str, left: str) -> None:
    """User name, password, query and fragment go."""
    assert left == redact.url(written)


@pytest.mark.parametrize(
    "written",
    [
        "Authorization: Bearer SECRET",
        "authorization=SECRET",
        "'Authorization': 'Basic SECRET='",
        '{"access_token": "SECRET", "a": 1}',
        "Cookie: session=SECRET",
        "Set-Cookie: id=SECRET; Path=/",
        "mcp-session-id: SECRET",
        "MCP_SESSION_ID=SECRET",
        "requestState=SECRET",
        "GITHUB_TOKEN=SECRET",
        "client_secret: SECRET",
        "password=SECRET",
        "X-API-Key: SECRET",
        "got Bearer SECRETSECRET from client",
        "https://host/x?whatever=SECRET",
        "api key is SECRET",
        "api key: SECRET",
        "started with --password SECRET",
        "sk-SECRETSECRET",
        "postgres://u:p@SECRET@h/",
        '{\\"token\\": \\"SECRET\\"}',
        "token='a SECRET'",
        "Cookie: a=b; session=SECRET",
        "authorization: Token SECRET",
        "access_token%3DSECRET",
        "X-Auth-Key: SECRET",
    ],
)
def test_free_text_loses_what_looks_like_a_credential(written: str) -> None:
    """In the spellings of headers, environments, JSON and URLs."""
    assert "SECRET" not in redact.text(written)


@pytest.mark.parametrize(
    "written",
    [
        pytest.param("api key is SECRET", id="is"),
        pytest.param("my password is: SECRET", id="is-colon"),
        pytest.param("The API key 'SECRET-SECRET' is wrong", id="quoted-beside"),
        pytest.param("using password SECRET123", id="beside"),
        pytest.param("the secret key is SECRET", id="secret-key"),
        pytest.param("--password SECRET", id="option"),
        pytest.param("--api-key=SECRET", id="option-equals"),
        pytest.param("curl -u user:SECRET https://h", id="user"),
        pytest.param("sk-SECRETSECRET", id="sk"),
        pytest.param("ASIASECRETSECRET1234", id="aws-id"),
        pytest.param("aws_secret_access_key = SECRET", id="aws-key"),
        pytest.param("AWS4-HMAC-SHA256 Credential=SECRET/x, Signature=SECRET", id="aws-signature"),
        pytest.param("AccountKey=SECRET;EndpointSuffix=x", id="azure"),
        pytest.param("OPENAI_KEY=SECRET", id="key"),
        pytest.param("postgres://u:p@SECRET@h/db", id="at-in-a-password"),
        pytest.param("redis://:SECRET@h", id="no-user"),
        pytest.param(r"{\"token\": \"SECRET\"}", id="escaped-json"),
        pytest.param(r"{\u0022token\u0022: \u0022SECRET\u0022}", id="escaped-quotes"),
        pytest.param("x?y=access_token%22%3A%22SECRET", id="percent"),
        pytest.param('"token": "SECRET SECRET"', id="blank-in-quotes"),
        pytest.param("'password' => 'SECRET'", id="arrow"),
        pytest.param("<password>SECRET</password>", id="element"),
        pytest.param("Cookie: a=1; sid=SECRET, b=SECRET", id="cookies"),
        pytest.param("Authorization: AWS4-HMAC-SHA256 a=b, c=SECRET", id="authorization"),
        pytest.param("-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----", id="pem"),
        pytest.param("-----BEGIN RSA PRIVATE KEY-----\nSECRET", id="pem-cut-at-its-end"),
        pytest.param("SECRET\n-----END EC PRIVATE KEY-----", id="pem-cut-at-its-beginning"),
    ],
)
def test_free_text_loses_what_servers_say_of_their_secrets(written: str) -> None:
    """In the shapes of command lines, sentences, connection strings and quoted JSON."""
    assert "SECRET" not in redact.text(written)


def test_last_words_are_whole_lines_of_the_end() -> None:
    """A line whose beginning was cut away may have lost the name of its secret."""
    long = "token=" + "x" * 1500
    assert "why" == redact.last_words(f"{long}\nwhy\n")
    assert redact.REDACTED == redact.last_words(long[500:])
    assert "a\nb" == redact.last_words("a\nb\n")


def test_free_text_keeps_what_an_operator_needs() -> None:
    """A word alone is no credential."""
    for written in ("invalid token", "connection refused: 127.0.0.1:8000", "the bearer is unknown", "token is expired"):
        assert written == redact.text(written)


def test_free_text_is_not_endless() -> None:
    """However much a child said last."""
    assert redact.TEXT_LIMIT_CHARACTERS == len(redact.text("x " * 100_000))


@given(st.text(), st.integers(0, 64))
def test_a_cut_text_is_the_beginning_of_it_within_so_many_bytes(value: str, limit: int) -> None:
    """And valid UTF-8, wherever the cut falls."""
    left = redact.cut(value, limit)
    assert value.startswith(left)
    assert len(left.encode()) <= max(limit, 0)
    assert left == value or len(left.encode()) > limit - 4


@given(st.text())
def test_a_printable_text_holds_no_control_characters(value: str) -> None:
    """Nor anything else that a terminal could obey."""
    assert redact.printable(value).isprintable()


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("a\x9bb", "a\\x9bb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u200bb", "a\\u200bb"),
        ("a\u2028b", "a\\u2028b"),
        ("a\ud800b", "a\\ud800b"),
        ("é\x7f", "é\\x7f"),
    ],
    ids=["C1", "direction", "width", "separator", "surrogate", "delete"],
)
def test_what_changes_how_a_line_reads_is_escaped(hidden: str, shown: str) -> None:
    """And nothing else."""
    assert shown == redact.printable(hidden)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_line_of_json_is_printable_and_says_the_same(value: str) -> None:
    """A reader of JSON gets the text as it was."""
    line = redact.printable_json(msgspec.json.encode({"a": value}))
    assert line.decode().isprintable()
    assert {"a": value} == msgspec.json.decode(line)
