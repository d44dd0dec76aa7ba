"""Prototype transfer: elements on the sites of another known structure type of the same stoichiometry.

Without parents this is the baseline of random prototypes: any type, random elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matsearch.crystal.prototype import prototype_label
from matsearch.propose.operators.base import Operator, count, refusal, symbols_of
from matsearch.propose.operators.compositions import allowed_elements, cell_formula, random_elements, reduced_counts
from matsearch.propose.operators.oxidation import electronegativity
from matsearch.propose.operators.pool import Pool, Type
from matsearch.propose.operators.records import Change, Parent
from matsearch.propose.operators.substitution import assign
from matsearch.propose.operators.volumes import with_elements
from matsearch.propose.space import most_atoms, target_counts
from matsearch.records import Rejection
from matsearch.reference.catalogue import amounts_in

if TYPE_CHECKING:
    import numpy as np

    from matsearch.propose.space import Space

N_PHASES = 20
"""Phases of which one with like electronegativities is taken."""
ELECTRONEGATIVITY_RANGE = 0.3
"""Pauling units of mean difference over which the likelihood of a phase falls to 1/e."""


class Prototype(Operator):
    """Puts the elements of a parent, or of the given composition, on another structure type of that stoichiometry.

    Of some phases, drawn by the square root of how many near the hull share their type, one with like
    electronegativities is taken. Without parents and composition it does what `RandomPrototype` does.
    """

    name = "prototype"
    min_parents = 0

    def attempt(self, parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One type, one assignment of the elements."""
        if space.composition is None and not parents:
            return random_prototype(self, space, rng)
        used: tuple[int | str, ...] = ()
        known = ""
        if space.composition is not None:
            target = target_counts(space)
        else:
            parent = parents[int(rng.integers(len(parents)))]
            counts = count(symbols_of(parent.structure))
            target = reduced_counts(counts)
            used, known = (parent.id,), prototype_label(parent.structure)
        types = [one for one in self.pool.types_of(list(target.values()), most_atoms(space)) if one.label != known]
        if not types:
            return refusal(
                "no_prototype", f"no other known structure type has the stoichiometry of {cell_formula(target)}"
            )
        chosen, phase_id = self._like(target, types, rng)
        return put(self.pool, chosen, phase_id, target, used, rng)

    def _like(self, target: Mapping[str, int], types: Sequence[Type], rng: np.random.Generator) -> tuple[Type, str]:
        """A type and one of its phases."""
        import numpy as np

        phases = self.pool.draw_type(types, rng, N_PHASES)
        wanted = sorted(map(electronegativity, target))
        found = np.array([sorted(map(electronegativity, amounts_in(self.pool.formula(name)))) for _, name in phases])
        likeness = np.exp(-np.abs(found - wanted).mean(axis=1) / ELECTRONEGATIVITY_RANGE)
        return phases[int(rng.choice(len(phases), p=likeness / likeness.sum()))]


class RandomPrototype(Operator):
    """A random known structure type with random elements that can be neutral; takes no notice of parents."""

    name = "random_prototype"
    min_parents = 0

    def attempt(self, _parents: Sequence[Parent], space: Space, rng: np.random.Generator) -> Change | Rejection:
        """One type, one set of elements."""
        if space.composition is not None:
            types = self.pool.types_of(list(target_counts(space).values()), most_atoms(space))
            if not types:
                return refusal("no_prototype", f"no known structure type has the stoichiometry of {space.composition}")
            [(chosen, phase_id)] = self.pool.draw_type(types, rng)
            return put(self.pool, chosen, phase_id, target_counts(space), (), rng)
        return random_prototype(self, space, rng)


def put(
    pool: Pool,
    chosen: Type,
    phase_id: str,
    target: Mapping[str, int],
    used: tuple[int | str, ...],
    rng: np.random.Generator,
) -> Change | Rejection:
    """The elements of a composition on the sites of a phase of the pool."""
    structure = pool.structure(phase_id)
    renamed = assign(count(symbols_of(structure)), target, rng)
    if isinstance(renamed, Rejection):
        return renamed
    text = f"{cell_formula(target)} as {_name(structure.composition.reduced_formula, chosen)}"
    return Change(with_elements(structure, renamed), text, (*used, phase_id))


def random_prototype(operator: Operator, space: Space, rng: np.random.Generator) -> Change | Rejection:
    """One phase of a random type, with random elements in the roles of its own."""
    allowed = allowed_elements(space)
    types = operator.pool.types_for(space, most_atoms(space), len(allowed))
    if not types:
        return refusal("no_prototype", "no known structure type is that small")
    [(chosen, phase_id)] = operator.pool.draw_type(types, rng)
    structure = operator.pool.structure(phase_id)
    counts = count(symbols_of(structure))
    renamed = random_elements(counts, allowed, rng)
    made = reduced_counts({renamed[symbol]: n for symbol, n in counts.items()})
    text = f"{cell_formula(made)} as {_name(structure.composition.reduced_formula, chosen)}"
    return Change(with_elements(structure, renamed), text, (phase_id,))


def _name(formula: str, chosen: Type) -> str:
    return f"{formula} ({chosen.label.split('_', 1)[1]})"
