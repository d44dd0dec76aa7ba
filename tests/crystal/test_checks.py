from __future__ import annotations

import time

import numpy as np
import pytest
from pymatgen.core import DummySpecies, Lattice, Structure

from matsearch.crystal import checks
from matsearch.crystal.charges import check_charges
from matsearch.crystal.checks import check_space, check_structure
from matsearch.crystal.files import read_structures
from matsearch.records import Stage


def rocksalt() -> Structure:
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Structure(Lattice.cubic(5.64), ["Na"] * 4 + ["Cl"] * 4, np.vstack([corners, corners + 0.5]))


def reason(structure: Structure) -> str | None:
    rejection = check_structure(structure)
    assert rejection is None or (rejection.stage is Stage.CHECK and rejection.detail)
    return rejection and rejection.reason


def test_rocksalt_is_valid():
    assert check_structure(rocksalt()) is None


def test_left_handed_cell_is_valid():
    structure = rocksalt()
    matrix = structure.lattice.matrix[[1, 0, 2]]
    flipped = Structure(Lattice(matrix), structure.species, structure.frac_coords[:, [1, 0, 2]])
    assert np.linalg.det(flipped.lattice.matrix) < 0
    assert check_structure(flipped) is None


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (np.diag([4.0, 4.0, 0.0]), "zero_volume"),
        ([[4, 0, 0], [4, 0, 0], [0, 0, 4]], "zero_volume"),
        (np.diag([4.0, 4.0, 0.9]), "cell_edge"),
        (np.diag([4.0, 4.0, 101.0]), "cell_edge"),
        (np.diag([1e9, 1e9, 1e9]), "cell_edge"),
        (np.diag([4.0, 4.0, np.nan]), "not_finite"),
        (np.diag([99.0, 99.0, 99.0]), "density"),
        (np.diag([1.6, 1.6, 1.6]), "density"),
        (np.diag([2.4, 4.0, 4.0]), "overlapping_atoms"),
    ],
)
def test_cells_that_cannot_be(matrix, expected):
    # Cs: r = 2.60 Å, so no two may be nearer than 2.95 Å, an atom and its own image included.
    assert reason(Structure(Lattice(matrix), ["Cs"], [[0, 0, 0]])) == expected


def test_the_distance_limit_is_that_of_the_rule():
    # Na 1.80 Å and Cl 1.00 Å: 0.5 (0.7 + 2.8) = 1.75 Å.
    def pair(distance: float) -> Structure:
        return Structure(Lattice.cubic(8), ["Na", "Cl"], [[0.99, 0, 0], [0.99 + distance / 8, 0, 0]])

    assert reason(pair(1.751)) is None
    rejection = check_structure(pair(1.749))
    assert rejection is not None
    assert rejection.reason == "overlapping_atoms"
    assert "Na (site 0) and Cl (site 1) are 1.749 Å apart" in rejection.detail


def test_atoms_on_the_same_place_overlap():
    assert reason(Structure(Lattice.cubic(5), ["Na", "Na"], [[0, 0, 0], [3.0, -1.0, 0]])) == "overlapping_atoms"


def test_a_needle_cell_of_short_period_overlaps_with_itself_at_once():
    # Edges of 100 Å, nearly parallel: the difference of two vectors is a period of 0.5 Å.
    needle = Lattice([[100, 0, 0], [99.9, 0.5, 0], [0, 0, 30]])
    start = time.perf_counter()
    assert reason(Structure(needle, ["Fe"], [[0, 0, 0]])) == "overlapping_atoms"
    assert time.perf_counter() - start < 1


def test_coordinates_must_be_finite():
    structure = Structure(Lattice.cubic(5), ["Na"], [[0, 0, np.nan]])
    assert reason(structure) == "not_finite"


def test_disorder_is_not_valid():
    assert reason(Structure(Lattice.cubic(3), [{"Fe": 0.5, "Ni": 0.5}], [[0, 0, 0]])) == "disordered"


@pytest.mark.parametrize("symbol", ["He", "Xe", "At", "Fr", "Lr", "D"])
def test_elements_without_an_atomic_radius_are_checked_by_the_fallback(symbol):
    assert reason(Structure(Lattice.cubic(5), [symbol], [[0, 0, 0]])) is None
    assert reason(Structure(Lattice.cubic(5), [symbol] * 2, [[0, 0, 0], [0.1, 0, 0]])) == "overlapping_atoms"


