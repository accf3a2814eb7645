"""The description of the admin API as an OpenAPI document, made of its endpoints when somebody asks for it."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from server.admin.answers import Problem
from server.admin.endpoints import JSON, Endpoint

_SECURITY: Final = "adminToken"
_TEMPLATE: Final = "#/components/schemas/{name}"


def described(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document, as plain data."""
    listed = [endpoint for endpoint in endpoints if endpoint.listed]
    shapes = [each for endpoint in listed for each in (endpoint.body, endpoint.answer) if each is not None]
    schemas, components = msgspec.json.schema_components([Problem, *shapes], ref_template=_TEMPLATE)
    problem, found = schemas[0], iter(schemas[1:])
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in listed:
        body = next(found) if endpoint.body is not None else None
        answer = next(found) if endpoint.answer is not None else {}
        operation = _operation(endpoint, body, answer, problem)
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Garrison admin API",
            "version": "1",
            "description": "Views of a cluster, drain and upgrade of a node. Views gathered from several nodes name "
            "in `missing` those that did not answer in time.",
        },
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {_SECURITY: {"type": "http", "scheme": "bearer"}}},
    }


def _operation(endpoint: Endpoint, body: Any, answer: Any, problem: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()} {endpoint.path}",
        "description": endpoint.description,
        "tags": list(endpoint.tags),
        "parameters": _parameters(endpoint),
        "responses": {
            "200": {"description": "The answer", "content": {JSON: {"schema": answer}}},
            "default": {"description": "What went wrong", "content": {JSON: {"schema": problem}}},
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    if endpoint.guarded:
        operation["security"] = [{_SECURITY: []}]
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    found = [part.strip("{}") for part in endpoint.path.split("/") if part.startswith("{")]
    schemas: dict[str, Any] = {name: {"type": "string"} for name in found}
    required = set(found)
    if endpoint.params is not None:
        for field in msgspec.structs.fields(endpoint.params):
            schemas[field.encode_name] = msgspec.json.schema(field.type)
            if field.required:
                required.add(field.encode_name)
    return [
        {
            "name": name,
            "in": "path" if name in found else "query",
            "required": name in required,
            "description": schema.get("description", ""),
            "schema": schema,
        }
        for name, schema in schemas.items()
    ]
