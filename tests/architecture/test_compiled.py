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
