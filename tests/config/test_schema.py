"""The JSON Schema that editors use."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from weir.config import schema
from weir.config.reading import parse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    """Of the published schema."""
    tree = json.loads((ROOT / "docs" / "weir.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(tree)
    return jsonschema.Draft202012Validator(tree)


def test_the_published_schema_is_the_one_of_the_model() -> None:
    """Made with `weir check --schema > docs/weir.schema.json`."""
    assert schema.text() == (ROOT / "docs" / "weir.schema.json").read_text()


def test_the_example_validates_and_names_the_schema(validator: jsonschema.Draft202012Validator) -> None:
    """An editor finds it by the first line."""
    text = (ROOT / "weir.example.yaml").read_text()
    assert "# yaml-language-server: $schema=docs/weir.schema.json" == text.splitlines()[0]
    assert [] == [error.message for error in validator.iter_errors(parse(text, "f").value)]


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: [{name: a, url: 'http://x', connections: '${N}', preserve_host: '${B:-true}'}]",
        "upstreams: [{name: '${N}', command: [a, 1], env: {A: 1}}]",
        "upstreams: []\npolicies:\n  retry:\n",
        "upstreams: []\nlisten: {http: '${ADDRESS}', max_body: '${SIZE}', diagnostics: off}",
        "upstreams: []\nsessions: {resurrect: true}",
        "upstreams: []\npolicies: {rate_limits: [{per: client, limit: 1, window: 1m30s, mode: shadow}]}",
    ],
)
def test_what_the_loader_takes_the_schema_takes(validator: jsonschema.Draft202012Validator, text: str) -> None:
    """Variables for numbers, numbers for text, empty sections."""
    assert [] == [error.message for error in validator.iter_errors(parse(text, "f").value)]


@pytest.mark.parametrize(
    "text",
    [
        "upstreams: [{name: a, ulr: 'http://x'}]",
        "upstreams: [{name: A}]",
        "policies: {}",
        "upstreams: []\npolicies: {timeout: {total: 5}}",
        "upstreams: []\npolicies: {timeout: {total: 5 s}}",
        "upstreams: []\npolicies: {retry: {attempts: 11}}",
        "upstreams: []\nlisten: {http: 8931}",
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(validator: jsonschema.Draft202012Validator, text: str) -> None:
    """As far as a schema can say it."""
    assert not validator.is_valid(parse(text, "f").value)


def test_every_section_is_described() -> None:
    """Editors show it."""
    definitions: dict[str, Any] = schema.schema()["$defs"]
    assert [] == [name for name, one in definitions.items() if "description" not in one]
