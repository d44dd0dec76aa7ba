"""Polarizabilities of molecules in PQEq, charges and shells, beside measured ones: why pqeq-far has a harder hydrogen.

    python benchmarks/polarizability.py [--hardness 15.57338,17,18,19,21]

Mean static polarizabilities in Å^3, from the curvature of the energy in a field along each axis, across vacuum; those
measured as compiled in NIST's CCCBDB, geometries from ASE's G2 set. One column for each hardness of H (eV/e²), with the
other parameters those of Gao et al.; the last lines are the charge of oxygen in water, and over the molecules with
hydrogen the median ratio to what is measured.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import numpy as np
import torch
from ase.build import molecule
from pymatgen.core import Lattice, Structure

from matsearch.potential.longrange.conditions import Conditions
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.pqeq import PQEq, PQEqParameters

MEASURED = {
    "H2O": 1.45,
    "NH3": 2.10,
    "CH4": 2.45,
    "HF": 0.80,
    "H2": 0.79,
    "HCl": 2.52,
    "SH2": 3.63,
    "C2H6": 4.23,
    "C2H4": 4.19,
    "C2H2": 3.49,
    "CH3OH": 3.08,
    "C6H6": 9.99,
    "CO2": 2.51,
    "CO": 1.95,
    "N2": 1.71,
    "O2": 1.56,
}
BOX = 16.0
"""Å."""
FIELD = 0.02
"""V/Å."""


def structure(name: str) -> Structure:
    """A molecule amid vacuum."""
    atoms = molecule(name)
    places = atoms.positions - atoms.positions.mean(0) + BOX / 2
    return Structure(Lattice.cubic(BOX), atoms.get_chemical_symbols(), places, coords_are_cartesian=True)


def polarizability(potential: PQEq, molecule: Structure) -> float:
    """Mean over the axes, Å^3."""
    (rest,) = potential.predict([molecule])
    found = []
    for axis in range(3):
        energies = []
        for sign in (-1, 1):
            field = torch.zeros(3, dtype=torch.float64)
            field[axis] = sign * FIELD
            conditions = Conditions(field=field, slab_axis=axis)
            energies.append(potential.predict_under([molecule], conditions)[0].energy)
        found.append(COULOMB * (2 * rest.energy - sum(energies)) / FIELD**2)
    return float(np.mean(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardness", default="15.57338,17,18,19,21")
    asked = parser.parse_args()
    published = PQEqParameters.published("pqeq")
    columns = [float(one) for one in asked.hardness.split(",")]
    potentials = []
    for hardness in columns:
        eta = published.eta.clone()
        eta[1] = hardness
        potentials.append(PQEq("one", replace(published, eta=eta)))
    print(f"{'':10}{'measured':>10}" + "".join(f"{one:10.3f}" for one in columns))
    ratios = []
    for name, measured in MEASURED.items():
        values = [polarizability(one, structure(name)) for one in potentials]
        print(f"{name:10}{measured:10.2f}" + "".join(f"{one:10.2f}" for one in values), flush=True)
        if "H" in name:
            ratios.append([one / measured for one in values])
    charges = [one.predict([structure("H2O")])[0].charges for one in potentials]
    assert all(one is not None and math.isfinite(one[0]) for one in charges)
    print(f"{'O in water':20}" + "".join(f"{one[0]:10.3f}" for one in charges if one is not None))
    print(f"{'median ratio':20}" + "".join(f"{one:10.3f}" for one in np.median(ratios, axis=0)))


if __name__ == "__main__":
    main()
