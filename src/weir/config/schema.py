"""The JSON Schema of weir's YAML, for editors (draft 2020-12)."""

import json
from collections.abc import Iterable
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from weir.config.fields import Section
from weir.config.model import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_VARIABLE = {
    "type": "string",
    "pattern": r"\$\{",
    "description": "A variable or the content of a file: ${NAME}, ${NAME:-default}, ${file:PATH}.",
}
_REFERENCE = {"$ref": "#/$defs/Variable"}
_ABOUT = ("description", "default", "examples")


class _Generate(GenerateJsonSchema):
    """A section's default is told by its members."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if isinstance(schema.get("default"), Section):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def schema() -> dict[str, Any]:
    """The schema as a tree."""
    generated = Config.model_json_schema(by_alias=True, schema_generator=_Generate)
    definitions = {name: _readable(one) for name, one in generated.pop("$defs").items()}
    return {
        "$schema": DIALECT,
        **_readable(generated),
        "title": "weir",
        "$defs": {**definitions, "Variable": _VARIABLE},
    }


def text() -> str:
    """The schema as it is published."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _readable(tree: dict[str, Any]) -> dict[str, Any]:
    """Without titles; a variable may stand for any scalar that has a form."""
    about = {key: tree[key] for key in _ABOUT if tree.get(key) is not None}
    rest = {key: value for key, value in tree.items() if key not in (*_ABOUT, "title")}
    for key in ("items", "additionalProperties"):
        if isinstance(rest.get(key), dict):
            rest[key] = _readable(rest[key])
    if "properties" in rest:
        rest["properties"] = {name: _property(one) for name, one in rest["properties"].items()}
    choices = _choices(rest)
    return {**about, **(choices[0] if len(choices) == 1 else {"anyOf": choices})}


def _property(tree: dict[str, Any]) -> dict[str, Any]:
    """A section may be left empty: it is there, with its defaults."""
    return _readable({"anyOf": [tree, {"type": "null"}]} if "$ref" in tree else tree)


def _choices(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """What a value may be, alternatives within alternatives laid flat."""
    if "anyOf" in tree:
        readable = [_readable(one) for one in tree["anyOf"]]
        return _once(choice for one in readable for choice in (one["anyOf"] if list(one) == ["anyOf"] else [one]))
    return [tree, _REFERENCE] if _is_formed_scalar(tree) else [tree]


def _once(choices: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    result: list[dict[str, Any]] = []
    for choice in choices:
        if choice not in result:
            result.append(choice)
    return result


def _is_formed_scalar(tree: dict[str, Any]) -> bool:
    kind = tree.get("type")
    return kind in ("integer", "number", "boolean") or (kind == "string" and ("pattern" in tree or "enum" in tree))
