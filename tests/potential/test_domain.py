import os
from pathlib import Path

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.potential import Potential, load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.domain import ENERGY_FLOOR, out_of_domain


class Stated(Potential):
    """Says the energies (eV/atom) it was given."""

    name, energy_scale, elements, device = "stated", "none", frozenset(), "cpu"

    def __init__(self, references=None):
        self.energy_references = references

    def predict(self, structures):
        raise NotImplementedError


def guard(structures, energies=None, references=None):
    """What is said of structures with these energies in eV/atom."""
    batch = CrystalBatch.from_structures(structures)
    energies = torch.tensor(energies or [0.0] * len(structures)).double() * torch.tensor(batch.sizes)
    return out_of_domain(batch, energies, Stated(references))


def rocksalt(first, second, a):
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


def molecule(first, second, distance):
    return Structure(Lattice.cubic(9.0), [first, second], [[0, 0, 0], [0, 0, distance]], coords_are_cartesian=True)


def test_crystals_with_the_closest_atoms_known_are_inside():
    diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.567), ["C"], [[0, 0, 0]])
    crystals = {
        "H2": molecule("H", "H", 0.74),
        "F2": molecule("F", "F", 1.41),
        "N2": molecule("N", "N", 1.10),
        "O-H": molecule("H", "O", 0.96),
        "H-F": molecule("H", "F", 0.92),
        "uranyl": molecule("O", "U", 1.75),
        "diamond": diamond,
        "BN": Structure.from_spacegroup("F-43m", Lattice.cubic(3.616), ["B", "N"], [[0, 0, 0], [0.25] * 3]),
        "CeRu": molecule("Ce", "Ru", 2.22),  # Ce3In2Ru2, mp-21556
        "plutonium": molecule("Pu", "Pu", 2.29),  # GaPu, mp-581747
        "CsI": Structure(Lattice.cubic(4.57), ["Cs", "I"], [[0, 0, 0], [0.5] * 3]),
        "MgO at 0.6 of its volume": rocksalt("Mg", "O", 4.212 * 0.6 ** (1 / 3)),
        "dense plutonium": Structure(Lattice.cubic(15.25 ** (1 / 3)), ["Pu"], [[0, 0, 0]]),  # mp-107
    }
    assert dict(zip(crystals, guard(list(crystals.values())), strict=True)) == dict.fromkeys(crystals)


def test_colliding_atoms_are_named_with_their_distance():
    crystal = Structure(Lattice.cubic(6.0), ["O", "Na", "Na"], [[0, 0, 0], [0, 0, 0.2], [0.5, 0.5, 0.5]])
    assert guard([crystal]) == ["Na and O are 1.20 Å apart, 0.52 of the sum of their covalent radii (least 0.58)"]


def test_an_atom_that_meets_its_own_image_is_named():
    (text,) = guard([Structure(Lattice.orthorhombic(0.9, 9, 9), ["Mg"], [[0, 0, 0]])])
    assert text is not None and text.startswith("Mg and Mg are 0.90 Å apart")


def test_the_closest_pair_is_named_and_each_crystal_has_its_own_text():
    good, bad = molecule("H", "H", 0.74), molecule("K", "Cl", 0.5)
    worse = bad.copy()
    worse.append("K", [0.5, 0.5, 0.5])
    worse.append("K", [0.5, 0.5, 0.51])
    texts = guard([good, bad, good, worse])
    assert [text is None for text in texts] == [True, False, True, False]
    assert texts[1].startswith("Cl and K are 0.50 Å apart")
    assert texts[3].startswith("K and K are 0.09 Å apart")


def test_a_crushed_cell_whose_atoms_do_not_collide_is_named():
    (text,) = guard([rocksalt("Ca", "O", 4.811 * 0.32 ** (1 / 3))])
    assert text == "the volume is 0.37 of that of its atoms' covalent spheres (least 0.45)"


def test_energy_floor_is_held_against_the_references_of_the_potential():
    crystal, references = rocksalt("Mg", "O", 4.212), {"Mg": -2.0, "O": -8.0}
    floor = -5.0 + ENERGY_FLOOR
    above, below = guard([crystal, crystal], [floor + 0.01, floor - 0.01], references)
    assert above is None
    assert below == "the energy is -3.01 eV/atom from the references of stated (least -3.0)"
    assert guard([crystal], [-1000.0]) == [None]  # no references, no floor


def test_an_element_without_reference_has_no_floor():
    assert guard([rocksalt("Mg", "O", 4.212)], [-1000.0], {"O": -8.0}) == [None]


@pytest.mark.parametrize("energy", [float("nan"), float("inf"), float("-inf")])
def test_an_energy_that_is_no_number_is_named(energy):
    texts = guard([rocksalt("Mg", "O", 4.212)] * 2, [energy, 0.0])
    assert texts == ["the energy is not finite", None]


@pytest.mark.parametrize(("anion", "a"), [("O", 4.25), ("N", 4.24), ("C", 4.33)])
def test_several_faults_are_all_named(anion, a):
    (text,) = guard([rocksalt("Ti", anion, a / 2)], [-500.0], {"Ti": -9.0, anion: -9.0})
    assert text.count(";") == 2


def test_known_holes_of_the_r2scan_weights_are_flagged_and_the_crystals_beside_them_are_not():
    potential = load_potential("chgnet-r2scan", "cpu")
    scales = [1.2, 1.0, 0.8, 0.6, 0.17]
    crystals = [rocksalt("Mg", "O", 4.212 * scale ** (1 / 3)).get_primitive_structure() for scale in scales]
    batch = CrystalBatch.from_structures(crystals)
    prediction = potential.evaluate(batch)
    texts = out_of_domain(batch, prediction.energies, potential)
    assert prediction.energies[-1] < prediction.energies[:-1].min() - 100  # the hole is there
    assert [text is None for text in texts] == [True, True, True, True, False]
    assert "covalent spheres" in texts[-1] and "eV/atom from the references of chgnet-r2scan" in texts[-1]


@pytest.mark.skipif("MATSEARCH_SHARED" not in os.environ, reason="MATSEARCH_SHARED names no folder of shared data")
def test_computed_crystals_of_the_materials_project_are_inside():
    import pyarrow.parquet as pq

    path = Path(os.environ["MATSEARCH_SHARED"]) / "data" / "mp_structures.parquet"
    if not path.is_file():
        pytest.skip("MATSEARCH_SHARED holds no data/mp_structures.parquet")
    columns = ["lattice", "species", "frac_coords", "formation_energy_mp2020"]
    rows = [
        row for row in pq.read_table(path, columns=columns).to_pylist() if row["formation_energy_mp2020"] is not None
    ]
    chosen = np.random.default_rng(0).choice(len(rows), 500, replace=False)
    crystals = [
        Structure(Lattice.from_parameters(*row["lattice"]), row["species"], np.reshape(row["frac_coords"], (-1, 3)))
        for row in (rows[index] for index in chosen)
    ]
    assert [text for text in guard(crystals) if text] == []
