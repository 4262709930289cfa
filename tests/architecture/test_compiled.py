"""What the compiled form of weir rests on (docs/decisions/0013)."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "weir"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPILED = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]["compiled"]


def test_every_module_that_is_compiled_exists() -> None:
    """A file that was renamed would be left interpreted, and nobody would see why weir became slower."""
    assert [] == [module for module in COMPILED if not (SOURCE / module).is_file()]


def test_no_compiled_module_defines_a_struct() -> None:
    """mypyc makes no struct of it, and a decoder of that type then reads nothing, or wrongly."""
    structs = [
        f"{module}: {node.name}"
        for module in COMPILED
        for node in ast.walk(ast.parse((SOURCE / module).read_text()))
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Struct" for b in node.bases)
    ]
    assert [] == structs


def test_no_named_tuple_of_a_compiled_module_has_a_member_that_is_an_object() -> None:
    """mypyc looks `object` up among the module's own names and then cannot be imported (KeyError); write `Any`."""
    members = [
        f"{module}: {node.name}.{ast.unparse(member.target)}"
        for module in COMPILED
        for node in ast.walk(ast.parse((SOURCE / module).read_text()))
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "NamedTuple" for b in node.bases)
        for member in node.body
        if isinstance(member, ast.AnnAssign) and ast.unparse(member.annotation).split(" ")[0] == "object"
    ]
    assert [] == members


def test_every_constant_of_a_compiled_module_is_final() -> None:
    """mypyc writes a Final constant into the code; any other is looked up in the module at each use, for 130 steps."""
    constants = [
        f"{module}:{node.lineno}"
        for module in COMPILED
        for node in ast.parse((SOURCE / module).read_text()).body
        if (isinstance(node, ast.Assign) and not _is_type(node))
        or (isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("Final"))
    ]
    assert [] == constants


def _is_type(node: ast.Assign) -> bool:
    name = ast.unparse(node.targets[0]).lstrip("_")
    return ast.unparse(node.value).startswith("TypeVar") or (name[:1].isupper() and not name.isupper())
