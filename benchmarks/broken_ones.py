"""A thousand structures through `ms.relax` on CHGNet, 20 of them broken in seven ways.

    python benchmarks/broken_ones.py [fire | lbfgs]

Prints how many relaxed, the reasons of the others, and the time. The sound ones are the 980 smallest relaxed phases of
the shipped reference, rattled by 0.1 Å and strained by up to 3 % (seed 0).
"""

import sys
import time
import warnings
from collections import Counter

import numpy as np
from pymatgen.core import Lattice, Structure
from relax_throughput import disturbed

import matsearch as ms
from matsearch.reference import load_reference


def broken(sound, kind):
    """The structure with something wrong about it."""
    lattice, species, coords = sound.lattice, list(sound.species), sound.frac_coords
    return [
        lambda: Structure(lattice.matrix * np.nan, species, coords),
        lambda: Structure(lattice, ["Po"] * len(sound), coords),
        lambda: Structure(lattice, [{"Na": 0.5, "K": 0.5}] * len(sound), coords),
        lambda: Structure(Lattice.cubic(30), ["Na"], [[0, 0, 0]]),
        lambda: Structure(lattice.matrix * 0.3, species, coords),
        lambda: Structure(lattice, [*species, species[0]], np.vstack([coords, coords[0] + 0.001])),
        lambda: Structure([[5, 0, 0], [5, 0.001, 0], [0, 0, 5]], ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
    ][kind]()


def main():
    warnings.simplefilter("ignore")
    optimizer = sys.argv[1] if len(sys.argv) > 1 else "lbfgs"
    reference = load_reference("chgnet-0.3.0")
    phases = reference.phases
    phases = phases[phases.relaxed].sort_values(["n_atoms", "id"]).head(980)
    rng = np.random.default_rng(0)
    structures = [disturbed(reference.structure(one), rng) for one in phases.id]
    for number in range(20):
        structures.insert(50 * number, broken(structures[37 * number], number % 7))
    start = time.perf_counter()
    results = ms.relax(structures, ms.load_potential("chgnet-0.3.0"), optimizer=optimizer)
    print(f"{len(results)} structures, {optimizer}, {time.perf_counter() - start:.1f} s")
    fates = (
        one.reason if isinstance(one, ms.Rejection) else ("unconverged", "relaxed")[one.converged] for one in results
    )
    for fate, count in Counter(fates).most_common():
        print(f"  {fate:20s} {count}")


if __name__ == "__main__":
    main()
