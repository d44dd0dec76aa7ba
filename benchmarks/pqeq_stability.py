"""Which crystals have no PQEq charges: all elements in six structure types, at three volumes.

Every element takes each site of NaCl, CsCl, fluorite and perovskite beside common partners, and fills bcc and fcc.
Nearest neighbours are as far apart as the sum of their covalent radii (Cordero et al. 2008) at 0 %. A crystal fails
where the second derivatives of its energy in charges and shells are not positive on neutral variations, or no
stationary point is found.

    python benchmarks/pqeq_stability.py [--set pqeq-generic] [--supercell 2]

A supercell has more ways to fail: its shells may move against each other from cell to cell.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter, defaultdict

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import CrystalBatch

FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
PARTNERS = {
    "NaCl": ["X O", "X Cl", "Na X"],
    "CsCl": ["X Cl", "Cs X"],
    "fluorite": ["X F", "X O", "X Na"],
    "perovskite": ["X Ti O", "Ba X O"],
    "bcc": ["X"],
    "fcc": ["X"],
}
STRAINS = (-0.05, 0.0, 0.05)


def distance(first: str, second: str) -> float:
    """Sum of covalent radii in Å."""
    return float(covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]])


def crystal(kind: str, symbols: list[str]) -> Structure:
    """A crystal of a structure type with atoms that touch."""
    cubic = Lattice.cubic
    if kind == "NaCl":
        return Structure(Lattice(distance(*symbols) * (1 - np.eye(3))), symbols, [[0] * 3, [0.5] * 3])
    if kind == "CsCl":
        return Structure(cubic(2 * distance(*symbols) / np.sqrt(3)), symbols, [[0] * 3, [0.5] * 3])
    if kind == "fluorite":
        side = 4 * distance(*symbols) / np.sqrt(3)
        sites = [[0] * 3, [0.25] * 3, [0.75] * 3]
        return Structure(Lattice(side / 2 * (1 - np.eye(3))), [symbols[0], symbols[1], symbols[1]], sites)
    if kind == "perovskite":
        a, b, x = symbols
        side = max(2 * distance(b, x), np.sqrt(2) * distance(a, x))
        return Structure(cubic(side), [a, b, x, x, x], [[0] * 3, [0.5] * 3, *FCC[1:]])
    side = distance(symbols[0], symbols[0])
    if kind == "bcc":
        return Structure(Lattice(side / np.sqrt(3) * (1 - 2 * np.eye(3))), symbols, [[0] * 3])
    return Structure(Lattice(side / np.sqrt(2) * (1 - np.eye(3))), symbols, [[0] * 3])


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default="pqeq", help="pqeq, pqeq-generic or pqeq-refitted")
    parser.add_argument("--supercell", type=int, default=1, help="unit cells along each lattice vector")
    name, repeats = parser.parse_args().set, parser.parse_args().supercell
    warnings.simplefilter("ignore")
    potential = load_potential(name, "cpu")
    made, labels = [], []
    for element in sorted(potential.elements, key=atomic_numbers.__getitem__):
        for kind, patterns in PARTNERS.items():
            for pattern in patterns:
                symbols = [element if one == "X" else one for one in pattern.split()]
                for strain in STRAINS:
                    one = crystal(kind, symbols)
                    made.append((one.scale_lattice(one.volume * (1 + strain)) or one) * repeats)
                    labels.append((element, f"{kind} ({pattern})", strain))
    failures: dict[int, str] = {}
    for start in range(0, len(made), 500):
        found = potential.equilibrium(CrystalBatch.from_structures(made[start : start + 500]))
        failures |= {start + number: why for number, why in found.failures.items()}
    by_kind: dict[str, Counter[float]] = defaultdict(Counter)
    by_element: dict[str, list[str]] = defaultdict(list)
    totals = Counter((kind, strain) for _, kind, strain in labels)
    for number in failures:
        element, kind, strain = labels[number]
        by_kind[kind][strain] += 1
        by_element[element].append(f"{kind} {100 * strain:+.0f} %")
    print(f"{name}: {len(failures)} of {len(made)} crystals have no charges: {dict(Counter(failures.values()))}")
    for kind in dict.fromkeys(kind for _, kind, _ in labels):
        counts = ", ".join(f"{by_kind[kind][one]} of {totals[kind, one]} at {100 * one:+.0f} %" for one in STRAINS)
        print(f"  {kind:22} {counts}")
    for element, where in by_element.items():
        print(f"  {element:2} {len(where):2}: {'; '.join(where)}")


if __name__ == "__main__":
    main()