def test_a_site_without_an_element_is_a_reason():
    assert reason(Structure(Lattice.cubic(4), [DummySpecies("X")], [[0, 0, 0]])) == "unknown_element"
    assert reason(Structure(Lattice.cubic(4), [], [])) == "no_atoms"


@pytest.mark.parametrize("hydrogen", ["H", "D"])
def test_hydrogen_is_checked_by_its_own_radius(hydrogen):
    # H 0.25 Å: no two nearer than 0.6 Å (H2 has 0.74); O 0.60 Å: O-H no nearer than 0.775 Å (water has 0.96).
    def pair(first: str, second: str, distance: float) -> str | None:
        return reason(Structure(Lattice.cubic(5), [first, second], [[0, 0, 0], [distance / 5, 0, 0]]))

    assert pair(hydrogen, hydrogen, 0.74) is None
    assert pair(hydrogen, hydrogen, 0.59) == "overlapping_atoms"
    assert pair("O", hydrogen, 0.96) is None
    assert pair("O", hydrogen, 0.77) == "overlapping_atoms"


CIF = """data_ice
_cell_length_a 4.5
_cell_length_b 4.5
_cell_length_c 4.5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
O1 O 0.0 0.0 0.0 1
H1 {symbol} 0.213 0.0 0.0 {occupancy}
H2 {symbol} 0.0 0.213 0.0 1
"""


@pytest.mark.parametrize("symbol", ["H", "D"])
def test_a_cif_with_hydrogen_or_deuterium_is_valid(symbol, tmp_path):
    path = tmp_path / "ice.cif"
    path.write_text(CIF.format(symbol=symbol, occupancy="1"))
    (structure,) = read_structures(path)
    assert isinstance(structure, Structure)
    assert len(structure) == 3
    assert check_structure(structure) is None
    assert check_charges(structure) is None


def test_a_disordered_cif_is_a_rejection(tmp_path):
    path = tmp_path / "ice.cif"
    path.write_text(CIF.format(symbol="H", occupancy="0.5"))
    (found,) = read_structures(path)
    rejection = check_structure(found) if isinstance(found, Structure) else found
    assert rejection is not None
    assert rejection.reason == "disordered"


@pytest.mark.parametrize("symbol", ["Po", "Si", "W", "Cs"])
def test_a_crystal_of_one_atom_is_valid(symbol):
    # Its images are its only neighbours.
    assert reason(Structure(Lattice.cubic(3.3), [symbol], [[0.3, 0.7, -5.2]])) is None


def test_a_void_is_refused_by_density_alone():
    # An atom far from all others is within the rule as long as the cell's density is: no largest distance is set.
    def molecule(edge: float) -> str | None:
        return reason(Structure(Lattice.cubic(edge), ["Na", "Cl"], [[0, 0, 0], [2.4 / edge, 0, 0]]))

    assert molecule(6) is None
    assert molecule(20) is None  # 0.0121 g/cm^3
    assert molecule(22) == "density"  # 0.0091 g/cm^3
    # Light and heavy atoms as far apart: it is the mass that counts here.
    assert reason(Structure(Lattice.cubic(20), ["U"], [[0, 0, 0]])) is None
    assert reason(Structure(Lattice.cubic(20), ["H"], [[0, 0, 0]])) == "density"


def test_the_least_mass_density_binds_before_the_least_number_of_atoms():
    # 1e-5 U/Å^3 are 0.004 g/cm^3: the lower limit of the atomic density is never the first to be met.
    rejection = check_structure(Structure(Lattice.cubic(35), ["U"], [[0, 0, 0]]))
    assert rejection is not None
    assert rejection.reason == "density"
    assert "g/cm^3" in rejection.detail


@pytest.mark.parametrize(("edge", "expected"), [(1.01, "density"), (0.99, "cell_edge"), (100.5, "cell_edge")])
def test_cells_at_the_limits_of_the_edges(edge, expected):
    assert reason(Structure(Lattice.orthorhombic(edge, 3, 3), ["W"], [[0, 0, 0]])) == expected


@pytest.mark.parametrize("angle", [1.0, 5.0, 175.0, 179.0])
def test_flat_angles_are_judged_by_the_distances_they_make(angle):
    # 100 Å long vectors at 5 degrees differ by 8.7 Å: room for an atom. Short ones overlap.
    lattice = Lattice.from_parameters(90, 90, 5, 90, 90, angle)
    room = 90 * 2 * np.sin(np.radians(min(angle, 180 - angle)) / 2)
    expected = None if room > 0.35 + 2.6 else "overlapping_atoms"
    assert reason(Structure(lattice, ["Cs"], [[0, 0, 0]])) == expected


