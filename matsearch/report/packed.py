"""Data inside a page: JSON, compressed, as base64, so that nothing an LLM wrote stands in the page as it came."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

PLACES = 5
"""Decimals of a packed crystal's lattice vectors (Å) and fractional coordinates: within 1e-3 Å in any cell."""


def pack(content: Any) -> str:
    """JSON-like content as base64 of gzip; the same content gives the same text."""
    return pack_text(json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def pack_text(text: str) -> str:
    """Text as base64 of gzip."""
    return base64.b64encode(gzip.compress(text.encode("utf-8"), mtime=0)).decode()


def unpack(text: str) -> Any:
    """What `pack` was given, tuples as lists."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def pack_crystal(text: str) -> list[Any]:
    """A crystal of the store in whole numbers, which compress well.

    Args:
        text: As `matsearch.crystal.text.to_json` writes it.

    Returns:
        Lattice vectors (9 numbers), element and count of each run of sites, fractional coordinates, and the charges of
        the sites where the potential gave any; in units of 10**-PLACES (Å, fractions, e).
    """
    content = json.loads(text)
    runs: list[Any] = []
    for symbol in content["species"]:
        if runs and runs[-2] == symbol:
            runs[-1] += 1
        else:
            runs += [symbol, 1]
    scale = 10**PLACES
    return [
        [round(value * scale) for row in content["lattice"] for value in row],
        runs,
        [round(value * scale) for row in content["frac_coords"] for value in row],
        *([[round(value * scale) for value in charges]] if (charges := content.get("charges")) else []),
    ]
