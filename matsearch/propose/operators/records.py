"""What flows through an operator: parents in, the change that an attempt made, a proposal out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True, slots=True)
class Parent:
    """A crystal to start from.

    Attributes:
        structure: Ordered, in any cell.
        id: Of the candidate, or of the known phase.
    """

    structure: Structure
    id: int | str


@dataclass(frozen=True, slots=True)
class Change:
    """What one attempt made.

    Attributes:
        structure: The new crystal; not checked yet.
        text: What was done, for a person: `Sr for Ca`.
        used: Ids of the parents that it was made from; a known phase from the pool counts as one.
    """

    structure: Structure
    text: str
    used: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A new crystal with where it came from.

    Attributes:
        structure: Passes `check_structure` and lies within the space asked for.
        operator: Name of the operator.
        parents: Ids of the parents, and of the known phases, that it was made from.
        change: What was done, for a person: `Sr for Ca`.
        n_tries: Attempts that it took.
    """

    structure: Structure
    operator: str
    parents: tuple[int | str, ...]
    change: str
    n_tries: int
