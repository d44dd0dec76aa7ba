"""Which known phases start a search."""

from __future__ import annotations

import math
import random
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from matsearch.propose.space import anonymous_ratio, group_numbers
from matsearch.reference.known import Phase, Reference

if TYPE_CHECKING:
    import pandas as pd

    from matsearch.propose.settings import SpaceSettings

MAX_HEIGHT = 0.1
"""eV/atom above the hull. Of a phase that was not relaxed this is an upper bound; the campaign relaxes all seeds."""

_SYMBOL = re.compile("[A-Z][a-z]?")
_TERM = re.compile(r"([A-Z][a-z]?)(\d*)|(\()|\)(\d*)")


def choose_seeds(reference: Reference, space: SpaceSettings, n_seeds: int, seed: int) -> list[Phase]:
    """Metastable known phases in the space, one a formula (the lowest), drawn with the seed.

    For a composition: never that itself, but compounds of the same stoichiometry, which show what it may look like.
    For a chemical system also those of some of its elements. Where the space holds no phase, phases of the wanted
    stoichiometry and symmetry with whatever elements: an exchange brings them inside.

    Only the crystals of those that are drawn are built.
    """
    phases = reference.phases
    phases = phases[(phases.energy_above_hull <= MAX_HEIGHT) & (phases.n_atoms <= space.max_atoms)]
    if space.composition is not None:
        pattern = stoichiometry(space.composition)
        inside = [formula != space.composition and stoichiometry(formula) == pattern for formula in phases.formula]
        phases = phases[inside]
    else:
        phases = _alike(phases, space)
        if space.allowed is not None:
            allowed = frozenset(space.allowed)
            inside = phases[[allowed.issuperset(_SYMBOL.findall(formula)) for formula in phases.formula]]
            is_like = space.stoichiometry is not None or space.symmetry is not None
            phases = phases if inside.empty and is_like else inside
    drawn = list(phases.drop_duplicates("formula").index)  # lowest first
    random.Random(f"{seed}/seeds").shuffle(drawn)
    return [
        Phase(
            row.id,
            row.formula,
            reference.structure(row.id),
            float(row.energy_per_atom),
            float(row.energy_above_hull),
            bool(row.relaxed),
        )
        for row in phases.loc[drawn[:n_seeds]].itertuples()
    ]


def _alike(phases: pd.DataFrame, space: SpaceSettings) -> pd.DataFrame:
    """Those of the wanted stoichiometry, symmetry and size; of any size where none is as large as that."""
    if space.stoichiometry is not None:
        ratio = anonymous_ratio(space.stoichiometry)
        phases = phases[[stoichiometry(formula) == ratio for formula in phases.formula]]
    if space.symmetry is not None:
        phases = phases[phases.spacegroup.isin(group_numbers(space.symmetry))]
    if space.min_atoms is not None and not (large := phases[phases.n_atoms >= space.min_atoms]).empty:
        phases = large
    return phases


@lru_cache(maxsize=1 << 18)
def stoichiometry(formula: str) -> tuple[int, ...]:
    """Numbers of atoms of the elements in a reduced formula, ascending, in lowest terms: (1, 1, 3) for `CaTiO3`."""
    counts: dict[str, int] = {}
    group: dict[str, int] | None = None
    for symbol, count, opens, times in _TERM.findall(formula):
        if symbol:
            into = counts if group is None else group
            into[symbol] = into.get(symbol, 0) + int(count or 1)
        elif opens:
            group = {}
        else:
            for inner, n in (group or {}).items():
                counts[inner] = counts.get(inner, 0) + n * int(times or 1)
            group = None
    divisor = math.gcd(*counts.values()) or 1
    return tuple(sorted(count // divisor for count in counts.values()))
