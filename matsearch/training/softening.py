"""Softening: how much too weakly a potential pulls on crystals away from their minima, and what one label mends.

Potentials trained on relaxations saw mostly crystals near rest, and give forces (and curvatures) of others too small.
The softening scale is the slope of predicted against reference force components through the origin,

    slope = sum F_ref F_ml / sum F_ref²      (below 1 is soft),

and most of the error is that slope: one labelled structure gives the factor that mends it,

    c = sum F_ref F_ml / sum F_ml²,      E = E_composition + c E_network,

forces and stress times c (Deng et al., npj Comput. Mater. 11, 9 (2025), who found 0.859 to become 0.965 for CHGNet). It
is the least-squares factor: on its own datum the slope becomes the squared correlation of the forces, at most 1. So a
crystal near rest, whose small forces no potential gets right, would make a potential softer: such a label is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from matsearch.potential.base import Potential
    from matsearch.potential.corrected import CorrectedPotential


LEAST_EXPLAINED = 0.8
"""Squared correlation of a label's forces with the predicted ones. Of 15 frames of BaTiO3 the one near rest has 0.42
and would scale CHGNet by 0.44, where the others have 0.96 and more (`benchmarks/softening.py`)."""


@dataclass(frozen=True, slots=True)
class Softening:
    """Predicted against reference forces.

    Attributes:
        slope: The softening scale; below 1 is soft.
        mae: Mean absolute difference of the components in eV/Å.
        mae_at_slope_one: The same after the predictions are divided by the slope: what mending leaves (cMAE).
        n_components: Force components compared.
    """

    slope: float
    mae: float
    mae_at_slope_one: float
    n_components: int


def softening(reference: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> Softening:
    """How soft predictions are.

    Args:
        reference: Forces of each structure, [n_atoms, 3] in eV/Å.
        predicted: As many, of the same shapes.

    Raises:
        ValueError: Shapes do not agree, a number is not finite, or there is no force.
    """
    true, told = _components(reference, predicted)
    slope = float(true @ told / (true @ true))
    if slope <= 0:
        raise ValueError(f"predicted forces do not follow the reference (slope {slope:.3f}); compare units and signs")
    return Softening(
        slope=slope,
        mae=float(np.abs(told - true).mean()),
        mae_at_slope_one=float(np.abs(told / slope - true).mean()),
        n_components=len(true),
    )


def one_datum_scale(reference: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> float:
    """The factor c that takes predicted forces nearest to the reference, from one structure or several.

    Raises:
        ValueError: As `softening`; or the forces have little to do with each other (`LEAST_EXPLAINED`).
    """
    true, told = _components(reference, predicted)
    overlap = float(true @ told)
    if overlap <= 0:
        raise ValueError("predicted forces do not follow the reference; compare units and signs")
    explained = overlap**2 / float(true @ true) / float(told @ told)
    if explained < LEAST_EXPLAINED:
        raise ValueError(
            f"predicted forces explain {explained:.2f} of the reference's (least {LEAST_EXPLAINED}), so that no factor "
            "mends them; take a structure farther from rest, with larger forces"
        )
    return overlap / float(told @ told)


def corrected_by(
    potential: Potential, structures: Sequence[Structure], forces: Sequence[np.ndarray]
) -> CorrectedPotential:
    """The potential with the factor of each chemical system that there is a label of.

    Structures of one system share a factor. Crystals of other systems, subsystems included, stay as they are.

    Args:
        potential: Computes on batches and declares composition energies, such as CHGNet.
        structures: One or a few of each system, away from rest (rattled, strained, hot).
        forces: Label of each, [n_atoms, 3] in eV/Å.

    Raises:
        PotentialError: The potential cannot be corrected, or was not trained on an element.
        ValueError: As `one_datum_scale`; names the system.
    """
    from matsearch.potential.corrected import CorrectedPotential, Correction, chemical_system

    if len(structures) != len(forces):
        raise ValueError(f"{len(structures)} structures, but forces of {len(forces)}")
    predicted = [one.forces for one in potential.predict(structures)]
    members: dict[str, list[int]] = {}
    for index, structure in enumerate(structures):
        system = chemical_system(element.symbol for element in structure.composition.elements)
        members.setdefault(system, []).append(index)
    scales = {}
    for system, indices in sorted(members.items()):
        try:
            scales[system] = one_datum_scale([forces[i] for i in indices], [predicted[i] for i in indices])
        except ValueError as err:
            raise ValueError(f"{system}: {err}") from err
    return CorrectedPotential(potential, Correction(base=potential.name, scales=scales))


def _components(reference: Sequence[np.ndarray], predicted: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All components of both, in one row each."""
    shapes = [[np.shape(one) for one in forces] for forces in (reference, predicted)]
    if shapes[0] != shapes[1] or any(len(shape) != 2 or shape[1] != 3 for shape in shapes[0]):
        raise ValueError(f"forces must be [n_atoms, 3] of the same structures; got {shapes[0]} and {shapes[1]}")
    if not shapes[0]:
        raise ValueError("there is no structure")
    true, told = (np.concatenate([np.ravel(one) for one in forces]).astype(float) for forces in (reference, predicted))
    if not (np.isfinite(true).all() and np.isfinite(told).all()):
        raise ValueError("forces must be finite")
    if not (true.any() and told.any()):
        raise ValueError("all forces are zero: rattle the crystal, at rest it shows no curvature")
    return true, told
