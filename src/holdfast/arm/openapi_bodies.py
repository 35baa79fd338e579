"""The bodies of the OpenAPI document, from the structs that requests are checked by and answers
are written down in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from holdfast.arm.schemas.table import AGENT_REQUESTS, REQUESTS, Kind, response_of

Schema = dict[str, Any]
REF = "#/components/schemas/{name}"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PLAIN_OBJECT: Schema = {"type": "object"}
TEXT: Schema = {"type": "string"}
TOKEN_FORM: Schema = {
    "type": "object",
    "required": ["grant_type"],
    "properties": dict.fromkeys(
        (
            "grant_type",
            "client_id",
            "client_secret",
            "client_assertion_type",
            "client_assertion",
            "scope",
        ),
        TEXT,
    ),
}


class BodySchemas:
    """Writes bodies into a document, and remembers what they refer to."""

    def __init__(self, routes: Iterator[tuple[str, str]]) -> None:
        """``routes``: method and address of each, as routes write addresses."""
        self._asked: dict[tuple[str, str], Kind] = {}
        self._given: dict[tuple[str, str], Kind] = {}
        for method, path in routes:
            key = (method, shown_path(path))
            if (asked := {**REQUESTS, **AGENT_REQUESTS}.get((method, path))) is not None:
                self._asked[key] = asked
            if (kind := response_of(method, path)) is not None:
                self._given[key] = kind
        kinds = [*self._asked.values(), *self._given.values()]
        schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
        self.components: Schema = components
        self._schema = dict(zip(map(str, kinds), schemas, strict=True))

    def write(self, method: str, path: str, operation: Schema) -> None:
        """Put the bodies of one operation in place of any object."""
        key = (method.upper(), path)
        asked = self._asked.get(key)
        if "requestBody" in operation or asked is not None:
            schema = PLAIN_OBJECT if asked is None else self._schema[str(asked)]
            operation["requestBody"] = _body({JSON: {"schema": schema}})
        elif path.endswith("/token"):
            operation["requestBody"] = _body({FORM: {"schema": TOKEN_FORM}})
        for answer in operation["responses"].values():
            if answer.get("content", {}).get(JSON, {}).get("schema") == {"type": "null"}:
                del answer["content"]
        given = self._given.get(key)
        if given is None:
            return
        responses = operation["responses"]
        if not {"200", "201"} & set(responses):  # what is only planned is answered at once
            responses["200"] = {"description": "Done."}
        for status in {"200", "201"} & set(responses):
            responses[status]["content"] = {JSON: {"schema": self._schema[str(given)]}}
        self._also(method, operation)

    @staticmethod
    def _also(method: str, operation: Schema) -> None:
        """PUT answers 201 for what is new and 200 for what was there."""
        responses = operation["responses"]
        if method == "put" and "200" in responses:
            responses.setdefault("201", responses["200"])
        elif method == "put" and "201" in responses:
            responses.setdefault("200", responses["201"])


def _body(content: Schema) -> Schema:
    return {"required": True, "content": content}


def shown_path(path: str) -> str:
    """``/a/{b}`` of a route's ``/a/{b:str}``."""
    return re.sub(r":\w+}", "}", path)
