"""Distil Azure's published REST API descriptions into the facts our tests check answers against.

    tools/distil_swagger.py FOLDER... --out tests/facts/recovery_services.json

``FOLDER`` is one of Azure's REST API specifications (github.com/Azure/azure-rest-api-specs, MIT
licence), such as ``specification/recoveryservicesbackup/.../stable/2024-04-01``; every OpenAPI 2.0
document below it is read. Only facts of structure are kept: names, kinds, formats, enumerations,
which fields are required, discriminators; of operations their address, parameters, status codes and
schemas; of examples the structure of what they send, with neutral words in place of names.
Descriptions, summaries and the answers of examples are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = Any
SOURCE = {
    "repository": "https://github.com/Azure/azure-rest-api-specs",
    "licence": "MIT, (c) Microsoft Corporation",
    "what": "facts of structure, made by tools/distil_swagger.py; nothing of it is edited by hand",
}
KEPT = (
    "type", "format", "enum", "readOnly", "discriminator", "minLength", "maxLength", "minimum",
    "maximum", "pattern", "minItems", "maxItems",
)  # fmt: skip
METHODS = ("get", "put", "post", "patch", "delete", "head")
MEANT = {"timeZone", "protectedItemType", "objectType", "schedulePolicyType", "retentionPolicyType"}
MEANT |= {"containerType", "protectionIntentItemType", "policyType", "name.sku", "tier"}
HOLDERS = ("containerName", "protectedItemName")


def documents(places: list[Path]) -> Iterator[tuple[Path, Json]]:
    """Every OpenAPI 2.0 document, by path."""
    for place in places:
        for path in sorted(place.rglob("*.json")):
            if "examples" in path.parts:
                continue
            found = json.loads(path.read_text())
            if found.get("swagger") == "2.0":
                yield path, found


def schema(raw: Json) -> Json:
    """What of a schema is structure."""
    if "$ref" in raw:
        return {"$ref": reference(raw["$ref"])}
    found = {key: raw[key] for key in KEPT if key in raw}
    if "x-ms-discriminator-value" in raw:
        found["value"] = raw["x-ms-discriminator-value"]
    if raw.get("required"):
        found["required"] = sorted(raw["required"])
    if raw.get("allOf"):
        found["allOf"] = [schema(one) for one in raw["allOf"]]
    for key in ("items", "additionalProperties"):
        if isinstance(raw.get(key), dict):
            found[key] = schema(raw[key])
        elif key in raw:
            found[key] = raw[key]
    if raw.get("properties"):
        found["properties"] = {name: property_of(one) for name, one in raw["properties"].items()}
    return found


def property_of(raw: Json) -> Json:
    found = schema(raw)
    return found | ({"readOnly": True} if raw.get("readOnly") else {})


def reference(target: str) -> str:
    """The name of a definition; those of other documents are called ``external``."""
    return target.rpartition("/")[2] if target.startswith("#/") else "external"


def operation(method: str, path: str, raw: Json, document: Json) -> Json:
    given = parameters(raw, document)
    body = next((one for one in given if one["in"] == "body"), None)
    query = [one["name"] for one in given if one["in"] == "query" and one["name"] != "api-version"]
    made: Json = {"id": raw["operationId"], "method": method.upper(), "path": path}
    if query:
        made["query"] = query
    if body:
        made["body"] = schema(body["schema"]) | {"required": body.get("required", False)}
    if raw.get("x-ms-long-running-operation"):
        made["long"] = True
    if "x-ms-pageable" in raw:
        made["paged"] = True
    made["answers"] = {
        status: schema(one["schema"]) if "schema" in one else None
        for status, one in raw["responses"].items()
    }
    return made


def parameters(raw: Json, document: Json) -> list[Json]:
    """Those an operation declares; the ones all services share only give a path its names."""
    given = raw.get("parameters", [])
    own = [one for one in given if not one.get("$ref", "").startswith("..")]
    return [document["parameters"][reference(one["$ref"])] if "$ref" in one else one for one in own]


def examples(path: Path, raw: Json, document: Json) -> Iterator[Json]:
    """What examples send; those without a body are told by their operation alone."""
    given = parameters(raw, document)
    body = next((one["name"] for one in given if one.get("in") == "body"), None)
    for one in (raw.get("x-ms-examples") or {}).values():
        at = (path.parent / one["$ref"]).resolve()
        sent = json.loads(at.read_text())["parameters"] if at.exists() else {}
        if body is None or body not in sent:
            continue
        names = {word: kind_of(sent[word]) for word in HOLDERS if word in sent}
        yield {
            "operation": raw["operationId"],
            "example": at.stem,
            "names": names,
            "body": neutral(sent[body], body),
        }


def kind_of(name: Json) -> str:
    """The kind a semicolon name begins with."""
    return str(name).split(";")[0] if ";" in str(name) else ""


def neutral(value: Json, name: str) -> Json:
    """Structure, numbers, times and words of enumerations stay; names of things become neutral."""
    if isinstance(value, dict):
        return {
            (address(key) if "/" in key else key): neutral(one, word_of(key, name))
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [neutral(one, name) for one in value]
    if not isinstance(value, str) or not value:
        return value
    return word(value, name)


def word_of(key: str, holder: str) -> str:
    return f"{key}.{holder}" if holder == "sku" else key


def word(value: str, name: str) -> str:
    if "/" in value and value.lower().startswith("/subscriptions"):
        return address(value)
    if name in MEANT or name in ENUMERATED or re.fullmatch(r"\d{4}-\d\d-\d\d[T ].*", value):
        return value
    if value.startswith("http"):
        return f"https://{name.lower()}.example/a"
    return f"{{{name}}}"


def address(value: str) -> str:
    """An ARM id whose names are replaced by what they name."""
    parts = value.strip("/").split("/")
    found, at = [], 0
    while at < len(parts):
        key = parts[at]
        after = parts[at + 1 : at + 2]
        kept = after if key.lower() == "providers" else [f"{{{key}}}"] if after else []
        found += [key, *kept]
        at += 2
        if key.lower() == "providers" and at < len(parts):
            found += [parts[at], *([f"{{{parts[at]}}}"] if at + 1 < len(parts) else [])]
            at += 2
    return "/" + "/".join(found)


ENUMERATED: set[str] = set()


def enumerated(raw: Json, name: str = "") -> None:
    """Note each property whose words are an enumeration."""
    if isinstance(raw, dict):
        if isinstance(raw.get("enum"), list):
            ENUMERATED.update({name} - {"name"})
        for key, one in raw.items():
            enumerated(one, name if key == "items" else key)
    elif isinstance(raw, list):
        for one in raw:
            enumerated(one, name)


def distilled(places: list[Path]) -> Json:
    made: Json = {"source": SOURCE, "documents": {}}
    for path, document in documents(places):
        enumerated(document["definitions"])
        called = [
            (method, at, raw[method])
            for at, raw in sorted(document["paths"].items())
            for method in METHODS
            if method in raw
        ]
        made["documents"][path.stem] = {
            "version": document["info"]["version"],
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "definitions": {
                name: schema(one) for name, one in sorted(document["definitions"].items())
            },
            "operations": [operation(*one, document) for one in called],
            "examples": [found for _, _, raw in called for found in examples(path, raw, document)],
        }
    return made


def lines(value: Json, depth: int = 4) -> str:
    """JSON with one entry of its outer levels per line, so that a change shows itself."""
    if depth == 0 or not value or not isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if isinstance(value, list):
        return "[\n" + ",\n".join(lines(one, 0) for one in value) + "\n]"
    inner = (f"{json.dumps(key)}: {lines(one, depth - 1)}" for key, one in value.items())
    return "{\n" + ",\n".join(inner) + "\n}"


def main() -> None:
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    words.add_argument("places", nargs="+", type=Path)
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    given.out.write_text(lines(distilled(given.places)) + "\n")


if __name__ == "__main__":
    main()
