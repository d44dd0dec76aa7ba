"""Crystals of many kinds for tests of potentials, from builders: no data needed."""

from functools import cache

import numpy as np
from ase.spacegroup import crystal
from pymatgen.core import Lattice, Structure

from matsearch.potential.ase import to_structure

RATTLE = 0.1
"""Å; standard deviation of what each coordinate is moved."""
STRAIN = 0.03
"""Largest component of the strain."""


@cache
def prototypes() -> dict[str, Structure]:
    """Undistorted crystals of 1 to 80 atoms, by name."""
    cubic, fluorite = Lattice.cubic, [[0, 0, 0], [0.25] * 3]
    perovskite = [[0] * 3, [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    water = [[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]]
    hexagonal = [3.18, 3.18, 12.9, 90, 90, 120]
    return {
        "rocksalt MgO": _crystal("Mg O", [[0] * 3, [0.5] * 3], 225, 4.21),
        "fluorite CeO2": _crystal("Ce O", fluorite, 225, 5.41),
        "perovskite BaTiO3": Structure(cubic(4.02), ["Ba", "Ti", "O", "O", "O"], perovskite),
        "spinel MgFe2O4": _crystal("Mg Fe O", [[0] * 3, [0.625] * 3, [0.387] * 3], 227, 8.4, primitive=True),
        "layered MoS2": _crystal("Mo S", [[1 / 3, 2 / 3, 0.25], [1 / 3, 2 / 3, 0.62]], 194, hexagonal),
        "water, sparse": Structure(cubic(7.0), ["O", "H", "H"], water, coords_are_cartesian=True),
        "copper": _crystal("Cu", [[0] * 3], 225, 3.61),
        "iron": Structure(cubic(2.87), ["Fe", "Fe"], [[0] * 3, [0.5] * 3]),
        "aluminium, one atom": _crystal("Al", [[0] * 3], 225, 4.05, primitive=True),
        "tungsten, one atom": _crystal("W", [[0] * 3], 229, 3.16, primitive=True),
        "hydride LaH10": _crystal("La H H", [[0.5] * 3, [0.25] * 3, [0.12] * 3], 225, 5.1, primitive=True),
        "lithium hydride": _crystal("Li H", [[0] * 3, [0.5] * 3], 225, 4.08),
        "triclinic LiFeO2": Structure(
            Lattice.from_parameters(4.1, 5.0, 5.6, 75, 82, 99),
            ["Li", "Fe", "O", "O"],
            [[0.02, 0.05, 0.0], [0.5, 0.48, 0.51], [0.52, 0.03, 0.47], [0.03, 0.51, 0.49]],
        ),
        "heavy UO2": _crystal("U O", fluorite, 225, 5.47, primitive=True),
        "heavy PuBi": _crystal("Pu Bi", [[0] * 3, [0.5] * 3], 225, 6.35),
        "no angles, CsI": Structure(cubic(4.57), ["Cs", "I"], [[0] * 3, [0.5] * 3]),
        "no angles, xenon": _crystal("Xe", [[0] * 3], 225, 6.2),
        "one short bond, H2": Structure(cubic(8.0), ["H", "H"], [[0] * 3, [0, 0, 0.093]]),
        "silicon, 64 atoms": _crystal("Si", [[0] * 3], 227, 5.43) * (2, 2, 2),
        "perovskite SrTiO3, 80 atoms": Structure(cubic(3.93), ["Sr", "Ti", "O", "O", "O"], perovskite) * (2, 2, 4),
    }


def _crystal(
    symbols: str, positions: list[list[float]], group: int, cell: float | list[float], *, primitive: bool = False
) -> Structure:
    """A crystal from its asymmetric unit; one number for a cell is the edge of a cube."""
    cell = cell if isinstance(cell, list) else [cell, cell, cell, 90, 90, 90]
    return to_structure(crystal(symbols.split(), positions, spacegroup=group, cellpar=cell, primitive_cell=primitive))


def distorted(structure: Structure, seed: int) -> Structure:
    """A structure strained at random, its atoms moved at random, in a right-handed cell."""
    rng = np.random.default_rng(seed)
    strain = rng.uniform(-STRAIN, STRAIN, (3, 3))
    cell = structure.lattice.matrix @ (np.eye(3) + (strain + strain.T) / 2)
    positions = structure.frac_coords @ cell + rng.normal(scale=RATTLE, size=(len(structure), 3))
    if np.linalg.det(cell) < 0:
        cell = cell[[1, 0, 2]]
    return Structure(cell, structure.species, positions, coords_are_cartesian=True)


def generated_crystals() -> dict[str, Structure]:
    """Each prototype, distorted."""
    return {name: distorted(one, seed) for seed, (name, one) in enumerate(prototypes().items())}
