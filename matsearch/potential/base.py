"""What a potential is: structures in, predictions out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from typing import TYPE_CHECKING

from matsearch.errors import PotentialError
from matsearch.records import Prediction, Rejection, Stage

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential.batch import BatchPrediction, CrystalBatch


class Potential(ABC):
    """A machine-learning potential.

    Attributes:
        name: As `load_potential` knows it; hulls and stored results are keyed by it.
        energy_scale: What its energies mean (`mp2020`, `pbe-raw`, `r2scan`, ...). Energies of two scales never meet.
        elements: Symbols it was trained on.
        device: Where it runs.
        energy_references: Composition energy of each element by symbol, in eV/atom, where the energy is a network's
            plus those, fitted so that the network's part is small for every crystal (not energies of free atoms);
            None otherwise. `matsearch.potential.domain` holds the network's part to a floor.
        not_finite: What it means where an energy is NaN.
        is_term: Whether its energy is a term that others lack (dispersion, electrostatics) and no whole energy.
        needs_refit: Of a term: why it adds only to a potential that was fitted beside it; None where it adds to any.
        fitted_beside: Names of the terms that were taken out of the labels that it was trained on.
        holds: Names of the terms that are in its energy already.
        weight_files: What it read its weights from; their hashes stand in a campaign's provenance.
    """

    name: str
    energy_scale: str
    elements: frozenset[str]
    device: str
    energy_references: dict[str, float] | None = None
    not_finite: str = "the energy is not finite"
    is_term: bool = False
    needs_refit: str | None = None
    fitted_beside: frozenset[str] = frozenset()
    holds: frozenset[str] = frozenset()
    weight_files: tuple[Traversable, ...] = ()

    @abstractmethod
    def predict(self, structures: Sequence[Structure]) -> list[Prediction]:
        """Energy, forces and stress of each structure, in order.

        Raises:
            PotentialError: A structure holds an element that the potential was not trained on.
            TypeError: One structure instead of a list of them.
        """

    def energies(self, structures: Sequence[Structure]) -> list[float | Rejection]:
        """Total energy of each structure in eV, in order, for those who need no forces.

        One that lies outside what the potential can know is a rejection (`out_of_domain`), as when it is relaxed.

        Raises:
            PotentialError, TypeError: As `predict`.
        """
        return [self._trusted(one.energy, one.out_of_domain) for one in self.predict(structures)]

    @staticmethod
    def _trusted(energy: float, out_of_domain: str | None) -> float | Rejection:
        if out_of_domain is None and not math.isfinite(energy):
            out_of_domain = "the energy is not finite"
        return energy if out_of_domain is None else Rejection(Stage.RELAX, "out_of_domain", out_of_domain)

    def evaluate(self, batch: CrystalBatch) -> BatchPrediction:
        """Energies, forces and stresses of a batch; the relaxation calls this at every step.

        This one asks `predict` about each crystal; a potential that computes on the batch itself
        (`matsearch.potential.batched.BatchedPotential`) is much faster.

        Raises:
            PotentialError: A crystal holds an element that the potential was not trained on.
        """
        from matsearch.potential.batch import gather

        return gather(batch, self.predict(batch.structures()))

    def require_predictable(self, structures: Sequence[Structure]) -> None:
        """Refuse what no potential has an answer to.

        Raises:
            PotentialError: A structure holds an untrained element, a partly occupied site, coordinates that are no
                numbers, or a lattice that is not periodic in all three directions.
            TypeError: One structure instead of a list of them.
        """
        import numpy as np

        self.require_trained(structures)
        for number, structure in enumerate(structures):
            if not structure.is_ordered:
                raise PotentialError(f"{self.name} needs one element a site; structure {number} is disordered")
            if not (np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()):
                raise PotentialError(f"{self.name} needs finite coordinates; structure {number} holds NaN or inf")
            if not all(structure.lattice.pbc):
                periodic = " ".join("FT"[bool(one)] for one in structure.lattice.pbc)
                raise PotentialError(
                    f"{self.name} needs crystals periodic along all three vectors; structure {number} has "
                    f"pbc = {periodic}; leave vacuum (8 Å) along the others and make its Lattice fully periodic"
                )

    def untrained(self, structure: Structure) -> list[str]:
        """Symbols in the structure that the potential was not trained on, sorted."""
        return sorted({element.symbol for element in structure.composition.elements} - self.elements)

    def require_trained(self, structures: Sequence[Structure]) -> None:
        """Refuse elements the potential was not trained on.

        Raises:
            PotentialError: Names them and the structure.
            TypeError: One structure instead of a list of them.
        """
        from pymatgen.core import IStructure

        if isinstance(structures, IStructure):  # itself a sequence, of sites
            raise TypeError("predict takes a list of structures; write predict([structure])")
        for number, structure in enumerate(structures):
            if not isinstance(structure, IStructure):
                raise TypeError(
                    f"predict takes pymatgen structures; number {number} of the list is a {type(structure).__name__}"
                )
            if missing := self.untrained(structure):
                raise PotentialError(
                    f"{self.name} was not trained on {', '.join(missing)} (structure {number}, "
                    f"{structure.composition.reduced_formula}); take it out or use another potential"
                )
