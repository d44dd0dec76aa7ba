"""Where an energy surface has holes under compression, and which of them the guard of the domain flags.

    python benchmarks/energy_holes.py [--potentials chgnet-0.3.0 chgnet-r2scan]

35 prototype crystals are compressed from 1.3 to 0.15 of their volume V0 at the lowest energy between 0.8 and 1.3 of the
measured one. A crystal has a hole where its energy falls below that minimum. Then each is deformed along four random
paths that shrink one direction more than another.
"""

import argparse
import warnings

import numpy as np
from pymatgen.core import Lattice, Structure

from matsearch.potential import load_potential
from matsearch.potential.batch import BatchPrediction, CrystalBatch
from matsearch.potential.domain import out_of_domain

SCALES = np.concatenate([np.arange(1.30, 0.61, -0.05), np.arange(0.60, 0.149, -0.01)])


def prototypes():
    """Name and structure of each crystal, at its measured lattice constants (Å)."""

    def cubic(group, a, species, sites):
        return Structure.from_spacegroup(group, Lattice.cubic(a), species, sites).get_primitive_structure()

    origin, quarter, half = [0, 0, 0], [0.25, 0.25, 0.25], [0.5, 0.5, 0.5]
    for formula, a in {
        "NaCl": 5.640, "KCl": 6.293, "LiF": 4.026, "MgO": 4.212, "CaO": 4.811, "NiO": 4.177, "TiN": 4.241, "TiC": 4.328,
        "PbTe": 6.462, "KBr": 6.600,
    }.items():  # fmt: skip
        yield f"{formula} rocksalt", cubic("Fm-3m", a, _split(formula), [origin, half])
    for formula, a in {"GaAs": 5.653, "ZnS": 5.409, "SiC": 4.360, "BN": 3.616}.items():
        yield f"{formula} zincblende", cubic("F-43m", a, _split(formula), [origin, quarter])
    for formula, a in {"CaF": 5.463, "ZrO": 5.070, "CeO": 5.411}.items():
        yield f"{formula}2 fluorite", cubic("Fm-3m", a, _split(formula), [origin, quarter])
    yield "Li2O antifluorite", cubic("Fm-3m", 4.619, ["O", "Li"], [origin, quarter])
    for formula, a in {"CsCl": 4.123, "NiAl": 2.887}.items():
        yield f"{formula} B2", cubic("Pm-3m", a, _split(formula), [origin, half])
    for formula, a in {"SrTi": 3.905, "BaTi": 4.000, "KZn": 4.056}.items():
        anion = "F" if formula == "KZn" else "O"
        yield (
            f"{formula}{anion}3 perovskite",
            cubic("Pm-3m", a, [*_split(formula), anion], [origin, half, [0.5, 0.5, 0]]),
        )
    for element, a in {"C": 3.567, "Si": 5.431}.items():
        yield f"{element} diamond", cubic("Fd-3m", a, [element], [origin])
    for element, a in {"Al": 4.050, "Cu": 3.615, "Au": 4.078, "Pb": 4.951}.items():
        yield f"{element} fcc", cubic("Fm-3m", a, [element], [origin])
    for element, a in {"Fe": 2.866, "W": 3.165, "Na": 4.291}.items():
        yield f"{element} bcc", cubic("Im-3m", a, [element], [origin])
    for element, (a, c) in {"Mg": (3.209, 5.211), "Ti": (2.951, 4.684)}.items():
        sites = [[1 / 3, 2 / 3, 0.25]]
        yield f"{element} hcp", Structure.from_spacegroup("P6_3/mmc", Lattice.hexagonal(a, c), [element], sites)
    rutile = Lattice.tetragonal(4.594, 2.959)
    yield "TiO2 rutile", Structure.from_spacegroup("P4_2/mnm", rutile, ["Ti", "O"], [origin, [0.305, 0.305, 0]])


def _split(formula):
    second = max(index for index, letter in enumerate(formula) if letter.isupper())
    return [formula[:second], formula[second:]]


def scaled(structure, scales):
    """The crystal at these fractions of its volume."""
    crystals = [structure.copy() for _ in scales]
    for crystal, scale in zip(crystals, scales, strict=True):
        crystal.scale_lattice(structure.volume * scale)
    return crystals


