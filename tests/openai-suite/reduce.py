"""Makes `openai-openapi.reduced.json.gz`, which the mock server reads, from OpenAI's API description.

    python3 reduce.py openai-openapi.json.gz

What is kept: paths, methods, required parameters, request media types with their required members, answers with
their schemas. What goes: prose, examples, documentation metadata, schemas that nothing kept refers to.
Source: github openai/openai-openapi @ f85dbe2, openapi.json, version 2.3.0. Licence: MIT, see openai-openapi.LICENSE.
"""

import gzip
import json
import sys
from pathlib import Path

TARGET = Path(__file__).with_name("openai-openapi.reduced.json.gz")
METHODS = ("get", "post", "put", "patch", "delete")
# The words of a schema by which an instance is made; everything else says what an instance means.
KEPT = {"type", "const", "enum", "items", "required", "format", "minItems", "minLength", "minimum",
        "nullable", "additionalProperties", "default", "$ref"}


def schema(node: object) -> object:
    """A schema without prose."""
    if not isinstance(node, dict):
        return node
    out: dict = {}
    for word, value in node.items():
        if word in ("anyOf", "oneOf", "allOf"):
            out[word] = [schema(branch) for branch in value]
        elif word == "properties":
            out[word] = {name: schema(member) for name, member in value.items()}
        elif word in ("items", "additionalProperties"):
            out[word] = schema(value)
        elif word == "enum":
            out[word] = value[:1]
        elif word in KEPT and not (word == "default" and not isinstance(value, (str, int, float, bool))):
            out[word] = value
    return out


def content(node: dict) -> dict:
    return {media: schema(body.get("schema", {})) for media, body in node.get("content", {}).items()}


def operation(node: dict, document: dict) -> dict:
    out: dict = {}
    query = [p["name"] for p in node.get("parameters", ()) if p.get("in") == "query" and p.get("required")]
    if query:
        out["query"] = query
    if body := node.get("requestBody"):
        out["body"] = {"required": body.get("required", False), "content": {}}
        for media, sent in body.get("content", {}).items():
            out["body"]["content"][media] = required(sent.get("schema", {}), document)
    for status, answer in node.get("responses", {}).items():
        if status.startswith("2"):
            out.setdefault("answers", {})[status] = content(answer)
    return out


def required(node: dict, document: dict) -> list[str]:
    """The members that a request must have, whichever branch it takes."""
    while "$ref" in node:
        node = document["components"]["schemas"][node["$ref"].rsplit("/", 1)[1]]
    names = set(node.get("required", ()))
    for branch in node.get("allOf", ()):
        names.update(required(branch, document))
    return sorted(names)


def references(node: object):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"].rsplit("/", 1)[1]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def reduce(document: dict) -> dict:
    paths = {path: {method: operation(item[method], document) for method in METHODS if method in item}
             for path, item in document["paths"].items()}
    every = document["components"]["schemas"]
    schemas: dict = {}
    waiting = [name for name in references(paths)]
    # Events are picked by hand in mock.py, whatever an answer refers to.
    waiting += ["ResponseStreamEvent"]
    while waiting:
        name = waiting.pop()
        if name not in schemas:
            schemas[name] = schema(every[name])
            waiting.extend(references(schemas[name]))
    return {"source": "github openai/openai-openapi @ f85dbe2, openapi.json", "licence": "MIT",
            "version": document["info"]["version"], "paths": paths, "schemas": dict(sorted(schemas.items()))}


if __name__ == "__main__":
    with gzip.open(sys.argv[1]) as file:
        reduced = reduce(json.load(file))
    packed = gzip.compress(json.dumps(reduced, separators=(",", ":")).encode(), 9, mtime=0)
    TARGET.write_bytes(packed)
    print(f"{len(reduced['paths'])} paths, {len(reduced['schemas'])} schemas, {len(packed)} bytes")
