"""PQEq beyond near neighbours: little in crystals, PQEq itself between fragments far apart."""

import math

import numpy as np
import pytest
import torch
from pymatgen.core import Lattice, Structure

from matsearch.errors import PotentialError
from matsearch.potential import Potential, load_potential
from matsearch.potential.batch import CrystalBatch
from matsearch.potential.longrange.conditions import Conditions
from matsearch.potential.longrange.equilibration import energy
from matsearch.potential.longrange.ewald import COULOMB
from matsearch.potential.longrange.far import SCREENING, FarPQEq
from matsearch.potential.longrange.pqeq import PQEq, PQEqParameters
from matsearch.potential.sum import PotentialSum
from matsearch.testing.potential import PotentialContract, example_crystals

SALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


@pytest.mark.filterwarnings("ignore:No Pauling electronegativity")  # pymatgen, of elements beyond the 103
class TestFar(PotentialContract):
    @pytest.fixture
    def potential(self) -> Potential:
        return load_potential("pqeq-far", "cpu")


@pytest.fixture(scope="module")
def far() -> FarPQEq:
    return load_potential("pqeq-far", "cpu")


@pytest.fixture(scope="module")
def pqeq(far: FarPQEq) -> PQEq:
    return far.whole


def dimer(distance: float, symbols: tuple[str, str] = ("Na", "Cl"), box: float = 40.0) -> Structure:
    places = [[box / 2, box / 2, box / 2], [box / 2 + distance, box / 2, box / 2]]
    return Structure(Lattice.cubic(box), list(symbols), places, coords_are_cartesian=True)


@pytest.mark.parametrize("distance", [1.5, 3.0, 8.0])
def test_screened_interactions_are_those_of_gaussians_less_wider_ones(distance: float) -> None:
    """At given charges: erf(r/w)/r with the Gaussians' w², less that with w² + L²; charges feel themselves in these."""
    parameters = PQEqParameters.published("pqeq")
    batch = CrystalBatch.from_structures([dimer(distance, box=30.0)])
    charges, shells = torch.tensor([[0.5, -0.5]], dtype=torch.float64), torch.zeros((1, 2, 3), dtype=torch.float64)

    def fixed(screening: float) -> float:
        ((_, terms, _),) = PQEq("one", parameters, screening=screening).terms(batch)
        return float(energy(terms, charges, shells))

    a, b = parameters.exponents[[11, 17]].tolist()

    def wide(spread: float, r: float) -> float:
        width = math.sqrt(spread + SCREENING**2)
        return COULOMB * (math.erf(r / width) / r if r else 2 / math.sqrt(math.pi) / width)

    expected = 0.25 * (0.5 * wide(2 / a, 0.0) + 0.5 * wide(2 / b, 0.0) - wide(1 / a + 1 / b, distance))
    # Images of the dimer see the same of it either way, but for the dipole of the cell.
    images = 2 * math.pi / 3 * COULOMB * (0.5 * distance) ** 2 / 30.0**3
    assert fixed(math.inf) - fixed(SCREENING) == pytest.approx(expected - images, abs=2e-3)


def test_next_to_nothing_is_left_in_a_dense_crystal(far: FarPQEq, pqeq: PQEq) -> None:
    (found,), (whole,) = far.predict([SALT]), pqeq.predict([SALT])
    assert abs(whole.energy) / 8 > 1.0
    assert abs(found.energy) / 8 < 1e-4
    np.testing.assert_allclose(found.charges, whole.charges, atol=1e-9)


def test_fragments_far_apart_pull_as_in_pqeq_and_near_ones_less(far: FarPQEq, pqeq: PQEq) -> None:
    distances = [2.0, 4.0, 6.0, 8.0, 12.0, 16.0]
    structures = [dimer(one) for one in distances]
    pulls, whole = ([one.forces[0, 0] for one in potential.predict(structures)] for potential in (far, pqeq))
    ratios = [one / other for one, other in zip(pulls, whole, strict=True)]
    assert all(one > 0 for one in pulls)
    assert ratios == sorted(ratios)
    assert ratios[2] > 0.75
    assert ratios[-2:] == pytest.approx([1.0, 1.0], abs=0.03)


def test_large_and_small_crystals_are_one(far: FarPQEq) -> None:
    """Beyond 160 atoms other code sums."""
    tetragonal = Structure(
        Lattice.tetragonal(4.0, 9.0), ["Cs", "Br", "Na"], [[0, 0, 0], [0.5, 0.5, 0.3], [0, 0.5, 0.6]]
    )
    (one,), (many,) = far.predict([tetragonal]), far.predict([tetragonal * (4, 4, 4)])
    assert many.energy == pytest.approx(64 * one.energy, abs=1e-6)
    assert abs(one.energy) > 0.01


def test_the_answer_to_a_field_and_to_charge_is_that_of_pqeq(far: FarPQEq, pqeq: PQEq) -> None:
    crystals = example_crystals()[:1]
    field = Conditions(field=torch.tensor([0.0, 0.0, 0.05], dtype=torch.float64))
    charged = Conditions(total_charges=torch.tensor([0.3], dtype=torch.float64))
    (rest,), (whole_rest,) = far.predict(crystals), pqeq.predict(crystals)
    for conditions in (field, charged):
        (one,), (whole,) = (potential.predict_under(crystals, conditions) for potential in (far, pqeq))
        assert one.energy - rest.energy == pytest.approx(whole.energy - whole_rest.energy, abs=1e-9)
    batch = CrystalBatch.from_structures(crystals)
    torch.testing.assert_close(far.response(batch).polarizability, pqeq.response(batch).polarizability)


def test_water_polarises_as_measured_to_a_fifth(far: FarPQEq) -> None:
    """By the energy in a field, on charges that flow and shells; measured is 1.45 Å^3."""
    across, up = 0.9572 * math.sin(math.radians(52.26)), 0.9572 * math.cos(math.radians(52.26))
    places = np.array([[0, 0, 0], [across, 0, up], [-across, 0, up]]) + 8.0
    water = Structure(Lattice.cubic(16.0), ["O", "H", "H"], places, coords_are_cartesian=True)
    (rest,) = far.predict([water])
    found = []
    for axis in range(3):
        field = torch.zeros(3, dtype=torch.float64)
        field[axis] = 0.02
        (one,), (other,) = (
            far.predict_under([water], Conditions(field=sign * field, slab_axis=axis)) for sign in (1, -1)
        )
        found.append(COULOMB * (2 * rest.energy - one.energy - other.energy) / 0.02**2)
    assert np.mean(found) == pytest.approx(1.45, rel=0.2)
    assert rest.charges[0] < -0.3


def test_it_adds_to_a_network_that_knows_near_neighbours_and_to_no_other_charges() -> None:
    both = load_potential("chgnet-0.3.0+pqeq-far", "cpu")
    assert both.name == "chgnet-0.3.0+pqeq-far"
    assert both.predict([SALT])[0].charges is not None
    with pytest.raises(PotentialError, match="pqeq and pqeq-far hold the energy of charges each"):
        load_potential("pqeq+pqeq-far", "cpu")


def test_the_sum_with_a_network_has_a_copy_in_double_precision_and_keeps_the_floor_of_its_energies() -> None:
    network, both = (load_potential(name, "cpu") for name in ("chgnet-0.3.0", "chgnet-0.3.0+pqeq-far"))
    assert isinstance(both, PotentialSum)
    assert both.double().predict([SALT])[0].energy == pytest.approx(both.predict([SALT])[0].energy, abs=1e-4)
    assert both.energy_references == network.energy_references