def deformed(structure, rng, n_paths=4):
    """The crystal along random paths to 0.16 of its volume, where opposite faces stay 0.5 Å apart."""
    crystals = []
    for _ in range(n_paths):
        slope = rng.normal(size=(3, 3))
        slope = 0.5 * (slope + slope.T)
        slope = rng.uniform(0.05, 0.25) * (slope - np.eye(3) * np.trace(slope) / 3) - np.eye(3) / 3
        values, axes = np.linalg.eigh(slope)
        for logarithm in (0.2, 0.5, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8):
            matrix = structure.lattice.matrix @ (axes * np.exp(values * logarithm)) @ axes.T
            if np.linalg.norm(np.linalg.inv(matrix), axis=0).max() < 2:
                crystals.append(Structure(matrix, structure.species, structure.frac_coords))
    return crystals


def judge(potential, crystals):
    """Energies in eV/atom and what the guard says."""
    energies, texts = [], []
    for crystal in crystals:  # one by one: the pairs of a compressed cell are many
        batch = CrystalBatch.from_structures([crystal], potential.device)
        prediction: BatchPrediction = potential.evaluate(batch)
        energies.append(float(prediction.energies[0]) / len(crystal))
        texts += out_of_domain(batch, prediction.energies, potential)
    return np.array(energies), texts


def measure(potential):
    """Print where crystals fall below their minimum, and what of it is flagged."""
    print(f"{potential.name}: energies in eV/atom relative to the minimum near the measured volume")
    rng = np.random.default_rng(3)
    fallen, n_paths = [], 0
    n_crystals, n_holes, n_points, n_flagged, unflagged, false_flags = 0, 0, 0, 0, [], []
    for name, structure in prototypes():
        near = np.arange(0.8, 1.31, 0.02)
        energies, _ = judge(potential, scaled(structure, near))
        lowest = energies.min()
        structure.scale_lattice(structure.volume * near[energies.argmin()])
        energies, texts = judge(potential, scaled(structure, SCALES))
        depth = energies - lowest
        flagged = np.array([text is not None for text in texts])
        false_flags += [f"{name} at {SCALES[k]:.2f} V0: {texts[k]}" for k in np.flatnonzero(flagged & (SCALES > 0.599))]
        hole = depth < -0.01
        n_crystals += 1
        n_holes += bool(hole.any())
        deep = depth < -1
        n_points += int(deep.sum())
        n_flagged += int((deep & flagged).sum())
        unflagged += [f"{name} at {SCALES[k]:.2f} V0: {depth[k]:.2f}" for k in np.flatnonzero(hole & ~flagged)]
        paths = deformed(structure, rng)
        energies, texts = judge(potential, paths)
        fallen += [
            (name, energy - lowest, one.volume / structure.volume, text)
            for one, energy, text in zip(paths, energies, texts, strict=True)
            if energy - lowest < -0.01
        ]
        n_paths += len(paths)
        first = SCALES[flagged].max(initial=0)
        if hole.any():
            print(
                f"  {name:22s} falls below its minimum from {SCALES[hole].max():.2f} V0 on, to {depth.min():.2f} at "
                f"{SCALES[depth.argmin()]:.2f} V0; flagged below {first:.2f} V0"
            )
    print(f"  {n_holes} of {n_crystals} crystals fall below their minimum")
    print(f"  points more than 1 eV/atom below: {n_points}, flagged: {n_flagged}")
    print(f"  points more than 0.01 eV/atom below that are not flagged: {len(unflagged)}")
    print("\n".join(f"    {line}" for line in unflagged))
    print(f"  flags between 0.6 and 1.3 V0, all false: {len(false_flags)}")
    print("\n".join(f"    {line}" for line in false_flags))
    missed = [f"{name} at {ratio:.2f} V0: {depth:.2f}" for name, depth, ratio, text in fallen if text is None]
    print(f"  random deformations: {n_paths}, below the minimum: {len(fallen)}, of those not flagged: {len(missed)}")
    print("\n".join(f"    {line}" for line in missed))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potentials", nargs="+", default=["chgnet-0.3.0", "chgnet-r2scan"])
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)
    for name in arguments.potentials:
        measure(load_potential(name, "cpu"))


if __name__ == "__main__":
    main()
