"""Whether a reply is the JSON that it was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# What a reasoning model may write before its answer where the server does not cut it off.
THINKING = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def read_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a reply is, with nothing but thinking around it, or None."""
    try:
        value = json.loads(THINKING.sub("", text, count=1))
    except (ValueError, RecursionError):  # not JSON, a number of thousands of digits, nested without end
        return None
    return value if isinstance(value, dict) else None


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value is what a JSON schema describes.

    Knows types, properties, items, their number, enumerations and alternatives, which is what servers can hold a model
    to; any other keyword counts as fulfilled.
    """
    kinds = schema.get("type", [])
    return (
        (not kinds or any(_is_a(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)))
        and ("enum" not in schema or value in schema["enum"])
        and ("const" not in schema or value == schema["const"])
        and ("anyOf" not in schema or any(fits(value, one) for one in schema["anyOf"]))
        and (not isinstance(value, dict) or _properties_fit(value, schema))
        and (not isinstance(value, list) or _items_fit(value, schema))
    )


def _properties_fit(value: dict[str, Any], schema: Mapping[str, Any]) -> bool:
    known = schema.get("properties", {})
    if schema.get("additionalProperties") is False and not value.keys() <= known.keys():
        return False
    if not all(key in value for key in schema.get("required", ())):
        return False
    return all(fits(item, known[key]) for key, item in value.items() if key in known)


def _items_fit(value: list[Any], schema: Mapping[str, Any]) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return False
    return all(fits(item, schema.get("items", {})) for item in value)


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # a bool is an int to Python, not to JSON
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES.get(kind, object))