def test_120_atoms_take_milliseconds():
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:120] / 5
    rng = np.random.default_rng(2)
    structure = Structure(Lattice.cubic(15), ["Na", "Cl"] * 60, grid + rng.normal(0, 0.004, (120, 3)))
    assert reason(structure) is None
    start = time.perf_counter()
    for _ in range(5):
        check_structure(structure)
    # Measured: 3 ms each.
    assert time.perf_counter() - start < 1


def test_charged_species_are_checked_as_their_elements():
    structure = rocksalt()
    structure.add_oxidation_state_by_element({"Na": 1, "Cl": -1})
    assert check_structure(structure) is None
    assert check_space(structure, frozenset({"Na", "Cl"}), 8, "NaCl") is None


def test_rare_elements_outside_the_space_make_no_warnings():
    helium = Structure(Lattice.cubic(4), ["He"], [[0, 0, 0]])
    for rejection in (check_space(helium, frozenset({"O"}), None, None), check_space(helium, None, None, "O2")):
        assert rejection is not None
        assert "He" in rejection.detail


@pytest.mark.parametrize(
    ("elements", "max_atoms", "composition", "expected"),
    [
        (None, None, None, None),
        ({"Na", "Cl", "K"}, 8, "Na2Cl2", None),
        ({"Na"}, None, None, "outside_elements"),
        (None, 7, None, "too_many_atoms"),
        (None, None, "Na2Cl", "wrong_composition"),
        (None, None, "KCl", "wrong_composition"),
    ],
)
def test_the_space_of_a_campaign(elements, max_atoms, composition, expected):
    rejection = check_space(rocksalt(), elements and frozenset(elements), max_atoms, composition)
    assert (rejection and rejection.reason) == expected
    assert rejection is None or (rejection.stage is Stage.CHECK and rejection.detail)


def test_a_failed_search_for_symmetry_is_a_reason(monkeypatch):
    # Atoms that pass the rule of distances never fail the search; atoms nearer than its tolerance do.
    monkeypatch.setattr(checks, "_check_distances", lambda *_: None)
    assert reason(Structure(Lattice.cubic(4), ["Cs", "Cs"], [[0, 0, 0], [0, 0, 1e-4]])) == "no_space_group"


def nearest_over_limit(structure: Structure) -> float:
    """Smallest d_ij / limit by brute force over the images of a box that is surely large enough."""
    radii = np.array([float(site.specie.atomic_radius) for site in structure])
    limits = 0.5 * (0.7 + radii[:, None] + radii[None, :])
    heights = np.abs(np.linalg.det(structure.lattice.matrix)) / np.array(
        [np.linalg.norm(np.cross(structure.lattice.matrix[i - 2], structure.lattice.matrix[i - 1])) for i in range(3)]
    )
    reach = np.ceil(limits.max() / heights).astype(int) + 2
    grids = np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij")
    images = np.stack(grids, axis=-1).reshape(-1, 3)
    coords = structure.frac_coords - np.floor(structure.frac_coords)
    offsets = coords[:, None, None] - coords[None, :, None] + images
    distances = np.linalg.norm(offsets @ structure.lattice.matrix, axis=-1)
    distances[np.arange(len(coords)), np.arange(len(coords)), (images == 0).all(axis=1).argmax()] = np.inf
    return float((distances.min(axis=-1) / limits).min())


def test_distances_agree_with_brute_force_in_skewed_cells():
    rng = np.random.default_rng(11)
    verdicts = []
    while len(verdicts) < 60:
        matrix = rng.uniform(-6, 6, (3, 3))
        n = int(rng.integers(1, 5))
        if abs(np.linalg.det(matrix)) < 30 * n or np.linalg.norm(matrix, axis=1).min() < 1:
            continue
        species = list(rng.choice(["H", "O", "Si", "Na", "Cs"], n))
        structure = Structure(Lattice(matrix), species, rng.uniform(-2, 2, (n, 3)))
        verdicts.append(reason(structure) == "overlapping_atoms")
        assert verdicts[-1] == (nearest_over_limit(structure) < 1)
    assert 10 < sum(verdicts) < 50
