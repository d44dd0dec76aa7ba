"""From what a model or an endpoint sent to text that can be stored as UTF-8."""

from __future__ import annotations

import re

# A decoded JSON string may hold half of a surrogate pair, which no UTF-8 file or database takes.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD."""
    return LONE_SURROGATE.sub("\ufffd", text)


def decode(raw: bytes) -> tuple[str, bool]:
    """Bytes as text.

    Returns:
        The text, undecodable bytes as U+FFFD; and whether all of it was UTF-8.
    """
    try:
        return raw.decode("utf-8"), True
    except UnicodeDecodeError:
        return raw.decode("utf-8", errors="replace"), False
