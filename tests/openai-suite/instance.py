"""Minimal instances of the reduced schemas: what is required and nothing else, the same ones every time."""

from __future__ import annotations

DEEPEST = 40
STRINGS = {"uri": "https://example.com/", "date": "2026-01-02", "date-time": "2026-01-02T03:04:05Z"}
UNIX_TIME = 1767323045


class Instances:
    """Makes instances of named and nameless schemas."""

    def __init__(self, schemas: dict[str, dict]) -> None:
        self._schemas = schemas

    def of(self, schema: dict, depth: int = 0) -> object:
        """An instance of a schema."""
        if depth > DEEPEST:
            raise RecursionError("a schema requires itself")
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        if "allOf" in schema:
            return self._all(schema, depth)
        for word in ("anyOf", "oneOf"):
            if word in schema and "properties" not in schema:
                return self._first(schema[word], depth)
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = kind[0]
        make = getattr(self, f"_{kind}", None)
        return make(schema, depth) if make else None

    def _resolved(self, schema: dict) -> dict:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def _first(self, branches: list[dict], depth: int) -> object:
        """The first branch that ends; null only where there is nothing else."""
        real = [branch for branch in branches if self._resolved(branch).get("type") != "null"]
        for branch in real:
            try:
                return self.of(branch, depth + 1)
            except RecursionError:
                continue
        if real:
            raise RecursionError("every branch requires itself")
        return None

    def _all(self, schema: dict, depth: int) -> object:
        """An instance of every part at once: what one part requires another may describe."""
        parts = list(self._parts(schema))
        if not any("properties" in part for part in parts):
            return self.of(next(part for part in parts if part), depth + 1)
        together: dict = {"type": "object", "properties": {}, "required": []}
        for part in parts:
            together["properties"].update(part.get("properties", {}))
            together["required"] += [name for name in part.get("required", ()) if name not in together["required"]]
        made = self._object(together, depth)
        for part in parts:
            if "anyOf" in part or "oneOf" in part:
                made.update(self._object({word: part[word] for word in ("anyOf", "oneOf") if word in part}, depth))
        return made

    def _parts(self, schema: dict):
        schema = self._resolved(schema)
        for part in schema.get("allOf", ()):
            yield from self._parts(part)
        yield {word: value for word, value in schema.items() if word != "allOf"}

    def _object(self, schema: dict, depth: int) -> dict:
        members = schema.get("properties", {})
        made = {name: self.of(members.get(name, {"type": "string"}), depth + 1)
                for name in schema.get("required", ())}
        for word in ("anyOf", "oneOf"):
            if word in schema:
                branch = self._first(schema[word], depth)
                made.update(branch if isinstance(branch, dict) else {})
        return made

    def _array(self, schema: dict, depth: int) -> list:
        most = max(1, schema.get("minItems", 0))
        try:
            return [self.of(schema.get("items", {}), depth + 1)] * most
        except RecursionError:
            return []

    def _string(self, schema: dict, _depth: int) -> str:
        return STRINGS.get(schema.get("format", ""), "string")

    def _integer(self, schema: dict, _depth: int) -> int:
        return UNIX_TIME if schema.get("format") == "unixtime" else max(1, int(schema.get("minimum", 1)))

    def _number(self, schema: dict, _depth: int) -> float | int:
        return UNIX_TIME if schema.get("format") == "unixtime" else schema.get("minimum", 1.5)

    def _boolean(self, _schema: dict, _depth: int) -> bool:
        return True
