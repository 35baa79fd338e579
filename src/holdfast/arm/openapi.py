"""The OpenAPI document of the API: what the framework reads off the routes, and what ARM adds to
every one of them: the version, the error body, the headers of long-running operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig

from holdfast import __version__
from holdfast.arm.guard import needs_version
from holdfast.arm.openapi_bodies import BodySchemas

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
VERSION = {"$ref": "#/components/parameters/ApiVersion"}
ERROR = {"$ref": "#/components/responses/Error"}
TOKEN_ERROR = {"$ref": "#/components/responses/TokenError"}
RESULTS = "perationResults/"  # operationResults and backupOperationResults
PAGE = {"$ref": "#/components/responses/Page"}
FORMS = ("token", "devicecode", "revoke")  # answered in OAuth 2's shapes
PAGES = ("deviceauth", "authorize", "external", "callback")  # for people with a browser
METHODS = ("get", "head", "put", "post", "patch", "delete")

COMPONENTS: Schema = {
    "parameters": {
        "ApiVersion": {
            "name": "api-version",
            "in": "query",
            "required": True,
            "description": "Version of the API the client speaks; any is accepted.",
            "schema": {**TEXT, "examples": ["2024-04-01"]},
        }
    },
    "responses": {
        "Error": {
            "description": "Nothing was done: what happened, and what to do.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}
            },
        },
        "Page": {
            "description": "A page that says what happened, and what to do.",
            "content": {"text/html": {"schema": TEXT}},
        },
        "TokenError": {
            "description": "No token, with the codes of OAuth 2.",
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/TokenError"}}
            },
        },
    },
    "headers": {
        "Azure-AsyncOperation": {
            "description": "Where to ask how the operation is doing.",
            "schema": {**TEXT, "format": "uri"},
        },
        "Location": {
            "description": "Where to ask for the operation's result: 202 until it has ended.",
            "schema": {**TEXT, "format": "uri"},
        },
        "Retry-After": {
            "description": "Seconds to wait before asking.",
            "schema": {"type": "integer"},
        },
    },
    "schemas": {
        "ErrorResponse": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"$ref": "#/components/schemas/ErrorBody"}},
        },
        "TokenError": {
            "type": "object",
            "required": ["error", "error_description"],
            "properties": {
                "error": TEXT,
                "error_description": TEXT,
                "error_codes": {"type": "array", "items": {"type": "integer"}},
                "holdfast": {"$ref": "#/components/schemas/ErrorBody"},
            },
        },
        "ErrorBody": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": {**TEXT, "description": "Stable; docs/reference/errors.md lists all."},
                "message": {**TEXT, "description": "What happened to what."},
                "target": {**TEXT, "description": "What the error is about."},
                "details": {
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/ErrorBody"},
                },
                "additionalInfo": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"type": TEXT, "info": {"type": "object"}},
                    },
                },
                "hint": {**TEXT, "description": "What to do next."},
                "missing": {
                    "type": "array",
                    "items": TEXT,
                    "description": "Ids of chunks a commit refers to and the vault lacks.",
                },
            },
        },
    },
}


def describe(handlers: Sequence[Any]) -> bytes:
    """The OpenAPI 3.1 document, as JSON. Made from routes that serve nobody, because the framework
    would add addresses of its own to those that do."""
    config = OpenAPIConfig(
        title="Holdfast",
        version=__version__,
        description="Azure Backup compatible API of a Holdfast server.",
        operation_id_creator=_operation_id,
        use_handler_docstrings=True,
    )
    app = Litestar(route_handlers=handlers, openapi_config=config, logging_config=None)
    document = app.openapi_schema.to_schema()
    bodies = BodySchemas(_routes(app))
    for path, method, operation in _operations(document):
        bodies.write(method, path, operation)
        _complete(path, method, operation)
    components = document.setdefault("components", {})
    for kind, found in COMPONENTS.items():
        components[kind] = {**components.get(kind, {}), **found}
    components["schemas"] |= bodies.components
    return msgspec.json.encode(document)


def _operation_id(handler: Any, method: Any, path: list[Any]) -> str:
    """A name per method and address."""
    words = [str(getattr(part, "name", part)) for part in path]
    return "_".join([str(method).lower().rpartition(".")[2], *words]).replace(".", "_")


def _routes(app: Litestar) -> Iterator[tuple[str, str]]:
    """Method and address of each."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in handler.http_methods:
                yield str(getattr(method, "value", method)), route.path


def _operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def _complete(path: str, method: str, operation: Schema) -> None:
    """Add what every address of ARM has; the framework's own error body is never sent."""
    if needs_version(path):
        operation["parameters"] = [*operation.get("parameters", ()), VERSION]
    responses = operation["responses"]
    responses.pop("400", None)
    if method == "delete":
        responses.setdefault("204", {"description": "There was nothing to remove."})
    if RESULTS in path:
        responses["204"] = {"description": "It has ended well."}
        responses.setdefault("202", {})
    last = path.rpartition("/")[2]
    responses["default"] = PAGE if last in PAGES else TOKEN_ERROR if last in FORMS else ERROR
    if "202" in responses:
        names = COMPONENTS["headers"]
        responses["202"] = {
            "description": "Accepted: it goes on; follow the headers.",
            "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        }
