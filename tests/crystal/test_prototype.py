from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matsearch.crystal.prototype import prototype_label
from matsearch.crystal.tokens import TextError

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.8), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]])
RUTILE = Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]])
QUARTZ = Structure.from_spacegroup(
    "P3_221", Lattice.hexagonal(4.91, 5.40), ["Si", "O"], [[0.47, 0, 2 / 3], [0.414, 0.267, 0.786]]
)
PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0.5] * 3, [0, 0, 0], [0.5, 0, 0]]
)
CRYSTALS = {"rocksalt": ROCKSALT, "rutile": RUTILE, "quartz": QUARTZ, "perovskite": PEROVSKITE}


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("rocksalt", "AB_cF8_225_a_b"),
        ("rutile", "AB2_tP6_136_a_f"),
        ("quartz", "AB2_hP9_152_a_c"),
        ("perovskite", "ABC3_cP5_221_a_b_c"),
    ],
)
def test_labels_of_well_known_prototypes(name, label):
    found = prototype_label(CRYSTALS[name])
    # The hand of quartz is one of the equivalent descriptions: 152 and 154 are mirror images.
    assert found in (label, label.replace("152", "154"))


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_label_does_not_depend_on_setting_supercell_hand_origin_or_order(name):
    structure = CRYSTALS[name]
    label = prototype_label(structure)
    rng = np.random.default_rng(3)
    order = rng.permutation(len(structure))
    shuffled = Structure(
        structure.lattice, [structure[i].specie for i in order], structure.frac_coords[order] + rng.random(3)
    )
    assert prototype_label(shuffled) == label
    exchanged = Structure(
        Lattice(structure.lattice.matrix[[1, 0, 2]]), structure.species, structure.frac_coords[:, [1, 0, 2]]
    )
    assert prototype_label(exchanged) == label
    supercell = structure.copy()
    supercell.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    assert prototype_label(supercell) == label
    assert prototype_label(structure.get_primitive_structure()) == label


def test_the_label_does_not_depend_on_the_names_of_the_species():
    swapped = ROCKSALT.copy()
    swapped.replace_species({"Zn": "S", "S": "Zn"})
    other = ROCKSALT.copy()
    other.replace_species({"Zn": "Na", "S": "Cl"})
    charged = ROCKSALT.copy()
    charged.add_oxidation_state_by_element({"Zn": 2, "S": -2})
    assert len({prototype_label(structure) for structure in (ROCKSALT, swapped, other, charged)}) == 1
    # Perovskite with the origin on either cation.
    moved = PEROVSKITE.copy()
    moved.replace_species({"Sr": "Ti", "Ti": "Sr"})
    moved.translate_sites(list(range(len(moved))), [0.5, 0.5, 0.5])
    assert prototype_label(moved) == prototype_label(PEROVSKITE)


def test_deuterium_is_hydrogen_as_in_pymatgen():
    mixed = Structure(Lattice.cubic(5), ["H", "D"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert prototype_label(mixed) == "A_cI2_229_a"


def test_odd_cells_have_a_label_without_a_space_group():
    double = Structure(Lattice.cubic(3), ["Na", "Cl", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    flat = Structure(Lattice([[3, 0, 0], [0, 3, 0], [3, 3, 0]]), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    infinite = Structure(Lattice.cubic(3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, float("nan")]])
    assert prototype_label(double) == "AB2_?"
    assert prototype_label(flat) == prototype_label(infinite) == "AB_?"
    assert prototype_label(Structure(Lattice.cubic(3), [], [])) == "_?"
    assert prototype_label(Structure(Lattice.cubic(3), ["He"], [[0.2, 0, 0]])) == "A_cP1_221_a"


@pytest.mark.timeout(20)
def test_a_needle_has_a_label_in_finite_time():
    lattice = Lattice.from_parameters(73.21831566712643, 2.957338856369638, 3.0975697914056393, 60, 90, 120)
    coords = [[0.658, 0.76, 0.929], [0.331, 0.937, 0.673], [0.496, 0.767, 0.231], [0.577, 0.231, 0.722]]
    assert prototype_label(Structure(lattice, ["Li", "O", "O", "O"], coords)) == "AB3_aP4_1_a_3a"


def test_shared_sites_are_refused():
    alloy = Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])
    with pytest.raises(TextError, match="disordered"):
        prototype_label(alloy)
