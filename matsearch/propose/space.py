"""Which crystals a campaign wants."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Space:
    """Which crystals are wanted; None where anything goes."""

    elements: frozenset[str] | None = None
    max_atoms: int | None = None
    composition: str | None = None
