"""The OpenAPI document: valid, complete, true to what is answered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemarun
import schemathesis
from serving import app, client, fake_analyzer, settings

from mien.serve.start import running
from mien.serve.tokens import Role, make_token


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return app(tmp_path_factory.mktemp("state")).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def referred(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema of the document that stands by itself."""
    return {**schema, "components": document["components"]}


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_the_document_is_what_the_service_gives(document: dict[str, Any], tmp_path: Path) -> None:
    with client(tmp_path) as asking:
        assert asking.get("/v1/openapi.json").json() == document


def test_every_operation_says_what_it_is(document: dict[str, Any]) -> None:
    held = dict(operations(document))
    assert len(held) >= 15
    for key in ("operationId", "summary", "description", "tags"):
        assert [name for name, operation in held.items() if not operation.get(key)] == [], key
    ids = [operation["operationId"] for operation in held.values()]
    assert len(set(ids)) == len(ids)
    assert [i for i in ids if not re.fullmatch(r"[A-Za-z_]+", i)] == []


def test_every_parameter_and_answer_is_described(document: dict[str, Any]) -> None:
    bare = [
        f"{name} {parameter['name']}"
        for name, operation in operations(document)
        for parameter in operation.get("parameters", ())
        if not (parameter.get("description") or parameter["schema"].get("description"))
    ]
    assert bare == []
    assert [n for n, o in operations(document) for r in o["responses"].values() if not r.get("description")] == []


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    shape = {"$ref": "#/components/schemas/ProblemBody"}
    errors = [
        (name, status, answer)
        for name, operation in operations(document)
        for status, answer in operation["responses"].items()
        if status >= "4"
    ]
    assert len(errors) > 60
    for name, status, answer in errors:
        assert answer["content"] == {"application/json": {"schema": shape}}, (name, status)


def test_what_needs_a_token_says_so(document: dict[str, Any]) -> None:
    schemes = document["components"]["securitySchemes"]
    assert [s["scheme"] for s in schemes.values()] == ["bearer"]
    for name, operation in operations(document):
        asked = bool(operation.get("security"))
        assert asked is ({"401", "403"} <= set(operation["responses"])), name


def test_every_example_is_what_its_schema_says(document: dict[str, Any]) -> None:
    held = 0
    for name, schema, example in examples(document):
        jsonschema_rs.validate(referred(document, schema), whole(document, schema, example))
        held += 1
        assert name
    assert held >= 3


def whole(document: dict[str, Any], schema: dict[str, Any], example: Any) -> Any:
    """An example with what is null in it, which FastAPI leaves out of its document."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(example, list):
        return [whole(document, schema.get("items", {}), item) for item in example]
    if not isinstance(example, dict):
        return example
    properties = schema.get("properties", {})
    nulls = {k: None for k, each in properties.items() if {"type": "null"} in each.get("anyOf", ())}
    return nulls | {k: whole(document, properties.get(k, {}), v) for k, v in example.items()}


def examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Each example of a body, with the name of its operation and the schema that it is of."""
    for name, operation in operations(document):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for body in bodies:
            for content in body.get("content", {}).values():
                for example in [content["example"]] if "example" in content else []:
                    yield name, content["schema"], example
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            yield name, schema, example
        for key, each in schema.get("properties", {}).items():
            for example in each.get("examples", ()):
                yield f"{name}.{key}", each, example


def test_some_hundred_cases_find_no_fault(tmp_path: Path) -> None:
    """What schemathesis thinks up, right and wrong, is answered as the document says."""
    token, line = make_token("root", Role.ADMIN)
    tokens = tmp_path / "tokens.txt"
    tokens.write_text(line, encoding="utf-8")
    tokens.chmod(0o600)
    chosen = settings(tmp_path / "state", port=0, token_file=tokens, limits={"jobs_each": 1})
    with running(chosen, analyzer=fake_analyzer()) as address:
        tally = schemarun.run(address, token, tmp_path, seed=5, examples=8, phases="examples,coverage,fuzzing")
    assert tally.failures == {}
    assert tally.total > 400
    assert {200, 401, 404, 405, 415, 422} <= set(tally.statuses)
    assert max(tally.statuses) < 500
    assert tally.answers["POST /v1/analyze", 200] > 0
    assert tally.answers["POST /v1/films", 202] > 0
    assert {"status_code_conformance", "response_schema_conformance", "ignored_auth"} <= set(tally.checks)
