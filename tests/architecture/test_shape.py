"""The shape budget: what keeps the code readable, measured. Numbers are those of the codebases we admire."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "weir"
FILES = sorted(SOURCE.rglob("*.py"))
FUNCTION_LINES, FILE_LINES, MEDIAN_LINES, NESTING, ARGUMENTS = 50, 400, 10, 4, 8
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base", "misc", "middleware"}
# the named places that may catch everything: the connection's last resort, and watching, which must harm nobody
BROAD_EXCEPTS = {
    "app/run.py": 1,
    "downstream/http.py": 1,
    "downstream/stdio.py": 1,
    "policies/coalesce.py": 1,
    "core/observer.py": 1,
    "relay/http_client.py": 1,
    "relay/stdio_children.py": 2,
    "telemetry/pipeline.py": 1,
    "telemetry/reading.py": 1,
    "upstream/child.py": 2,
}
_BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.AsyncFor, ast.AsyncWith, ast.Match)


class Function(NamedTuple):
    """One function or method, and where it stands."""

    where: str
    node: ast.FunctionDef | ast.AsyncFunctionDef

    @property
    def lines(self) -> int:
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(f"{path.relative_to(SOURCE)}:{node.lineno} {node.name}", node)


ALL = [function for path in FILES for function in functions(path)]


def depth(node: ast.AST) -> int:
    """How deep blocks are nested below a node; `elif` is no deeper than `if`."""
    deepest = 0
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            is_elif = field == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If)
            deepest = max(deepest, depth(child) + (isinstance(child, _BLOCKS) and not is_elif))
    return deepest


def test_no_function_is_longer_than_fifty_lines() -> None:
    """Longer ones hide a second thing."""
    assert [] == [function.where for function in ALL if function.lines > FUNCTION_LINES]


def test_the_median_function_has_at_most_ten_lines() -> None:
    """The four best have 5 to 13."""
    lengths = sorted(function.lines for function in ALL)
    assert lengths[len(lengths) // 2] <= MEDIAN_LINES


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    """A file is one thing."""
    assert [] == [str(path.relative_to(SOURCE)) for path in FILES if len(path.read_text().splitlines()) > FILE_LINES]


def test_blocks_are_not_nested_deeply() -> None:
    """Deeper is a function that wants to be two."""
    assert [] == [function.where for function in ALL if depth(function.node) >= NESTING]


def test_functions_take_few_arguments() -> None:
    """More is a dataclass in waiting."""

    def count(arguments: ast.arguments) -> int:
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        return len([argument for argument in named if argument.arg not in ("self", "cls")])

    options = ("cli.py", "core/call.py")  # a command line has its options, a call its facts
    assert [] == [
        function.where
        for function in ALL
        if count(function.node.args) > ARGUMENTS and not function.where.startswith(options)
    ]


def test_no_file_is_named_for_nothing() -> None:
    """A module is a noun of the domain."""
    assert [] == [str(path) for path in FILES if path.stem in FORBIDDEN_NAMES]


def test_everything_is_caught_only_in_named_places() -> None:
    """Elsewhere a bug must not look like an outcome."""
    found: dict[str, int] = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception":
                name = str(path.relative_to(SOURCE))
                found[name] = found.get(name, 0) + 1
    assert BROAD_EXCEPTS == found


def test_every_suppression_says_why() -> None:
    """`# type: ignore[x]  # reason` and `# noqa: X - reason`."""
    silent = []
    for path in FILES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for mark in ("# type: ignore", "# noqa"):
                _, found, rest = line.partition(mark)
                if found and "  # " not in rest and " - " not in rest:
                    silent.append(f"{path.relative_to(SOURCE)}:{number}")
    assert [] == silent


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.name != "__init__.py"], ids=lambda path: str(path.relative_to(SOURCE))
)
def test_every_module_says_what_it_is(path: Path) -> None:
    """In its docstring."""
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_a_room_says_its_one_sentence_and_nothing_else() -> None:
    """`__init__.py` holds no code."""
    for path in FILES:
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text())
            assert (1, True) == (len(tree.body), ast.get_docstring(tree) is not None), str(path)


NUMBERS_OF_OURS = {
    "app/demo_seen.py": "samples that a parser of metrics has read",
    "app/demo_server.py": "an argument that weir wrote",
    "app/fault_client.py": "JSON of weir's own port",
    "config/editor_variables.py": "looks at one character and reads nothing",
    "config/names.py": "looks whether it is an address and reads nothing",
    "config/nodes.py": "digits that a regular expression of bounded length has checked",
    "config/policies.py": "a percentile that a regular expression has checked",
    "config/quantities.py": "digits that a regular expression of bounded length has checked",
    "policies/admission.py": "counts of its own",
    "policies/admission_limit.py": "counts and estimates of its own",
    "policies/breaker_window.py": "instants",
    "policies/deadline_wire.py": "seconds that are left",
    "policies/hedge.py": "a share of its own list",
    "policies/rate_limit_window.py": "instants",
    "policies/retry.py": "a setting",
    "telemetry/access_log.py": "seconds that weir measured",
    "telemetry/environment.py": "a share that a regular expression has checked",
    "telemetry/instants.py": "instants",
    "telemetry/log.py": "instants",
    "telemetry/otlp_grpc.py": "numbers of a decoded protocol buffer",
    "telemetry/receipt.py": "seconds that numbers.py has read",
    "telemetry/spans.py": "hexadecimal ids that weir made or has checked",
    "protocol/correlation.py": "digits that stay a text, a float that the decoder has read",
    "protocol/numbers.py": "the reader itself",
    "protocol/paths.py": "two hexadecimal digits that a regular expression has checked",
    "protocol/tracecontext.py": "two hexadecimal digits that a regular expression has checked",
    "core/origin.py": "an address that has been read",
    "downstream/authority.py": "digits of bounded number that a regular expression has checked",
    "downstream/pace.py": "settings",
    "downstream/unread.py": "settings",
    "upstream/guardian.py": "what weir and the kernel wrote",
}
"""Where `int`, `float` and `isdigit` may stand, and why what they read is no foreign text."""


def test_numbers_in_foreign_text_are_read_in_one_place() -> None:
    """`²`.isdigit() is true and int() refuses it; so it does 5,000 digits (protocol/numbers.py)."""
    found = {
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and _reads_a_number(node.func)
    }
    assert sorted(NUMBERS_OF_OURS) == sorted(found)


def _reads_a_number(called: ast.expr) -> bool:
    if isinstance(called, ast.Attribute):
        return called.attr in ("isdigit", "isdecimal", "isnumeric")
    return isinstance(called, ast.Name) and called.id in ("int", "float")


def test_media_types_are_read_in_one_place() -> None:
    """They are the same in any case and with parameters: whoever compares bytes will miss some."""
    found = {
        str(path.relative_to(SOURCE))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes) and b"event-stream" in node.value
    }
    assert ["protocol/media_types.py"] == sorted(found)
