"""The OpenAPI 3.1 document, made from the routes and the models that validate them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from super_app.errors import Reason
from super_app.names import CLIENT_API_PREFIX
from synapse_super_app.http.refusals import STATUS, errcode_of
from synapse_super_app.http.routes import Auth, Route, Sessions

_REF = "#/components/schemas/{model}"
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A Matrix error. Some refusals carry further fields.",
    "required": ["errcode", "error"],
    "properties": {"errcode": {"type": "string"}, "error": {"type": "string"}},
    "additionalProperties": True,
}


def document(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """The whole document; deterministic for the same routes."""
    models: list[tuple[type[BaseModel], Any]] = []
    for route in routes:
        if not route.media_types:
            models.append((route.response, "serialization"))
        if route.body is not None:
            models.append((route.body, "validation"))
    refs, definitions = models_json_schema(models, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for route in sorted(routes, key=lambda each: (each.path, each.method)):
        paths["/" + route.path][route.method.lower()] = _operation(route, refs)
    schemas = {**definitions.get("$defs", {}), "Error": _ERROR_SCHEMA}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Super App for Matrix", "version": version, "license": {"name": "AGPL-3.0-or-later"}},
        "servers": [{"url": CLIENT_API_PREFIX}],
        "paths": dict(paths),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "accessToken": {"type": "http", "scheme": "bearer", "description": "An access token of Matrix."},
                "session": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of `POST sessions/openid`, which only reads.",
                },
            },
        },
    }


def _operation(route: Route, refs: Any) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "summary": route.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in re.findall(r"{(\w+)}", route.path)
        ],
        "responses": {"200": _answer(route, refs), **_refusals(route)},
        "security": _security(route),
    }
    if route.query is not None:
        schema = route.query.model_json_schema()
        operation["parameters"] += [
            {"name": name, "in": "query", "required": name in schema.get("required", []), "schema": field}
            for name, field in schema["properties"].items()
        ]
    if route.body is not None:
        operation["requestBody"] = {
            "required": any(field.is_required() for field in route.body.model_fields.values()),
            "content": {"application/json": {"schema": refs[(route.body, "validation")]}},
        }
    return operation


def _answer(route: Route, refs: Any) -> dict[str, Any]:
    if not route.media_types:
        return _json("The answer.", refs[(route.response, "serialization")])
    # OpenAPI 3.1: a file is content without a schema.
    return {"description": "A file.", "content": {media_type: {} for media_type in route.media_types}}


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.auth is Auth.PUBLIC:
        return []
    ways: list[dict[str, list[str]]] = [{"accessToken": []}]
    if route.sessions is Sessions.READ:
        ways.append({"session": []})
    return ways


def _operation_id(route: Route) -> str:
    words = re.split(r"[/_]+", route.path.replace("{", "by_").replace("}", ""))
    return route.method.lower() + "".join(word.capitalize() for word in words)


def _refusals(route: Route) -> dict[str, Any]:
    reasons = set(route.reasons) | {Reason.STARTING}
    if route.auth is Auth.ADMIN:
        reasons.add(Reason.ADMIN_ONLY)
    if route.auth is Auth.FRESH:
        reasons.add(Reason.SIGN_IN_AGAIN)
    if route.body is not None or route.query is not None:
        reasons |= {Reason.INVALID_VALUE, Reason.UNKNOWN_FIELD}
    by_status: dict[int, list[str]] = defaultdict(list)
    for reason in reasons:
        by_status[int(STATUS[reason])].append(errcode_of(reason))
    if route.auth is not Auth.PUBLIC:
        by_status[401] += ["M_MISSING_TOKEN", "M_UNKNOWN_TOKEN"]
    if route.sessions is Sessions.READ:
        by_status[401].append(errcode_of(Reason.UNKNOWN_SESSION))
    return {
        str(status): _json(", ".join(sorted(codes)), {"$ref": "#/components/schemas/Error"})
        for status, codes in sorted(by_status.items())
    }


def _json(description: str, schema: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
